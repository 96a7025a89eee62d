"""One shard of a version against its manifest: tar, index, rows, leaves, and evidence for the data checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.manifest import ShardEntry
from robot_foundry.catalog.opening import open_tar
from robot_foundry.catalog.robot.leaves import shard_leaves
from robot_foundry.catalog.robot.plausibility import shard_evidence
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import frames_schema_of
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.validation.image_findings import decoded
from robot_foundry.catalog.validation.table_findings import Fault, checked_table
from robot_foundry.catalog.version import Version
from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.runtime.errors import FoundryError, MissingFileError
from robot_foundry.shards.index import index_of_tar, read_index, tar_sha256
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.shard import RobotShard
from robot_foundry.shards.stream import streamed
from robot_foundry.shards.tar import BLOCK, ustar_header

# Headers that are compared with the index where the tar is not read whole: both ends and evenly between.
HEADERS = 64


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs. `episodes` and `leaves` are rows of the shard, None where the table is damaged."""

    store: Store
    version: Version
    schema: Schema
    entry: ShardEntry
    frames_digest: str
    frames_file: TableFile
    episodes: Sequence[Mapping[str, Any]] | None
    leaves: Sequence[Mapping[str, Any]] | None
    deep: bool
    made_by: str = ""

    @property
    def tar(self) -> str:
        return self.store.shard_tar(self.version.dataset, self.entry.key)

    @property
    def index(self) -> str:
        return self.store.shard_index(self.version.dataset, self.entry.key)

    def where(self, path: str) -> str:
        return f"{self.store.url}/{path}"


@dataclass
class ShardResult:
    """What was found; `members` and `images` were looked at."""

    findings: list[Finding] = field(default_factory=list)
    evidence: Evidence | None = None
    members: int = 0
    images: int = 0


def validate_shard(task: ShardTask) -> ShardResult:
    """Everything that can be said of the shard; one fault does not hide the others."""
    result = ShardResult()
    fault = Fault(task.store, task.version, result.findings, task.made_by)
    shard = _tar(task, fault, result)
    frames_path = task.store.frames(task.version.dataset, task.version.version_id, task.entry.key)
    with fault.caught("tables", frames_path):
        name, schema = f"frames/{task.entry.key}", frames_schema_of(task.schema)
        digest, file = task.frames_digest, task.frames_file
        frames = checked_table(task.store, task.version, name, digest, file, schema, fault)
        if frames is not None:
            _rows(task, frames, shard, fault, result)
    return result


def _tar(task: ShardTask, fault: Fault, result: ShardResult) -> RobotShard | None:
    """The shard, opened, if its tar and index are there and agree."""
    entry, storage = task.entry, task.store.storage
    try:
        size = storage.size(task.tar)
    except MissingFileError:
        fault.shard("tar", task.tar, "is missing")
        return None
    if size != entry.tar_bytes:
        fault.shard("tar", task.tar, f"has {size:,} bytes where the manifest says {entry.tar_bytes:,}")
        return None
    if not storage.exists(task.index):
        fault.index(task.index, "is missing, so the tar is not read", task.where(task.tar))
        return None
    try:
        index = read_index(storage, task.index)
        reader = ShardReader(storage, task.tar, index)
    except FoundryError as error:
        fault.index(task.index, f"cannot be used: {error.message}", task.where(task.tar))
        return None
    if tar_sha256(index) != entry.tar_sha256:
        fault.index(task.index, "was made from another tar than the manifest names", task.where(task.tar))
        return None
    intact = _whole_tar(task, index, fault) if task.deep else _some_headers(task, index, fault)
    result.members += index.num_rows
    if task.deep and intact:
        result.images += decoded(task.store, task.version, task.entry.key, reader, task.schema, fault)
    if not entry.num_groups:
        return None  # further images of an episode whose head is another shard
    shard = RobotShard(reader, lambda key: open_tar(task.store, task.version.dataset, key))
    with fault.caught("tar", task.tar):
        _episodes(task, shard, fault)
        return shard
    return None


