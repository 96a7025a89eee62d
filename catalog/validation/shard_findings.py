"""One shard of a version against its manifest: tar, index and tables, and what its kind finds in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.tars import located
from robot_foundry.catalog.validation.table_findings import Fault, checked_table
from robot_foundry.catalog.validation.tasks import ShardCheck
from robot_foundry.checks.finding import Finding
from robot_foundry.runtime.errors import FoundryError, MissingFileError
from robot_foundry.shards.headers import stands_before
from robot_foundry.shards.index import index_of_tar, read_index, tar_sha256
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.stream import streamed
from robot_foundry.shards.tar import BLOCK, ustar_header

# Headers that are compared with the index where the tar is not read whole: both ends and evenly between.
HEADERS = 64


@dataclass
class ShardResult:
    """What was found; `members` were looked at, and `of_kind` is what the kind concludes from."""

    findings: list[Finding] = field(default_factory=list)
    members: int = 0
    of_kind: Any = None


def validate_shard(task: ShardCheck) -> ShardResult:
    """Everything that can be said of the shard; one fault does not hide the others."""
    result = ShardResult()
    fault, kind = Fault(task.store, task.version, result.findings, task.made_by), kind_named(task.kind)
    reader, members = _opened(task, fault), None
    if reader is not None:
        is_intact = (_whole_tar if task.deep else _some_headers)(task, reader, fault)
        result.members = len(reader)
        members = kind.validator.check_members(task, reader, is_intact, fault)
    tables = {}
    for name, (digest, file) in task.tables.items():
        full_name, columns = f"{name}/{task.entry.key}", kind.columns(name, task.schema)
        with fault.caught("tables", task.table(name)):
            tables[name] = checked_table(task.store, task.version, full_name, digest, file, columns, fault)
    result.of_kind = kind.validator.check_rows(task, tables, members, fault)
    return result


def _opened(task: ShardCheck, fault: Fault) -> ShardReader | None:
    """The tar, if it and its index are there and agree."""
    entry, indexes = task.entry, task.store.storage
    try:
        storage, path = located(task.store, task.version.dataset, entry.key)
        size = storage.size(path)
    except MissingFileError:
        fault.shard("tar", task.tar, "is missing")
        return None
    except FoundryError as error:
        fault.place(task.tar, error.message)
        return None
    if size != entry.tar_bytes:
        fault.shard("tar", task.tar, f"has {size:,} bytes where the manifest says {entry.tar_bytes:,}")
        return None
    if not indexes.exists(task.index):
        fault.index(task.index, "is missing, so the tar is not read", task.tar)
        return None
    try:
        index = read_index(indexes, task.index)
        reader = ShardReader(storage, path, index)
    except FoundryError as error:
        fault.index(task.index, f"cannot be used: {error.message}", task.tar)
        return None
    if tar_sha256(index) != entry.tar_sha256:
        fault.index(task.index, "was made from another tar than the manifest names", task.tar)
        return None
    return reader


def _some_headers(task: ShardCheck, reader: ShardReader, fault: Fault) -> bool:
    rows = np.unique(np.linspace(0, len(reader) - 1, min(HEADERS, len(reader))).astype(int))
    is_adopted = reader.storage is not task.store.storage
    for row in reader.index.take(rows).to_pylist():
        header = reader.storage.read_range(reader.tar_path, row["offset"] - BLOCK, BLOCK)
        # Others write owners and times, and long names apart.
        is_there = is_adopted and stands_before(header, row["size"])
        if not is_there and header != ustar_header(row["name"], row["size"]):
            fault.shard("tar", task.tar, f"has no header of {row['name']!r} where the index has it")
            return False
    return True


def _whole_tar(task: ShardCheck, reader: ShardReader, fault: Fault) -> bool:
    """Read from its start as if it had no index: the hash of all bytes, and the checksum of every member."""
    try:
        with streamed(reader.storage, reader.tar_path) as file:
            scanned = index_of_tar(file, reader.where)
    except FoundryError as error:
        fault.shard("tar", task.tar, f"is damaged: {error.message}")
        return False
    if tar_sha256(scanned) == task.entry.tar_sha256:
        return True
    stored = {row["name"]: row["crc32c"] for row in reader.index.to_pylist()}
    differ = [row["name"] for row in scanned.to_pylist() if stored.get(row["name"]) != row["crc32c"]]
    named = f"in {differ[0]!r}" if differ else "outside its members"
    more = f" and {len(differ) - 1:,} more" if len(differ) > 1 else ""
    fault.shard("tar", task.tar, f"has other bytes than were written, {named}{more}")
    return False
