"""What a mixture reads of its store to be made, loaded and trained on: every manifest and listing once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.loader_fixtures import write_version
from foundry_testing.trainer_runs import tiny

from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.refs import resolve, tag
from robot_foundry.catalog.robot.kind import RobotKind
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run
from robot_foundry.loader.load import load
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage_local import LocalStorage
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.windows.window import WindowSpec

WEIGHTS = "lift=0.5,push=0.5"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder)
    write_version(store, "lift", [[30, 40], [25]], cameras={"primary": (16, 16)})
    write_version(store, "push", [[20], [50]], cameras={"primary": (16, 16)})
    for number in range(3):  # of older versions nothing is read, however many there are
        write_version(store, "push", [[20 + number], [50]], cameras={"primary": (16, 16)})
    commit_mixture(make_mixture(store, {"lift": 1, "push": 1}, val_fraction="1/3"), "blend")
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each manifest was read and each folder listed."""
    counts: Counter[str] = Counter()
    read_bytes, list_, sizes = LocalStorage.read_bytes, LocalStorage.list, LocalStorage.sizes

    def counted_read(self: LocalStorage, path: str) -> bytes:
        counts[path] += path.endswith("manifest.json")
        counts["references"] += path.startswith("refs/")
        return read_bytes(self, path)

    def counted_list(self: LocalStorage, prefix: str = "") -> list[str]:
        counts[f"list {prefix}"] += 1
        return list_(self, prefix)

    def counted_sizes(self: LocalStorage, prefix: str = "") -> dict[str, int]:
        counts[f"list {prefix}"] += 1
        return sizes(self, prefix)

    monkeypatch.setattr(LocalStorage, "read_bytes", counted_read)
    monkeypatch.setattr(LocalStorage, "list", counted_list)
    monkeypatch.setattr(LocalStorage, "sizes", counted_sizes)
    yield counts


def check_once(calls: Counter[str], *datasets: str) -> None:
    """One manifest, one listing and one reference for each of the datasets and mixtures."""
    counts = {path: count for path, count in calls.items() if count}
    assert counts.pop("references") == len(datasets)
    assert {path for path in counts if path.startswith("list ")} == {f"list refs/{name}" for name in datasets}
    assert sum(path.endswith("manifest.json") for path in counts) == len(datasets)
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("threads", [0, 3])
def test_load_reads_each_manifest_and_lists_each_dataset_once(
    folder: Path, calls: Counter[str], threads: int
) -> None:
    with load(
        WEIGHTS, WindowSpec(history=1), seed=0, global_batch=16, threads=threads, store=folder
    ) as loader:
        next(loader)
        check_once(calls, "lift", "push")
        for b in (7, 1, 60, 61):  # more than an epoch: there are under 200 samples
            loader.batch(b)
        for _ in range(12):
            next(loader)
        loader.normalizer_statistics()
    check_once(calls, "lift", "push")


def test_ranks_that_read_change_no_count(folder: Path, calls: Counter[str]) -> None:
    opened = make_mixture(Store(folder), {"lift": 1, "push": 1})
    for rank in range(4):
        with load(opened, WindowSpec(), seed=0, global_batch=16, rank=rank, world=4, threads=0) as loader:
            for b in range(3):
                loader.batch(b)
    check_once(calls, "lift", "push")


def test_a_stored_mixture_is_read_once_and_so_are_its_components(folder: Path, calls: Counter[str]) -> None:
    with load("blend", WindowSpec(), seed=0, global_batch=8, threads=0, store=folder) as loader:
        loader.batch(0)
    check_once(calls, "blend", "lift", "push")


@pytest.mark.parametrize("split", ["data.split_by=episode", "data.split_by=time"])
def test_a_job_reads_each_manifest_and_lists_each_dataset_once(
    folder: Path, tmp_path: Path, calls: Counter[str], split: str
) -> None:
    job = resolve_vla(tiny(Store(folder), tmp_path, f"data.mix={WEIGHTS}", split, "data.val_fraction=1/3"))
    check_once(calls, "lift", "push")
    for part in ("train", "val"):
        with load(
            job.opened, job.config.data.window, seed=0, global_batch=8, threads=0, split=part
        ) as loader:
            loader.batch(0)
    check_once(calls, "lift", "push")


def test_mix_reads_each_manifest_and_lists_each_dataset_once(
    folder: Path, calls: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mix", "--weights", WEIGHTS, "--store", str(folder), "--skip", "noop"]
    assert run(group, "foundry-data", arguments) == 0
    capsys.readouterr()
    check_once(calls, "lift", "push")


def test_a_tag_is_found_in_one_listing(folder: Path, calls: Counter[str]) -> None:
    store = Store(folder)
    tag(store, resolve(store, "push@v2"), "paper")
    calls.clear()
    assert str(OpenVersions(store).open("push:paper").version) == "push@v2"
    check_once(calls, "push")


def test_an_id_in_full_needs_no_other_reference_than_the_newest(folder: Path, calls: Counter[str]) -> None:
    store = Store(folder)
    newest = resolve(store, "push")
    calls.clear()
    assert resolve(store, f"push@{newest.version_id}") == newest
    assert calls == Counter({"references": 1, "list refs/push": 1, "refs/push/v4": 0})
    first = resolve(store, "push@v1")
    assert resolve(store, f"push@{first.version_id}") == first
    with pytest.raises(FoundryError, match=f"no version whose id begins with {'0' * 32}"):
        resolve(store, f"push@{'0' * 32}")


def test_a_mixture_is_of_one_kind(folder: Path) -> None:
    versions = OpenVersions(Store(folder))
    vars(versions.open("push").manifest)["holds"] = replace(RobotKind(), name="arms")
    with pytest.raises(FoundryError, match="one kind.*lift of robot, push of arms"):
        make_mixture(versions, {"lift": 1, "push": 1})


def test_selections_are_made_once(folder: Path) -> None:
    opened = OpenVersions(Store(folder)).open("lift")
    assert opened.select() is opened.select({"split": "train"}) is opened.select(SelectionSpec())
    assert opened.select({"split": "all"}).num_samples == 95
    groups = opened.geometry
    assert groups.shard_E.tolist() == [0, 0, 1] and groups.start_E.tolist() == [0, 30, 0]
    assert groups.length_E.tolist() == [30, 40, 25]
    assert np.array_equal(opened.select({"split": "all"}).holds(groups), [True] * 3)
