"""The randomness of training: noise and times of each sample, keyed by (seed, k) alone.

Shapes: B batch, N noise draws a sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_foundry.runtime.keyed import generators, key, uniform
from robot_foundry.trainer.models.flow import time_of
from robot_foundry.trainer.models.vla import Draws


def state_seen(k_B: NDArray[Any], seed: int, dropout: float) -> NDArray[np.bool_]:
    """Which of the samples `k_B` show their proprioception, where that share of them hides it."""
    return uniform(key("state dropout", seed), k_B) >= dropout


def build_draws(
    k_B: NDArray[Any],
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
    for row, random in enumerate(generators(("flow", seed), k_B)):
        random.random(out=time[row])
        random.standard_normal(out=noise[row], dtype=np.float32)
        random.standard_normal(out=state[row], dtype=np.float32)
    time = (np.arange(draws) + time) / draws
    return Draws(
        torch.from_numpy(noise),
        torch.from_numpy(time_of(time, density).astype(np.float32)),
        torch.from_numpy(state * np.float32(state_noise)),
    )
