"""What a run of a vision-language model takes, without its data."""

from __future__ import annotations

import torch

from robot_foundry.trainer.memory import gpu_memory, state_bytes
from robot_foundry.trainer.models.vision_language import VisionLanguage
from robot_foundry.trainer.tasks.cost import RunCost
from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig
from robot_foundry.trainer.tasks.vlm.dry_run import count_parameters


def run_cost(config: VLMTaskConfig, gpu_bytes: int) -> RunCost:
    """With the model that the recipe says: weights that a run starts from may be of another."""
    run, image = config.run, config.data.rows.image
    with torch.device("meta"):
        model = VisionLanguage(config.model, image)
    state = state_bytes(model, config.optim, run.precision)
    image_tokens = config.model.backbone.tokens_of(image)
    return RunCost(
        name=config.name,
        assumed=f"pictures of {image[0]} × {image[1]} pixels, which become {image_tokens} tokens each",
        global_batch=config.global_batch,
        accumulate=run.accumulate,
        precision=run.precision,
        parameters=count_parameters(model),
        tokens=None,
        state=state,
        memory=tuple(gpu_memory(state, None, config.global_batch, run.accumulate, gpu_bytes)),
    )
