"""The tars of a version: opened through their index, whole or lacking.

A tar lies in the store; or it was adopted and lies elsewhere, where others wrote it. Then the store has its
index and its place, {"bytes", "url"}: where it lies for this store. A place is no part of a version, and
enters no id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from robot_foundry.catalog.manifest import Manifest, ShardEntry
from robot_foundry.catalog.store import Store
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError, MissingFileError
from robot_foundry.runtime.storage.storage import Storage, open_storage
from robot_foundry.shards.index import bad_index, read_index, tar_bytes, tar_sha256
from robot_foundry.shards.reader import ShardReader

ADOPT_AGAIN = "run the foundry-data ingest that adopted it again, with the source where it lies now"
_READS_AT_ONCE = 16  # of places, because each waits for the disk or the network


@dataclass(frozen=True)
class TarPlace:
    """Where an adopted tar lies: an absolute path or an fsspec URL, and the size that it had."""

    url: str
    num_bytes: int

    @property
    def name(self) -> str:
        """The path in `storage`."""
        return self.url.rpartition("/")[2]

    def storage(self) -> Storage:
        """The folder that it lies in."""
        return open_storage(self.url.rpartition("/")[0] or "/")

    def size(self) -> int | None:
        """Its size now, None if it is not there."""
        try:
            return self.storage().size(self.name)
        except FileNotFoundError:
            return None


def write_place(store: Store, dataset: str, shard_key: str, place: TarPlace) -> None:
    """Say where an adopted tar lies, in place of what was said before."""
    data = canonical_json({"bytes": place.num_bytes, "url": place.url})
    store.storage.write(store.shard_place(dataset, shard_key), data)


def read_place(store: Store, dataset: str, shard_key: str) -> TarPlace | None:
    """Where the tar lies if it was adopted, None if the store does not say so. FoundryError if damaged."""
    path = store.shard_place(dataset, shard_key)
    try:
        data = store.storage.read_bytes(path)
    except FileNotFoundError:
        return None
    try:
        told = json.loads(data)
        place = TarPlace(told["url"], told["bytes"])
        is_sound = told.keys() == {"bytes", "url"} and type(place.num_bytes) is int
        is_sound = is_sound and "/" in place.url and place.url.isprintable()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise FoundryError(f"{store.url}/{path} does not say where a tar lies", hint=ADOPT_AGAIN)
    return place


def located(store: Store, dataset: str, shard_key: str) -> tuple[Storage, str]:
    """The storage and the path in it where the tar should be: that of the store unless it was adopted."""
    path = store.shard_tar(dataset, shard_key)
    place = None if store.storage.exists(path) else read_place(store, dataset, shard_key)
    return (store.storage, path) if place is None else (place.storage(), place.name)


def open_tar(
    store: Store, dataset: str, shard_key: str, hashes: Mapping[str, str] | None = None
) -> ShardReader:
    """The members of one tar; with `hashes`, the SHA-256 of tars by key, only if its index is of that tar."""
    path = store.shard_index(dataset, shard_key)
    index = read_index(store.storage, path)
    if hashes is not None and hashes.get(shard_key) != tar_sha256(index):
        raise bad_index(f"{store.url}/{path}", "was made from another tar than the version names")
    try:
        return ShardReader(store.storage, store.shard_tar(dataset, shard_key), index)
    except MissingFileError:
        place = read_place(store, dataset, shard_key)
        if place is None:
            raise
    unlike = _unlike(place.url, place.size(), tar_bytes(index))
    if unlike:
        raise FoundryError(f"the adopted tar {unlike[0]}", hint=ADOPT_AGAIN)
    return ShardReader(place.storage(), place.name, index)


def is_whole(store: Store, dataset: str, shard_key: str) -> bool:
    """Whether the shard has an index without fault, and its tar the size that the index says."""
    try:
        open_tar(store, dataset, shard_key)
    except FoundryError:  # what the system refuses is raised: that is no reason to write it again
        return False
    return True


def lacking_tars(store: Store, manifest: Manifest) -> list[str]:
    """What is wrong with the tars of a version as far as names and sizes tell, a phrase for each."""
    sizes = store.storage.sizes(f"shards/{manifest.dataset}")
    adopted = _adopted(store, manifest, sizes)
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        lacking = partial(_lacking_adopted, store, manifest.dataset)
        phrases_of = dict(zip((s.key for s in adopted), pool.map(lacking, adopted), strict=True))
    phrases = []
    for shard in manifest.shards:
        path = store.shard_tar(manifest.dataset, shard.key)
        if store.shard_index(manifest.dataset, shard.key) not in sizes:
            phrases.append(f"{store.url}/{store.shard_index(manifest.dataset, shard.key)} is missing")
        if shard.key in phrases_of:
            phrases += phrases_of[shard.key]
        else:
            phrases += _unlike(f"{store.url}/{path}", sizes.get(path), shard.tar_bytes)
    return phrases


def adopted_tars(store: Store, manifest: Manifest) -> list[ShardEntry]:
    """Those of the version's tars that lie elsewhere, as far as the store has their places."""
    return _adopted(store, manifest, store.storage.sizes(f"shards/{manifest.dataset}"))


def _adopted(store: Store, manifest: Manifest, sizes: Mapping[str, int]) -> list[ShardEntry]:
    """Those with a place and no tar among the files of the store."""
    dataset = manifest.dataset
    return [
        shard
        for shard in manifest.shards
        if store.shard_place(dataset, shard.key) in sizes and store.shard_tar(dataset, shard.key) not in sizes
    ]


def _lacking_adopted(store: Store, dataset: str, shard: ShardEntry) -> Sequence[str]:
    try:
        place = read_place(store, dataset, shard.key)
    except FoundryError as error:
        return [error.message]
    return [] if place is None else _unlike(place.url, place.size(), shard.tar_bytes)


def lacking_tables(store: Store, manifest: Manifest) -> list[str]:
    """As `lacking_tars`, of its tables."""
    sizes = store.storage.sizes(store.version_dir(manifest.dataset, manifest.version_id))
    phrases = []
    for name, file in manifest.files.items():
        path = store.table(manifest.dataset, manifest.version_id, name)
        phrases += _unlike(f"{store.url}/{path}", sizes.get(path), file.num_bytes)
    return phrases


def _unlike(where: str, size: int | None, expected: int) -> list[str]:
    if size is None:
        return [f"{where} is missing"]
    return [] if size == expected else [f"{where} has {size:,} bytes in place of {expected:,}"]
