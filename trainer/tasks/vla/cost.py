"""What a run of a policy takes, without its data."""

from __future__ import annotations

from dataclasses import replace

import torch

from robot_foundry.trainer.memory import gpu_memory, state_bytes
from robot_foundry.trainer.models.vla import VLA, Geometry
from robot_foundry.trainer.tasks.cost import RunCost, traffic_of
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.dry_run import count_parameters
from robot_foundry.trainer.tasks.vla.origins.foreign import ForeignOrigin, is_foreign

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
    )
