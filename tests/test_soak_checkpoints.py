"""Minutes of kills while checkpoints are written: each strategy ends as it would have. `make soak` runs this.

The seed is printed; FOUNDRY_SOAK_SEED repeats a slice.
"""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from foundry_testing.llm_runs import make_store
from foundry_testing.soak import say, seeded
from foundry_testing.trained_tasks import LLM
from foundry_testing.trainer_runs import differing, records, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.trainer.checkpoints import checkpoint

KILLS, STEPS = 20, 12
# By the name of a point the hits of it that fall into the first saves of a start.
POINTS = {
    "train-step": 6, "checkpoint-copied": 3, "checkpoint-tensor": 200, "checkpoint-written-not-renamed": 3,
    "checkpoint-renamed": 3, "checkpoint-removing": 3,
}  # fmt: skip
STRATEGIES = {"single": (1, ()), "ddp": (2, ()), "fsdp": (2, ("run.shard=0",))}
SETTINGS = (f"run.steps={STEPS}", "run.save_every=2", "run.keep_last=2", "run.eval_every=4")

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def rng(pytestconfig: pytest.Config) -> random.Random:
    return seeded(pytestconfig)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_survives_kills_wherever_a_checkpoint_stands(
    strategy: str, rng: random.Random, store: Store, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """A start that ends before its point is met is followed by one of a run from nothing."""
    size, settings = STRATEGIES[strategy]
    killed, trial, ends = 0, 0, []

    def phase(name: str, kill: str | None = None) -> dict[str, Any]:
        arguments = LLM.arguments(store, tmp_path / name, *SETTINGS, *settings)
        return {"size": size, "arguments": arguments, "kill": kill}

    def codes(*phases: dict[str, Any]) -> list[list[int]]:
        done = run_phases(phases, timeout=None)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    assert codes(phase("calm")) == [[0] * size]
    while killed < KILLS:
        points = [rng.choice(list(POINTS)) for _ in range(5)]
        at = [f"{point}:{rng.randint(1, POINTS[point])}" for point in points]
        name = f"trial{trial}"
        for kill, ended in zip(at, codes(*(phase(name, kill) for kill in at)), strict=True):
            hit = -signal.SIGKILL in ended
            assert hit or ended == [0] * size, kill
            killed += hit
            say(pytestconfig, f"{strategy} {name} {kill} {ended}")
        assert codes(phase(name)) == [[0] * size]
        ends.append(name)
        trial += 1
    calm = checkpoint.latest(tmp_path / "calm")
    assert calm is not None
    for name in ends:
        newest = checkpoint.latest(tmp_path / name)
        assert newest is not None and differing(newest, calm) == []
        assert records(tmp_path / name) == records(tmp_path / "calm")
        assert sorted(checkpoint.complete(tmp_path / name)) == [STEPS - 2, STEPS]
