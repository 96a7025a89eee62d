"""The tars of a version as they lie in its store: opened through their index, whole or lacking."""

from __future__ import annotations

from collections.abc import Mapping

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.store import Store
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.index import bad_index, read_index, tar_sha256
from robot_foundry.shards.reader import ShardReader


def open_tar(
    store: Store, dataset: str, shard_key: str, hashes: Mapping[str, str] | None = None
) -> ShardReader:
    """The members of one tar; with `hashes`, the SHA-256 of tars by key, only if its index is of that tar."""
    path = store.shard_index(dataset, shard_key)
    index = read_index(store.storage, path)
    if hashes is not None and hashes.get(shard_key) != tar_sha256(index):
        raise bad_index(f"{store.url}/{path}", "was made from another tar than the version names")
    return ShardReader(store.storage, store.shard_tar(dataset, shard_key), index)


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
    phrases = []
    for shard in manifest.shards:
        path = store.shard_tar(manifest.dataset, shard.key)
        if store.shard_index(manifest.dataset, shard.key) not in sizes:
            phrases.append(f"{store.url}/{store.shard_index(manifest.dataset, shard.key)} is missing")
        phrases += _unlike(store, path, sizes.get(path), shard.tar_bytes)
    return phrases


def lacking_tables(store: Store, manifest: Manifest) -> list[str]:
    """As `lacking_tars`, of its tables."""
    sizes = store.storage.sizes(store.version_dir(manifest.dataset, manifest.version_id))
    phrases = []
    for name, file in manifest.files.items():
        path = store.table(manifest.dataset, manifest.version_id, name)
        phrases += _unlike(store, path, sizes.get(path), file.num_bytes)
    return phrases


def _unlike(store: Store, path: str, size: int | None, expected: int) -> list[str]:
    if size is None:
        return [f"{store.url}/{path} is missing"]
    return [] if size == expected else [f"{store.url}/{path} has {size:,} bytes in place of {expected:,}"]
