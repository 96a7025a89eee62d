"""Ingests of small robomimic files, and what a store holds after them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from make_robomimic import make

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.storage.storage import open_storage

KEPT = ("shards", "datasets", "refs", "builds")
# One shard a file or less, so that a few small files make several shards.
SMALL_SHARDS = ["content.shard_bytes=20000"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of three demonstrations."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(3):
        make(folder / f"part_{i}.hdf5", seed=i, episodes=3, frames=6, size=16)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after one run without trouble."""
    store = tmp_path_factory.mktemp("undisturbed")
    report = ingest(source, store)
    assert (report.discovered, report.written, report.quarantined) == (9, 9, ())
    assert report.shards_written >= 3
    return store


def ingest(
    source: str | Path,
    store: str | Path,
    *,
    overrides: Sequence[str] = SMALL_SHARDS,
    dry_run: bool = False,
    **options: Any,
) -> Report:
    spec = load_spec("robomimic", overrides)
    return run(spec, source, store=store, name="reach", options=Options(**options), dry_run=dry_run)


def content_anywhere(store: str | Path) -> dict[str, bytes]:
    """Bytes of all that a store, local or remote, keeps, but for the files that say where the source was."""
    storage = open_storage(str(store))
    return {
        path: storage.read_bytes(path)
        for path in storage.list()
        if path.startswith(("shards/", "datasets/", "refs/")) and not path.endswith("manifest.json")
    }


def content(store: Path) -> dict[str, bytes]:
    """Bytes of all that a store keeps; not of its cache, nor of what a killed writer left behind."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for top in KEPT
        for path in sorted((store / top).rglob("*"))
        if path.is_file() and not path.name.startswith(".tmp-")
    }


def stamps(store: Path, suffix: str) -> dict[str, tuple[int, int]]:
    found = (path for path in (store / "shards").rglob(f"*{suffix}") if not path.name.startswith(".tmp-"))
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def frames_of(report: Report, store: Path) -> list[tuple[str, str, int]]:
    """(episode id, source) and number of rows of each episode, in the version's order."""
    import pyarrow as pa

    assert report.version is not None
    folder = store / "datasets" / report.dataset / report.version.version_id
    episodes = pa.ipc.open_file(folder / "episodes.arrow").read_all().to_pylist()
    return [(row["source"], row["id"], row["num_frames"]) for row in episodes]
