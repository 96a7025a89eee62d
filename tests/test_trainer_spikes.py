"""Steps far above the usual leave no trace in weights, averages or what is usual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from foundry_testing.trainer_runs import differing, make_store, records, tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.optim import spikes as module
from robot_foundry.trainer.optim.spikes import FIRST, MEMORY, Spikes
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

CPU = torch.device("cpu")


def fed(values_SQ: np.ndarray, sigmas: float = 6.0) -> tuple[Spikes, list[bool]]:
    """What was taken of steps S, each a loss and a norm."""
    spikes = Spikes(sigmas, CPU)
    return spikes, [bool(spikes(*torch.from_numpy(value_Q).unbind())) for value_Q in values_SQ]


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(2, MEMORY))
@settings(max_examples=20, deadline=None)
def test_mean_and_variance_are_those_of_all_steps_that_memory_reaches(seed: int, steps: int) -> None:
    values_SQ = np.random.default_rng(seed).normal([3.0, 40.0], [0.5, 7.0], (steps, 2))
    spikes, taken = fed(values_SQ, sigmas=1e9)
    assert all(taken)
    np.testing.assert_allclose(spikes.tensors["mean"], values_SQ.mean(0), rtol=1e-9)
    np.testing.assert_allclose(spikes.tensors["variance"], values_SQ.var(0), rtol=1e-9)


@pytest.mark.parametrize("quantity", [0, 1])
def test_one_step_far_above_is_left_out_whichever_it_is_of(quantity: int) -> None:
    values_SQ = np.random.default_rng(0).normal([1.0, 2.0], 0.1, (300, 2))
    usual, taken = fed(values_SQ)
    assert all(taken)
    spoiled_SQ = np.insert(values_SQ, 120, values_SQ[120], axis=0)
    spoiled_SQ[120, quantity] += 1.0
    with_spike, taken = fed(spoiled_SQ)
    assert [step for step, one in enumerate(taken) if not one] == [120]
    assert with_spike.count == 1
    for name in ("mean", "variance", "steps"):
        assert torch.equal(with_spike.tensors[name], usual.tensors[name])


def test_what_falls_is_no_spike_and_what_is_not_finite_none_either() -> None:
    falling_SQ = np.geomspace(10, 0.01, 400)[:, None] * np.ones(2)
    falling_SQ[200] = np.nan, 1.0
    falling_SQ[201] = 1.0, np.inf
    spikes, taken = fed(falling_SQ)
    assert [step for step, one in enumerate(taken) if not one] == [200, 201]
    assert spikes.count == 0


def test_nothing_is_unusual_at_first() -> None:
    values_SQ = np.ones((FIRST, 2))
    values_SQ[FIRST // 2] = 1e6
    assert all(fed(values_SQ)[1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


def test_a_run_skips_and_counts_a_spike_and_resumes_with_what_it_knew(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST", 3)
    forward, calls = VLA.forward, []

    def spoiled(model, inputs):
        losses = forward(model, inputs)
        if torch.is_grad_enabled():
            calls.append(None)
        total, count = losses["action"]
        return {"action": (total * (1e4 if len(calls) == 5 and torch.is_grad_enabled() else 1), count)}

    monkeypatch.setattr(VLA, "forward", spoiled)
    settings = ("run.steps=8", "run.save_every=4", "optim.max_sigmas=50")

    def trained(name: str) -> Path:
        return run_task(resolve_vla(tiny(store, tmp_path / name, *settings)), quiet=True).checkpoint

    whole = trained("whole")
    of = [(r["step"], r["spikes"], r["skipped"]) for r in records(tmp_path / "whole") if "spikes" in r]
    assert of == [(step, int(step >= 5), int(step >= 5)) for step in range(1, 9)]
    folder = tmp_path / "cut" / "checkpoints"
    trained("cut")
    checkpoint.remove(folder / "step-00000008")
    calls[:] = [None] * 4
    assert differing(trained("cut"), whole) == []


def test_it_decides_which_run_it_is(store: Store, tmp_path: Path) -> None:
    run_task(resolve_vla(tiny(store, tmp_path / "run", "run.steps=2")), quiet=True)
    with pytest.raises(FoundryError, match="optim.max_sigmas is None there and 6.0 here"):
        run_task(resolve_vla(tiny(store, tmp_path / "run", "run.steps=4", "optim.max_sigmas=6")), quiet=True)
    with pytest.raises(UsageError, match="optim.max_sigmas: must be positive and finite, not 0"):
        tiny(store, tmp_path / "run", "optim.max_sigmas=0")
