"""Index tars where they lie, whoever wrote them: the index is put beside the tar, the tar is only read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import Storage
from robot_foundry.shards.index import index_of_tar, read_index, tar_bytes, write_index
from robot_foundry.shards.stream import streamed

TAR_END, INDEX_END = ".tar", ".index.arrow"


@dataclass(frozen=True)
class TarTask:
    """A tar to index; with `dry_run` nothing is written."""

    storage: Storage
    path: str
    dry_run: bool


@dataclass(frozen=True)
class Indexed:
    """What became of a tar: `status` is made, replaced, unchanged or refused, `reason` why it was refused."""

    path: str
    status: str
    members: int = 0
    num_bytes: int = 0
    reason: str | None = None


def index_beside(task: TarTask) -> Indexed:
    """Read the whole tar and put its index beside it, unless just this index is there already."""
    storage, path = task.storage, task.path
    index_path = path.removesuffix(TAR_END) + INDEX_END
    try:
        with streamed(storage, path) as file:
            table = index_of_tar(file, f"{storage.url}/{path}")
    except FoundryError as error:
        return Indexed(path, "refused", num_bytes=storage.size(path), reason=error.message)
    status = "made"
    if storage.exists(index_path):
        status = "unchanged" if _holds(storage, index_path, table) else "replaced"
    if status != "unchanged" and not task.dry_run:
        storage.write(index_path, write_index(table))
    return Indexed(path, status, table.num_rows, tar_bytes(table))


def _holds(storage: Storage, index_path: str, table: pa.Table) -> bool:
    try:
        return bool(read_index(storage, index_path).equals(table, check_metadata=True))
    except FoundryError:
        return False
