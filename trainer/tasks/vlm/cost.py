"""What a run of a vision-language model takes, without its data."""

from __future__ import annotations

import torch

from robot_foundry.trainer.memory import Activations, gpu_memory, state_bytes
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.sizes.cost import loss_bytes, token_cost
from robot_foundry.trainer.models.sizes.picture_cost import picture_cost
from robot_foundry.trainer.models.vision_language import VisionLanguage
from robot_foundry.trainer.optim.optimizers import freeze
from robot_foundry.trainer.tasks.cost import BesideCost, RunCost, Tokens, traffic_of
from robot_foundry.trainer.tasks.vlm.config import TextConfig, VLMTaskConfig
from robot_foundry.trainer.tasks.vlm.dry_run import count_parameters
from robot_foundry.trainer.tasks.vlm.inputs import TEXT


def run_cost(config: VLMTaskConfig, gpu_bytes: int) -> RunCost:
    """With the model that the recipe says: weights that a run starts from may be of another.

    The most that rows can take: they are full of pictures, of which there are no more than that.
    """
    run, image, length = config.run, config.data.rows.image, config.data.rows.length
    with torch.device("meta"):
        model = VisionLanguage(config.model, image)
    freeze(model, config.optim)
    frozen = not any(parameter.requires_grad for parameter in model.backbone.vision.parameters())
    decoder = LLMConfig(config.model.backbone.decoder, config.model.tied)
    token = token_cost(decoder, length, run.precision)
    picture = picture_cost(config.model.backbone, image, run.precision, frozen)
    pictures = length // picture.tokens
    row = length * token.activation_bytes + pictures * picture.activation_bytes
    state = state_bytes(model, config.optim, run.precision)
    activations = Activations(row, loss_bytes(decoder))
    memory = tuple(gpu_memory(state, activations, config.global_batch, run.accumulate, gpu_bytes))
    return RunCost(
        name=config.name,
        assumed=f"rows of {pictures} pictures of {image[0]} × {image[1]} pixels, the most that fit",
        global_batch=config.global_batch,
        accumulate=run.accumulate,
        precision=run.precision,
        parameters=count_parameters(model),
        tokens=Tokens(length, token, config.num_steps * config.global_batch * length),
        state=state,
        memory=memory,
        traffic=traffic_of(model, config, memory),
        picture=picture,
        beside=text_beside(config.data.text, decoder, run.precision, config.num_steps),
    )


def text_beside(text: TextConfig, model: LLMConfig, precision: str, steps: int) -> dict[str, BesideCost]:
    """By the name of its stream what the text that is learnt beside, if any, takes in so many steps."""
    if text.mix is None:
        return {}
    in_run = steps * text.global_batch * text.length
    tokens = Tokens(text.length, token_cost(model, text.length, precision), in_run)
    return {TEXT: BesideCost(text.global_batch, tokens)}
