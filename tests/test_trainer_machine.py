"""What the bits of a run depend on besides its recipe is kept in its checkpoints, set again, or told."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from foundry_testing.trainer_runs import TINY, make_store, run, run_phases, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.ranks import machine
from robot_foundry.trainer.ranks.ranks import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch with two threads, of which no variable says anything."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_threads_of_a_checkpoint_are_set_again(store: Store, tmp_path: Path, two_threads: None) -> None:
    first = run(store, tmp_path, "run.steps=2")
    (rank,) = checkpoint.read_json(first.checkpoint, "state.json")["ranks"]
    assert (rank["threads"], rank["device"], rank["torch"]) == (2, "cpu", torch.__version__)
    assert rank["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FoundryWarning)
        again = run(store, tmp_path, "run.steps=4")
    assert torch.get_num_threads() == 1  # what the caller had
    (rank,) = checkpoint.read_json(again.checkpoint, "state.json")["ranks"]
    assert rank["threads"] == 2


def test_threads_that_the_user_chose_stay_and_it_is_told(
    store: Store, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, tmp_path, "run.steps=2")
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.warns(FoundryWarning, match="may end in other bits than .*: threads 2 there and 1 here"):
        outcome = run(store, tmp_path, "run.steps=4", "run.accumulate=2")
    (event,) = checkpoint.read_json(outcome.checkpoint, "lineage.json")["events"]
    assert event["step"] == 2
    assert "threads 2 there and 1 here" in event["event"] and "run.accumulate 1 there and 2" in event["event"]


def test_the_threads_that_a_launcher_shares_out_are_no_choice_of_the_user(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv(machine.SHARED_CORES, "1")
    with machine.same_threads([{"threads": 3}], ALONE):
        assert torch.get_num_threads() == 3
    monkeypatch.delenv(machine.SHARED_CORES)
    with machine.same_threads([{"threads": 3}], ALONE):
        assert torch.get_num_threads() == 2


def test_every_change_is_in_one_sentence() -> None:
    here = machine.facts(ALONE, tiny(Store("nowhere"), "run").run)
    assert machine.changes([here], [here]) is None and machine.changes([], [here]) is None
    there = {name: f"other {name}" for name in here}
    told = machine.changes([there, there], [here])
    assert told is not None and told.startswith("this run computes otherwise")
    assert "ranks 2 there and 1 here" in told
    assert f"version of PyTorch other torch there and {torch.__version__} here" in told
    assert all(f"other {name} there" in told for name in here)


def test_another_number_of_ranks_is_told(store: Store, tmp_path: Path) -> None:
    run(store, tmp_path, "run.steps=2")
    where = ("data.mix=lift", f"data.store={store.url}", f"run.dir={tmp_path}", "run.steps=4")
    done = run_phases([{"size": 2, "arguments": ["vla", *TINY, *where]}])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[0, 0]], done.stderr
    assert done.stderr.count("ranks 1 there and 2 here") == 1
    ranks = checkpoint.read_json(checkpoint.find(tmp_path), "state.json")["ranks"]
    assert [rank["threads"] for rank in ranks] == [1, 1]
