"""Adopt a tar of the source: it stays where it lies, and the store gets its index and its place."""

from __future__ import annotations

import hashlib
import tarfile

import pyarrow as pa

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import TarPlace, read_place, write_place
from robot_foundry.ingest.sources import Refused, SourceFile
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.adopt import INDEX_END, TAR_END
from robot_foundry.shards.index import index_of_tar, read_index, tar_bytes, tar_sha256, write_index


def adopt(store: Store, dataset: str, file: SourceFile, local: SourceFile) -> str:
    """The key of the tar `file`, whose index and place lie in the store afterwards.

    `local` is the same file on this machine, `blake3` of its content. The key follows from the content alone:
    a tar that was moved keeps its key and its index, and gets its new place. Refused if it cannot be indexed.
    """
    key = digest_of({"adopted": local.blake3})
    place = TarPlace(f"{file.root}/{file.path}", file.size)
    if _known_place(store, dataset, key) != place:
        write_place(store, dataset, key, place)
    kill_point("adopted-place-written")
    if not _is_indexed(store, dataset, key, local.size):
        index = _index_beside(file, local) or _index_of(local)
        store.storage.write(store.shard_index(dataset, key), write_index(index))
    kill_point("adopted-index-written")
    return key


def check_adoptable(local: SourceFile) -> None:
    """Refused as by `adopt`; nothing is written. The whole file is read."""
    _index_of(local)


def _known_place(store: Store, dataset: str, key: str) -> TarPlace | None:
    try:
        return read_place(store, dataset, key)
    except FoundryError:
        return None  # damaged, so it is written anew


def _is_indexed(store: Store, dataset: str, key: str, num_bytes: int) -> bool:
    try:
        return tar_bytes(read_index(store.storage, store.shard_index(dataset, key))) == num_bytes
    except FoundryError:  # there is none, or it is damaged
        return False


def _index_beside(file: SourceFile, local: SourceFile) -> pa.Table | None:
    """The index that `foundry-data index` put beside the tar, if it is of just these bytes."""
    storage, path = open_storage(file.root), file.path.removesuffix(TAR_END) + INDEX_END
    if not storage.exists(path):
        return None
    try:
        index = read_index(storage, path)
    except FoundryError:
        return None
    if tar_bytes(index) != local.size:
        return None
    with local.local() as tar, tar.open("rb") as opened:
        return index if hashlib.file_digest(opened, "sha256").hexdigest() == tar_sha256(index) else None


def _index_of(local: SourceFile) -> pa.Table:
    with local.local() as path, path.open("rb") as tar:
        try:
            if not tarfile.is_tarfile(path):
                raise FoundryError("it is no tar")
            return index_of_tar(tar, "the tar")
        except FoundryError as error:
            reason = f"it cannot be adopted: {error.message}; without content.adopt it is copied"
            raise Refused(reason) from error
