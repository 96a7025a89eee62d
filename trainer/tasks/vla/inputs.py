"""From batches of the loader to the tensors a model takes: the one function that training and policies share.

Shapes: B batch, N noise draws a sample, V views (every history step of the first role, then of the next),
H history, W or HW pixels, S text tokens, D state dims, T chunk steps, A action dims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot_foundry.loader.robot.batch import Batch
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.runtime.keyed import generator
from robot_foundry.trainer.models.flow import time_of
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.windows.cameras import views

Array = NDArray[Any]


@dataclass(frozen=True)
class Targets:
    """Normalised action chunks and which of their entries count."""

    value_BTA: Tensor
    mask_BTA: Tensor
    weight_B: Tensor


@dataclass(frozen=True)
class Draws:
    """The randomness of one training pass."""

    noise_BNTA: Tensor
    time_BN: Tensor
    state_noise_BHD: Tensor


@dataclass(frozen=True)
class Inputs:
    """All that a vision-language-action model reads; masked entries may hold anything."""

    image_BVHWC: Tensor  # uint8
    view_mask_BV: Tensor
    token_BS: Tensor
    obs_B: Tensor  # where `<obs>` stands in token_BS
    state_BHD: Tensor  # normalised
    state_mask_BHD: Tensor
    targets: Targets | None = None
    draws: Draws | None = None

    def to(self, device: torch.device) -> Inputs:
        return _to(self, device)


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if value is None:
        return None
    return replace(value, **{item.name: _to(getattr(value, item.name), device) for item in fields(value)})


@dataclass(frozen=True)
class Scales:
    """Normalisers of state and action: one pair for all datasets, or one pair for each, by dataset index."""

    state: tuple[Normalizer, ...]
    action: tuple[Normalizer, ...]

    def normalize_state(self, state_BHD: Array, mask_BHD: Array, dataset_B: Array) -> Array:
        return _by_dataset([n.normalize for n in self.state], state_BHD, mask_BHD, dataset_B)

    def normalize_action(self, action_BTA: Array, mask_BTA: Array, dataset_B: Array) -> Array:
        return _by_dataset([n.normalize for n in self.action], action_BTA, mask_BTA, dataset_B)

    def denormalize_action(self, action_BTA: Array, mask_BTA: Array, dataset_B: Array) -> Array:
        return _by_dataset([n.denormalize for n in self.action], action_BTA, mask_BTA, dataset_B)


def _by_dataset(
    functions: Sequence[Callable[[Array, Array], Array]], value: Array, mask: Array, dataset_B: Array
) -> Array:
    if len(functions) == 1:
        return functions[0](value, mask)
    out = np.zeros_like(value)
    for dataset in np.unique(dataset_B):
        rows = dataset_B == dataset
        out[rows] = functions[dataset](value[rows], mask[rows])
    return out


def build_inputs(
    batch: Batch, *, scales: Scales, tokenizer: ByteTokenizer, roles: Sequence[str], targets: bool
) -> Inputs:
    """Tensors of a batch on the CPU; with `targets` also its normalised action chunks."""
    images, view_mask = views(batch.images, batch.image_mask, roles)
    tokens, obs = tokenizer.rows(batch.instruction)
    state_mask = np.broadcast_to(batch.state_mask_BD[:, None], batch.state_BHD.shape)
    state = scales.normalize_state(batch.state_BHD, state_mask, batch.dataset_B)
    return Inputs(
        image_BVHWC=torch.from_numpy(images),
        view_mask_BV=torch.from_numpy(view_mask),
        token_BS=torch.from_numpy(tokens),
        obs_B=torch.from_numpy(obs),
        state_BHD=torch.from_numpy(state.astype(np.float32, copy=False)),
        state_mask_BHD=torch.from_numpy(state_mask.copy()),
        targets=build_targets(batch, scales) if targets else None,
    )


def build_targets(batch: Batch, scales: Scales) -> Targets:
    mask = batch.step_mask_BT[:, :, None] & batch.action_dim_mask_BA[:, None]
    action = scales.normalize_action(batch.action_BTA, mask, batch.dataset_B)
    return Targets(
        torch.from_numpy(action.astype(np.float32, copy=False)),
        torch.from_numpy(mask),
        torch.from_numpy(batch.weight_B),
    )


def build_draws(
    k_B: Array,
    seed: int,
    *,
    draws: int,
    density: str,
    state_noise: float,
    state_shape: tuple[int, int],
    action_shape: tuple[int, int],
) -> Draws:
    """Noise and times of the samples `k_B`: a function of (seed, k) alone, whatever shares their batch.

    The times of one sample are stratified: one from each of `draws` equal slices of the density.
    """
    noise = np.empty((len(k_B), draws, *action_shape), np.float32)
    time = np.empty((len(k_B), draws))
    state = np.empty((len(k_B), *state_shape), np.float32)
    for row, k in enumerate(k_B):
        random = generator("flow", seed, int(k))
        time[row] = (np.arange(draws) + random.random(draws)) / draws
        noise[row] = random.standard_normal(noise.shape[1:], dtype=np.float32)
        state[row] = random.standard_normal(state_shape, dtype=np.float32)
    return Draws(
        torch.from_numpy(noise),
        torch.from_numpy(time_of(time, density).astype(np.float32)),
        torch.from_numpy(state * np.float32(state_noise)),
    )
