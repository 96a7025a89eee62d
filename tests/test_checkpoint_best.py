"""The checkpoint of the lowest held-out loss stays, and a pointer names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from foundry_testing.trainer_runs import make_store, records, run, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.retention import RetentionSettings, retain

ONE = RetentionSettings(keep_last=1, keep_best=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


def written(run_dir: Path, losses: dict[int, float | None]) -> None:
    """A run with an empty checkpoint at each step, and its held-out losses."""
    for step in losses:
        (run_dir / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    lines = [json.dumps({"step": step, "held_out": loss}) for step, loss in losses.items()]
    (run_dir / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({2: 3.0, 4: 1.0, 6: 2.0}, 4),
        ({2: 1.0, 4: 1.0, 6: 2.0}, 2),  # the first of equal ones
        ({2: None, 4: 2.0, 6: 3.0}, 4),  # a loss that was not finite is null
    ],
)
def test_the_lowest_stays_beside_the_last(tmp_path: Path, losses: dict[int, float | None], best: int) -> None:
    written(tmp_path, losses)
    retain(tmp_path, 6, ONE)
    assert checkpoint.complete(tmp_path).keys() == {best, 6}
    named = json.loads((tmp_path / "best.json").read_text("utf-8"))
    assert (named["step"], named["held_out"]) == (best, losses[best])
    assert Path(named["checkpoint"]) == checkpoint.complete(tmp_path)[best]


def test_what_was_passed_over_is_not_the_best(tmp_path: Path) -> None:
    """The checkpoint of step 6 was not whole, so the run went on from step 4."""
    written(tmp_path, {2: 3.0, 4: 2.0, 6: 1.0})
    retain(tmp_path, 4, ONE)
    assert json.loads((tmp_path / "best.json").read_text("utf-8"))["step"] == 4


def test_nothing_is_named_where_nothing_is_measured(tmp_path: Path) -> None:
    written(tmp_path, {2: None, 4: None})
    retain(tmp_path, 4, ONE)
    assert checkpoint.complete(tmp_path).keys() == {4}
    assert not (tmp_path / "best.json").exists()


def test_a_run_keeps_its_best_and_the_pointer_is_a_run(store: Store, tmp_path: Path) -> None:
    settings = ("run.eval_every=2", "run.keep_last=1", "run.keep_best=true", "optim.lr=3.0")
    run(store, tmp_path / "run", *settings)
    losses = {r["step"]: r["held_out"] for r in records(tmp_path / "run") if "held_out" in r}
    assert losses.keys() == {2, 4, 6}
    best = min(losses, key=losses.__getitem__)
    assert checkpoint.complete(tmp_path / "run").keys() == {best, 6}
    assert checkpoint.find(tmp_path / "run" / "best.json").name == f"step-{best:08d}"

    # Killed between the last checkpoint and what is done then: the same command does it.
    shutil.copytree(
        tmp_path / "run" / "checkpoints" / "step-00000006", tmp_path / "run" / "checkpoints" / "step-00000003"
    )
    (tmp_path / "run" / "best.json").unlink()
    run(store, tmp_path / "run", *settings)
    assert checkpoint.complete(tmp_path / "run").keys() == {best, 6}

    (tmp_path / "run").rename(tmp_path / "moved")
    assert checkpoint.find(tmp_path / "moved" / "best.json").parent == tmp_path / "moved" / "checkpoints"


def test_it_needs_what_measures(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run.keep_best: needs run.eval_every"):
        tiny(store, tmp_path, "run.keep_best=true", "run.eval_every=null")
