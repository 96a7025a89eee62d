"""A run with several streams that was killed, or shared by ranks, ends as the one that was not."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foundry_testing.cotrained_runs import PAIRS, TEXT, TOKENIZER, make_store, run
from foundry_testing.trainer_runs import TINY, difference_of_moments, differing, records, run_phases

from robot_foundry.catalog.store import Store
from robot_foundry.trainer.checkpoints import checkpoint

KILLED = -signal.SIGKILL
INSULATED = ("model.insulate=true", "model.learned_obs=true")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def ranks(store: Store, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All runs that need processes of their own, in one process tree."""
    root = tmp_path_factory.mktemp("runs")

    def phase(size: int, name: str, kill: str | None = None, *more: str) -> dict[str, Any]:
        where = ("data.mix=lift", f"data.store={store.url}", f"run.dir={root / name}")
        return {
            "size": size,
            "arguments": ["vla", *TINY, TOKENIZER, PAIRS, TEXT, *where, *more],
            "kill": kill,
        }

    phases = [
        phase(2, "two", None, *INSULATED),
        phase(2, "two-killed", "train-step:3", *INSULATED),
        phase(2, "two-killed", None, *INSULATED),
        phase(2, "two-short", None, "run.steps=2", "run.accumulate=2"),
    ]
    done = run_phases(phases, timeout=None)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(root=root, codes=json.loads(done.stdout.splitlines()[-1]), text=done.stderr)


def test_two_killed_ranks_end_bit_for_bit_like_two_never_killed(ranks: SimpleNamespace) -> None:
    assert ranks.codes[:3] == [[0, 0], [KILLED, KILLED], [0, 0]], ranks.text
    whole, resumed = (checkpoint.latest(ranks.root / name) for name in ("two", "two-killed"))
    assert differing(whole, resumed) == []
    assert records(ranks.root / "two") == records(ranks.root / "two-killed")


def test_ranks_and_microbatches_change_rounding_alone(
    store: Store, ranks: SimpleNamespace, tmp_path: Path
) -> None:
    """Also where a microbatch has other shares of actions, answers and text than the whole step."""
    assert ranks.codes[3] == [0, 0], ranks.text
    whole = run(store, tmp_path / "1", "run.steps=2")
    parts = run(store, tmp_path / "4", "run.steps=2", "run.accumulate=4")
    names = ("loss", "loss/action", "loss/answer", "loss/text")
    ours = [[r[name] for name in names] for r in records(whole.run_dir) if "loss" in r]
    for run_dir in (parts.run_dir, ranks.root / "two-short"):
        theirs = [[r[name] for name in names] for r in records(run_dir) if "loss" in r]
        for here, there in zip(ours, theirs, strict=True):
            assert here == pytest.approx(there, rel=1e-5)
        other = checkpoint.latest(run_dir)
        assert other is not None
        assert difference_of_moments(whole.checkpoint, other) < 5e-6
