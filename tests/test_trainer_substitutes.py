"""Damaged samples of a run are told once each, counted over ranks and restarts, and limited."""

from __future__ import annotations

import json
import os
import re
import tarfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from foundry_testing.trainer_runs import TINY, make_store, run, run_phases, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer import substitutes
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.meters import read_metrics

LONG = ("run.steps=12", "run.eval_samples=32")  # in batches of 8


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A store in which frame 3 of each episode has one changed byte, and the names of those members."""
    store = make_store(tmp_path_factory.mktemp("store"))
    names = {}
    for tar in sorted(Path(store.storage.local_path("shards/lift")).glob("*.tar")):
        with tarfile.open(tar) as opened:
            members = [m for m in opened if "-000003." in m.name and m.name.endswith("jpg")]
        with tar.open("r+b") as file:
            for member in members:
                file.seek(member.offset_data + member.size // 2)
                byte = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 0x55]))
                names[member.name] = f"shards/lift/{tar.name}"
    return SimpleNamespace(store=store, names=names)


@pytest.fixture(scope="module")
def whole(damaged: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run that nothing stopped, and what it told."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = run(damaged.store, tmp_path_factory.mktemp("whole"), *LONG)
    told = [str(w.message) for w in caught if issubclass(w.category, FoundryWarning)]
    return SimpleNamespace(outcome=outcome, told=told)


def of_loaders(store: Store) -> dict[str, list[Any]]:
    """What loaders of their own replace in the batches of such a run, by split."""
    found = {}
    for split, batches in (("train", 12), ("val", 4)):
        window = tiny(store, "none").data.window
        with load("lift", window, seed=0, global_batch=8, store=store, split=split) as loader:
            for b in range(batches):
                loader.batch(b)
            found[split] = list(loader.substitutions)
    return found


def test_each_damaged_member_is_told_once_with_what_took_its_place(
    damaged: SimpleNamespace, whole: SimpleNamespace
) -> None:
    found = of_loaders(damaged.store)
    everything = [*found["train"], *found["val"]]
    assert len(found["train"]) > len({item.member for item in found["train"]}) > 1  # some come again
    assert len(whole.told) == len({item.member for item in everything})
    for member in {item.member for item in everything}:
        (line,) = [line for line in whole.told if member in line]
        first = next(item for item in everything if item.member == member)
        assert damaged.names[member] in line and "'lift'" in line
        assert f"sample {first.substitute} of" in line and f"the place of sample {first.sample}," in line


def test_they_are_counted_in_metrics_state_and_lineage(
    damaged: SimpleNamespace, whole: SimpleNamespace
) -> None:
    found = {split: len(items) for split, items in of_loaders(damaged.store).items()}
    assert found["train"] > 0 and found["val"] > 0
    expected = {"train": found["train"], "held_out": found["val"]}
    assert whole.outcome.substituted == expected
    assert checkpoint.read_json(whole.outcome.checkpoint, "state.json")["substituted"] == expected
    records = read_metrics(whole.outcome.run_dir)
    counts = [record["substituted"] for record in records if "substituted" in record]
    assert counts == sorted(counts) and counts[-1] == found["train"]
    assert [r["held_out_substituted"] for r in records if "held_out" in r] == [found["val"]]
    listed = checkpoint.read_json(whole.outcome.checkpoint, "lineage.json")["damaged"]
    assert {entry["member"] for entry in listed} <= set(damaged.names)
    assert all(entry["shard"] == damaged.names[entry["member"]] for entry in listed)
    assert len(listed) == len(whole.told)


def test_a_stopped_run_counts_and_tells_on(
    damaged: SimpleNamespace, whole: SimpleNamespace, tmp_path: Path
) -> None:
    with warnings.catch_warnings(action="ignore", category=FoundryWarning):
        first = run(damaged.store, tmp_path, "run.steps=5", "run.eval_samples=32")
    early = {entry["member"] for entry in checkpoint.read_json(first.checkpoint, "lineage.json")["damaged"]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = run(damaged.store, tmp_path, *LONG)
    told = [str(w.message) for w in caught if issubclass(w.category, FoundryWarning)]
    assert outcome.resumed_from == 5
    assert outcome.substituted == whole.outcome.substituted
    assert early and not [line for line in told if any(member in line for member in early)]


def test_ranks_count_together_and_the_first_tells(
    damaged: SimpleNamespace, whole: SimpleNamespace, tmp_path: Path
) -> None:
    where = ("data.mix=lift", f"data.store={damaged.store.url}", f"run.dir={tmp_path}", *LONG)
    phase = {"size": 2, "arguments": ["vla", *TINY, *where], "kill": "train-step:7"}
    done = run_phases([phase, {**phase, "kill": None}])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[1] == [0, 0], done.stderr
    state = checkpoint.read_json(checkpoint.find(tmp_path), "state.json")
    assert state["substituted"] == whole.outcome.substituted
    first, second = done.stderr.split("== a phase\n")[1:]
    lines = [line for line in second.splitlines() if line.startswith("Warning: sample ")]
    assert all(line.count(".tar") for line in lines)
    assert sum(first.count(f"'{name}'") for name in damaged.names) > 0
    kept = {
        entry["member"]
        for entry in checkpoint.read_json(checkpoint.find(tmp_path), "lineage.json")["damaged"]
    }
    assert kept == {name for name in damaged.names if name in first + second}


def test_above_a_share_of_the_samples_the_run_ends(
    damaged: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(substitutes, "MAX_SUBSTITUTIONS", 1)
    with (
        warnings.catch_warnings(action="ignore", category=FoundryWarning),
        pytest.raises(
            FoundryError, match=r"samples were corrupt, above the limit of \d+ among \d+; the last, sample"
        ) as ended,
    ):
        run(damaged.store, tmp_path, *LONG, "run.max_substituted=0.01")
    assert re.match(
        r"foundry-data validate [a-z]+@[0-9a-f]{12} --deep names all of them", str(ended.value.hint)
    )
    with warnings.catch_warnings(action="ignore", category=FoundryWarning):
        assert run(damaged.store, tmp_path, *LONG, "run.max_substituted=0.9").step == 12