def _some_headers(task: ShardTask, index: pa.Table, fault: Fault) -> bool:
    rows = np.unique(np.linspace(0, index.num_rows - 1, min(HEADERS, index.num_rows)).astype(int))
    for row in index.take(rows).to_pylist():
        header = task.store.storage.read_range(task.tar, row["offset"] - BLOCK, BLOCK)
        if header != ustar_header(row["name"], row["size"]):
            fault.shard("tar", task.tar, f"has no header of {row['name']!r} where the index has it")
            return False
    return True


def _whole_tar(task: ShardTask, index: pa.Table, fault: Fault) -> bool:
    """Read from its start as if it had no index: the hash of all bytes, and the checksum of every member."""
    try:
        with streamed(task.store.storage, task.tar) as file:
            found = index_of_tar(file, task.where(task.tar))
    except FoundryError as error:
        fault.shard("tar", task.tar, f"is damaged: {error.message}")
        return False
    if tar_sha256(found) == task.entry.tar_sha256:
        return True
    stored = {row["name"]: row["crc32c"] for row in index.to_pylist()}
    differ = [row["name"] for row in found.to_pylist() if stored.get(row["name"]) != row["crc32c"]]
    named = f"in {differ[0]!r}" if differ else "outside its members"
    more = f" and {len(differ) - 1:,} more" if len(differ) > 1 else ""
    fault.shard("tar", task.tar, f"has other bytes than were written, {named}{more}")
    return False


def _episodes(task: ShardTask, shard: RobotShard, fault: Fault) -> None:
    """The tar's episodes against the manifest and the episodes table."""
    entry = task.entry
    frames = int(shard.row_starts[-1])
    if (len(shard.episodes), frames) != (entry.num_groups, entry.num_samples):
        fault.manifest(
            "counts",
            f"shard {entry.key} holds {len(shard.episodes):,} episodes and {frames:,} frames, the manifest "
            f"says {entry.num_groups:,} and {entry.num_samples:,}",
        )
    for row in task.episodes or ():
        at = row["episode"]
        known = 0 <= at < len(shard.episodes) and shard.episodes[at] == row["key"]
        if not known or shard.row_starts[at] != row["row_start"]:
            fault.manifest("episodes", f"episode {row['key']} is not where the table of episodes says")


def _rows(
    task: ShardTask, frames: pa.Table, shard: RobotShard | None, fault: Fault, result: ShardResult
) -> None:
    """The frames table against episodes and leaves; evidence of what can be trusted."""
    if frames.num_rows != task.entry.num_samples:
        fault.table(
            f"frames/{task.entry.key}",
            f"has {frames.num_rows:,} rows, the manifest says {task.entry.num_samples:,}",
        )
        return
    if task.episodes is None:
        return
    inside = [row for row in task.episodes if _in_place(row, frames, fault)]
    if task.leaves is not None and len(inside) == len(task.episodes):
        _same_leaves(task, frames, fault)
    with fault.caught("images", task.tar):
        result.evidence = shard_evidence(task.schema, frames, inside, shard)


def _in_place(row: Mapping[str, Any], frames: pa.Table, fault: Fault) -> bool:
    """Whether the rows of the episode, and so all windows in it, are its own, whole and in order."""
    start, count = row["row_start"], row["num_frames"]
    own = frames.slice(start, count) if start >= 0 and count > 0 else frames.slice(0, 0)
    numbers: NDArray[Any] = own["frame"].to_numpy()
    is_own_N = own["episode"].to_numpy() == row["episode"]
    if own.num_rows == count > 0 and is_own_N.all() and (numbers == np.arange(count)).all():
        return True
    fault.manifest(
        "windows", f"episode {row['key']} has {count:,} frames from row {start:,}, which are not its own rows"
    )
    return False


def _same_leaves(task: ShardTask, frames: pa.Table, fault: Fault) -> None:
    assert task.episodes is not None and task.leaves is not None
    made = shard_leaves(task.schema, frames, {row["episode"] for row in task.episodes})
    expected = {(leaf["column"], leaf["dim"]): leaf["digest"] for leaf in made} if task.episodes else {}
    stored = {(leaf["column"], leaf["dim"]): leaf["digest"] for leaf in task.leaves}
    wrong = sorted(key for key in expected.keys() | stored.keys() if expected.get(key) != stored.get(key))
    if wrong:
        column, dim = wrong[0]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        fault.table(
            "leaves", f"does not hold the statistics of {column} {dim}{more} of shard {task.entry.key}"
        )
