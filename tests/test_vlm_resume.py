"""A run of a vision-language model that was killed or shared by ranks ends as the one that was not."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foundry_testing.trainer_runs import difference_of_moments, differing, records, run_phases
from foundry_testing.vlm_runs import TEXT, TINY, make_store, run

from robot_foundry.catalog.store import Store
from robot_foundry.trainer.checkpoints import checkpoint

KILLED = -signal.SIGKILL
FROZEN = "optim.lr_scales={vision: 0.5, decoder.embedding: 0}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def ranks(store: Store, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """All runs that need processes of their own, in one process tree."""
    root = tmp_path_factory.mktemp("runs")

    def phase(size: int, name: str, kill: str | None = None, *more: str) -> dict[str, Any]:
        where = ("data.mix=things", f"data.store={store.url}", f"run.dir={root / name}")
        return {"size": size, "arguments": ["vlm", *TINY, TEXT, *where, *more], "kill": kill}

    phases = [
        phase(2, "two", None, FROZEN),
        phase(2, "two-killed", "train-step:3", FROZEN),
        phase(2, "two-killed", None, FROZEN),
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
    """Also where a microbatch has other shares of answers, pictures and text than the whole step."""
    assert ranks.codes[3] == [0, 0], ranks.text
    whole = run(store, tmp_path / "1", TEXT, "run.steps=2")
    parts = run(store, tmp_path / "4", TEXT, "run.steps=2", "run.accumulate=4")
    for run_dir in (parts.run_dir, ranks.root / "two-short"):
        other = checkpoint.latest(run_dir)
        assert difference_of_moments(whole.checkpoint, other) < 2e-6
        ours, theirs = ([r["loss"] for r in records(d) if "loss" in r] for d in (whole.run_dir, run_dir))
        assert ours == pytest.approx(theirs, rel=1e-5)
