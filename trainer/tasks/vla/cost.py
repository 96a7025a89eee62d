"""What a run of a policy takes, without its data."""

from __future__ import annotations

from dataclasses import replace

import torch

from robot_foundry.trainer.memory import gpu_memory, state_bytes
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.sizes.cost import token_cost
from robot_foundry.trainer.models.sizes.picture_cost import picture_cost
from robot_foundry.trainer.models.vla import VLA, Geometry
from robot_foundry.trainer.optim.optimizers import freeze
from robot_foundry.trainer.tasks.cost import BesideCost, RunCost, Tokens, traffic_of
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.dry_run import count_parameters
from robot_foundry.trainer.tasks.vla.origins.foreign import ForeignOrigin, is_foreign
from robot_foundry.trainer.tasks.vlm.cost import text_beside
from robot_foundry.trainer.tasks.vlm.inputs import PAIRS

ARM_DIMS = 10  # position, rotation in six numbers, gripper
USUAL_HZ = 10.0  # where a window is in seconds and its data decide the rate


def run_cost(config: VLATaskConfig, gpu_bytes: int) -> RunCost:
    """For one arm: the dims are the data's, and steps that are seconds; they change the head a little."""
    run, window = config.run, config.data.window
    model_config = config.model
    if config.init.vlm is not None and is_foreign(config.init.vlm):
        backbone = ForeignOrigin.find(config.init.vlm).backbone(model_config.backbone)
        model_config = replace(model_config, backbone=backbone)
    assert window.image is not None
    steps = window.timing.steps(window.control_hz or USUAL_HZ, "any")
    sizes = Geometry(ARM_DIMS, ARM_DIMS, steps.history, steps.horizon, window.image)
    with torch.device("meta"):
        model = VLA(model_config, sizes)
    state = state_bytes(model, config.optim, run.precision)
    memory = tuple(gpu_memory(state, None, config.global_batch, run.accumulate, gpu_bytes))
    return RunCost(
        name=config.name,
        assumed=f"one arm of {ARM_DIMS} dims, {steps.history} observed and {steps.horizon} predicted steps",
        global_batch=config.global_batch,
        accumulate=run.accumulate,
        precision=run.precision,
        parameters=count_parameters(model),
        tokens=None,
        state=state,
        memory=memory,
        traffic=traffic_of(model, config, memory),
        beside=_beside(config, model),
    )


def _beside(config: VLATaskConfig, model: VLA) -> dict[str, BesideCost]:
    """What pairs and text take, which our own backbones alone learn; rows of pairs are full of pictures."""
    backbone, pairs, precision = model.config.backbone, config.data.pairs, config.run.precision
    if not isinstance(backbone, BackboneConfig):
        return {}
    decoder, costs = LLMConfig(backbone.decoder), {}
    if pairs.mix is not None:
        assert config.data.window.image is not None
        freeze(model, config.optim)
        frozen = not any(of.requires_grad for of in model.backbone.parts()["vision"].parameters())
        length = pairs.rows.length
        costs[PAIRS] = BesideCost(
            pairs.global_batch,
            Tokens(
                length,
                token_cost(decoder, length, precision),
                config.num_steps * pairs.global_batch * length,
            ),
            picture_cost(backbone, config.data.window.image, precision, frozen),
        )
    return costs | text_beside(config.data.text, decoder, precision, config.num_steps)
