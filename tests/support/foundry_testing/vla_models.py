"""Shrunk models of policies and what they read, for tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from foundry_testing import trainer_runs
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.models.vla import VLA, Draws, Geometry, Inputs, Targets, VLAConfig

GEOMETRY = Geometry(state_dims=5, action_dims=6, history=2, horizon=4, image=(16, 16))


def make(config: VLAConfig, seed: int) -> VLA:
    return initialise(allocated(lambda: VLA(config, GEOMETRY), "cpu"), seed)


def make_inputs(texts: list[str], seed: int = 0) -> Inputs:
    """Two views × two moments; row 0 lacks one view, dims and steps."""
    number, views = len(texts), 4
    tokens, obs = ByteTokenizer(16).rows(texts)
    view_mask, state_mask = (
        torch.ones(number, views, dtype=torch.bool),
        torch.ones(number, 2, 5, dtype=torch.bool),
    )
    mask = torch.ones(number, 4, 6, dtype=torch.bool)
    view_mask[0, 1], state_mask[0, :, 2], mask[0, :, 4], mask[0, 2:] = False, False, False, False
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (number, views, 16, 16, 3), dtype=np.uint8))
    draws = Draws(
        trainer_runs.noise(number, 3, 4, 6),
        torch.from_numpy(rng.random((number, 3), np.float32)),
        trainer_runs.noise(number, 2, 5),
    )
    return Inputs(
        images, view_mask, torch.from_numpy(tokens), torch.from_numpy(obs), trainer_runs.noise(number, 2, 5),
        state_mask, Targets(trainer_runs.noise(number, 4, 6, seed=9), mask, torch.ones(number)), draws,
    )  # fmt: skip


def garbled(inputs: Inputs, value: float) -> Inputs:
    """The same inputs with garbage in every masked place."""
    assert inputs.targets is not None and inputs.draws is not None
    view, state, mask = inputs.view_mask_BV, inputs.state_mask_BHD, inputs.targets.mask_BTA
    images = torch.where(view[:, :, None, None, None], inputs.image_BVHWC, 77)
    noise = torch.where(mask[:, None], inputs.draws.noise_BNTA, value)
    return replace(
        inputs,
        image_BVHWC=images,
        state_BHD=torch.where(state, inputs.state_BHD, value),
        targets=replace(inputs.targets, value_BTA=torch.where(mask, inputs.targets.value_BTA, value)),
        draws=replace(inputs.draws, noise_BNTA=noise),
    )
