"""Draws of many samples at once are those of each alone, bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.runtime.keyed import generator, generators
from robot_foundry.trainer.models.flow import time_of
from robot_foundry.trainer.tasks.vla.draws import build_draws

positions = st.lists(st.integers(0, 2**62), min_size=1, max_size=8)


@given(positions, st.lists(st.integers(0, 7), min_size=1, max_size=5), st.integers(0, 2**32))
def test_a_generator_that_is_set_anew_is_a_new_one(last: list[int], sizes: list[int], seed: int) -> None:
    """Odd numbers of float32 leave half a word behind, which the next must not take."""
    for i, random in zip(last, generators(("x", seed), last), strict=True):
        new = generator("x", seed, i)
        for size in sizes:
            assert np.array_equal(
                random.standard_normal(size, np.float32), new.standard_normal(size, np.float32)
            )
            assert np.array_equal(random.random(size), new.random(size))
            assert np.array_equal(random.random(size, np.float32), new.random(size, np.float32))
            assert random.integers(0, 2**31, dtype=np.int32) == new.integers(0, 2**31, dtype=np.int32)


@given(positions, st.integers(0, 2**32), st.integers(1, 4), st.sampled_from(["beta", "uniform"]))
@settings(deadline=None)
def test_draws_are_those_of_a_plain_loop_over_rows(k: list[int], seed: int, draws: int, density: str) -> None:
    found = build_draws(
        np.array(k), seed, draws=draws, density=density, state_noise=0.05, state_shape=(2, 3),
        action_shape=(5, 7),
    )  # fmt: skip
    for row, one in enumerate(k):
        random = generator("flow", seed, one)
        u = (np.arange(draws) + random.random(draws)) / draws
        noise = random.standard_normal((draws, 5, 7), dtype=np.float32)
        state = random.standard_normal((2, 3), dtype=np.float32) * np.float32(0.05)
        assert torch.equal(found.time_BN[row], torch.from_numpy(time_of(u, density).astype(np.float32)))
        assert torch.equal(found.noise_BNTA[row], torch.from_numpy(noise))
        assert torch.equal(found.state_noise_BHD[row], torch.from_numpy(state))
