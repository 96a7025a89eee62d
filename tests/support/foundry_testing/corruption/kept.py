"""What a version holds, unit by unit, as digests that two ingests of the same data share."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import robot_foundry

DATASET = "made"
# What tells where data lie, and not what they are.
OF_PLACES = ("shard", "episode", "key", "row_start", "split_hash", "source", "id")


@dataclass(frozen=True)
class Kept:
    """A unit: a digest of all that is kept of it, and how many flags its frames have."""

    digest: str
    flagged: int = 0


def kept(store: Path, manifest: Mapping[str, Any], folder: Path) -> dict[str, Kept]:
    """The units of a version by `file#id`; `folder` is its own. AssertionError if one is there twice."""
    found: dict[str, Kept] = {}
    read: Callable[[Path, Mapping[str, Any], Path], Iterator[tuple[str, Kept]]]
    read = _samples if manifest["kind"] in ("text", "pairs") else _episodes
    for name, unit in read(store, manifest, folder):
        assert name not in found, f"{name} is in the version twice"
        found[name] = unit
    return found


def _samples(store: Path, manifest: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Kept]]:
    """Documents or pairs, as whoever opens the version reads them."""
    for sample in robot_foundry.open(DATASET, store=store):
        values = {name: value for name, value in sample.items() if name not in OF_PLACES}
        yield f"{sample['file']}#{sample['id']}", Kept(_digest(values))


def _episodes(store: Path, manifest: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Kept]]:
    """Rows of the tables, and members of the tars, of each episode."""
    members = dict(_members(store, manifest))
    annotations = _table(folder / "annotations.arrow").to_pylist()
    frames = {key: _table(folder / f"frames/{key}.arrow") for key in _keys(manifest)}
    for row in _table(folder / "episodes.arrow").to_pylist():
        rows = frames[manifest["shards"][row["shard"]]["key"]].slice(row["row_start"], row["num_frames"])
        rows = rows.drop_columns([name for name in OF_PLACES if name in rows.column_names])
        texts = [{**note, "key": ""} for note in annotations if note["key"] == row["key"]]
        own = {
            name.removeprefix(row["key"]): data
            for name, data in members.items()
            if name.startswith(row["key"])
        }
        about = json.loads(own.pop(".episode.json"))
        told = {name: value for name, value in row.items() if name not in OF_PLACES}
        for each in texts:
            each.pop("shard", None)
        values = [told, {**about, "source": None}, texts, rows.to_pylist(), own]
        flagged = sum(flags.bit_count() for flags in rows["flags"].to_pylist())
        yield f"{row['source']}#{row['id']}", Kept(_digest(values), flagged)


def _keys(manifest: Mapping[str, Any]) -> list[str]:
    return [shard["key"] for shard in manifest["shards"]]


def _members(store: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for key in _keys(manifest):
        with tarfile.open(store / "shards" / DATASET / f"{key}.tar") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                yield member.name, file.read()


def _table(path: Path) -> pa.Table:
    return pa.ipc.open_file(path).read_all()


def _digest(values: Any) -> str:
    def plain(value: Any) -> Any:
        return hashlib.sha256(value.tobytes() if hasattr(value, "tobytes") else bytes(value)).hexdigest()

    return hashlib.sha256(json.dumps(values, default=plain, sort_keys=True).encode()).hexdigest()
