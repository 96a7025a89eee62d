"""Checkpoints are written beside the steps that follow: exact, one at a time, and their errors are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from foundry_testing.kills import SUPPORT
from foundry_testing.llm_runs import make_store, run
from foundry_testing.trained_tasks import LLM
from foundry_testing.trainer_runs import differing, records

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import FoundryError, Preempted
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.copies import Copies
from robot_foundry.trainer.checkpoints.tensors import shapes
from robot_foundry.trainer.meters import read_metrics

ALL = ("run.keep_last=9",)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def waited(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that waits for each of its checkpoints."""
    return run(store, tmp_path_factory.mktemp("waited"), "run.async_save=false", *ALL)


class Points:
    """Stands at the kill points of loop and writer, and does there what a test asks of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: dict[tuple[str, int], Any]) -> None:
        self.hits: Counter[str] = Counter()
        self._at = at
        for module in ("loop", "checkpoints.writing"):
            monkeypatch.setattr(f"robot_foundry.trainer.{module}.kill_point", self)

    def __call__(self, name: str) -> None:
        self.hits[name] += 1
        self._at.get((name, self.hits[name]), lambda: None)()


def test_a_copy_is_exact_whatever_later_steps_do(
    store: Store, waited: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tensor of step 2 is written before step 3 has moved the weights, of step 4 before step 5 has."""
    moved, in_time = {3: threading.Event(), 5: threading.Event()}, []

    def held(until: int) -> None:
        in_time.append(moved[until].wait(300))

    run_dir = tmp_path / "run"
    tensors = len(shapes(waited.checkpoint))
    Points(
        monkeypatch,
        {
            ("train-step", 3): moved[3].set,
            ("train-step", 5): moved[5].set,
            ("checkpoint-tensor", 1): lambda: held(3),
            ("checkpoint-tensor", 1 + tensors): lambda: held(5),
        },
    )
    run(store, run_dir, *ALL)
    assert in_time == [True, True]
    there, here = (checkpoint.complete(where) for where in (waited.run_dir, run_dir))
    assert there.keys() == here.keys() == {2, 4, 6}
    assert [differing(there[step], here[step]) for step in there] == [[], [], []]
    assert records(run_dir) == records(waited.run_dir)
    assert all(record["save_wait"] >= 0 for record in read_metrics(run_dir) if "loss" in record)


def test_what_is_frozen_is_not_copied_and_the_rest_once() -> None:
    weights = {"moves": torch.ones(3), "frozen": torch.ones(3)}
    copies = Copies(weights, {"frozen"})
    first = copies.take(weights).tensors
    weights["moves"].zero_()
    assert first["moves"].tolist() == [1, 1, 1] and first["frozen"].data_ptr() == weights["frozen"].data_ptr()
    again = copies.take(weights).tensors
    assert again["moves"].data_ptr() == first["moves"].data_ptr() and again["moves"].tolist() == [0, 0, 0]


def test_an_error_beside_the_steps_ends_the_run_at_its_next_save(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is in the way of the folder."""
    points = Points(monkeypatch, {("train-step", 1): (tmp_path / "checkpoints").touch})
    with pytest.raises(FoundryError, match="checkpoints"):
        run(store, tmp_path)
    assert 2 <= points.hits["train-step"] <= 4


def test_a_stop_waits_for_what_is_under_way_and_saves_once(
    store: Store, waited: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    points = Points(monkeypatch, {("checkpoint-tensor", 5): stop})
    with pytest.raises(Preempted) as stopped:
        run(store, tmp_path, *ALL)
    reached = points.hits["train-step"]
    assert f"at step {reached} of 6" in str(stopped.value)
    written = sorted(checkpoint.complete(tmp_path))
    assert written == sorted({2, *([4] if reached >= 4 else []), reached})
    assert points.hits["checkpoint-renamed"] == len(written)  # none was written twice
    outcome = run(store, tmp_path, *ALL)
    assert (outcome.resumed_from, outcome.weights) == (reached, waited.weights)
    assert differing(outcome.checkpoint, waited.checkpoint) == []


SMALL_DISK = r"""
set -e
mkdir "$DISK"
mount -t tmpfs -o size="$KIB"k tmpfs "$DISK"
"$PYTHON" -m foundry_testing.trainer_runs "$PHASES"
cp -r "$DISK" "$OUT"
"""


def pages(folder: Path) -> int:
    """What a disk keeps of a folder."""
    return sum(-(-path.stat().st_size // 4096) for path in folder.iterdir())


def test_a_full_disk_ends_no_run_before_its_end(store: Store, waited: Any, tmp_path: Path) -> None:
    """A disk of its own has room for two checkpoints and a half: the third is given up, and each after it."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no name space in which to mount a disk")
    disk, out = tmp_path / "disk", tmp_path / "out"

    def phase(size: int, name: str, *more: str) -> dict[str, Any]:
        every = ("run.save_every=1", *more)
        return {"size": size, "arguments": LLM.arguments(store, disk / name, *every)}

    phases = [phase(1, "run"), phase(1, "run", "run.keep_last=1"), phase(2, "two", "run.steps=5")]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", SMALL_DISK], cwd=SUPPORT, capture_output=True, text=True,
        env={
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "PHASES": json.dumps(phases),
            "DISK": str(disk), "OUT": str(out), "KIB": str(4 * (pages(waited.checkpoint) * 5 // 2 + 16)),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    full, freed, two = done.stderr.split("== a phase\n")[1:]
    assert json.loads(done.stdout.splitlines()[-1]) == [[1], [0], [1, 1]], done.stderr
    for step in (3, 4, 5, 6):
        assert f"Warning: the checkpoint of step {step} was not written: {disk}/run/checkpoints" in full
    assert f"the run goes on, the last whole one is {disk}/run/checkpoints/step-00000002" in full
    assert "MB are free (No space left on device)" in full
    assert f"the last whole one is {disk}/run/checkpoints/step-00000002\n" in full.partition("Error:")[2]
    assert "Warning" not in freed  # fewer are kept, so the older one went first
    assert list(checkpoint.complete(out / "run")) == [6]
    assert differing(out / "run" / "checkpoints" / "step-00000006", waited.checkpoint) == []
    assert "the checkpoint of step 2 was not written" in two and list(checkpoint.complete(out / "two")) == [1]
    assert [r["failed_saves"] for r in read_metrics(out / "two") if "loss" in r] == [0, 0, 0, 1, 2]
    assert [path.name for path in (out / "two" / "checkpoints").iterdir()] == ["step-00000001"]
