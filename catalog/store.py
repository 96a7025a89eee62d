"""Where things lie in a store: a folder or an fsspec URL.

    shards/<dataset>/<shard_key>.tar, .index.arrow     datasets/<dataset>/<version_id>/manifest.json, …
    shards/<dataset>/<shard_key>.place.json            in place of a tar that lies elsewhere (`catalog.tars`)
    refs/<dataset>/v3 or <tag>                         builds/<dataset>/<build_id>.json
    runs/<id>.json                                     cache/ (derived, disposable)

All paths are relative to the store, '/'-separated, and passed to `Store.storage`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.storage.storage import Storage, open_storage
from robot_foundry.shards.keys import KEY

if TYPE_CHECKING:
    from robot_foundry.catalog.table_file import Proven

STORE_VARIABLE = "FOUNDRY_STORE"
_HEX_ID = re.compile(r"[0-9a-f]{32}")
_TABLE = re.compile(r"[a-z_]{1,64}(/[a-z0-9_-]{1,64})?")


class Store:
    """A store at `url` (path or fsspec URL); nothing is created or read until something is written.

    Which tables were `proven` is kept as long as this object, and does not go along to another process.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.storage: Storage = open_storage(os.fspath(url))
        self.proven: Proven = {}

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.url,)

    @property
    def url(self) -> str:
        return self.storage.url

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def shard_tar(self, dataset: str, key: str) -> str:
        return f"shards/{check_name(dataset)}/{check_name(key, 'shard key')}.tar"

    def shard_index(self, dataset: str, key: str) -> str:
        return f"shards/{check_name(dataset)}/{check_name(key, 'shard key')}.index.arrow"

    def shard_place(self, dataset: str, key: str) -> str:
        return f"shards/{check_name(dataset)}/{check_name(key, 'shard key')}.place.json"

    def version_dir(self, dataset: str, version_id: str) -> str:
        return f"datasets/{check_name(dataset)}/{check_id(version_id)}"

    def manifest(self, dataset: str, version_id: str) -> str:
        return f"{self.version_dir(dataset, version_id)}/manifest.json"

    def table(self, dataset: str, version_id: str, name: str) -> str:
        """Path of a canonical table: `name` is its own, of a shard's table <table>/<shard key>."""
        if not _TABLE.fullmatch(name):
            raise FoundryError(f"'{name}' is not the name of a canonical table")
        return f"{self.version_dir(dataset, version_id)}/{name}.arrow"

    def refs(self, dataset: str) -> str:
        return f"refs/{check_name(dataset)}"

    def ref(self, dataset: str, tag: str) -> str:
        return f"{self.refs(dataset)}/{check_name(tag, 'tag')}"

    def build(self, dataset: str, build_id: str) -> str:
        return f"builds/{check_name(dataset)}/{check_id(build_id)}.json"

    def statistics_cache(self, digest: str) -> str:
        return f"cache/statistics/{check_id(digest)}.json"

    def features_cache(self, digest: str) -> str:
        """A folder."""
        return f"cache/features/{check_id(digest)}"

    def derived_cache(self, what: str, digest: str) -> str:
        return f"cache/{check_name(what, 'cache')}/{check_id(digest)}.bin"


def check_name(name: str, what: str = "dataset name") -> str:
    """`name` itself when it follows the key grammar, else UsageError."""
    if not re.fullmatch(KEY, name):
        raise UsageError(
            f"{what} '{name}' is not allowed: use 1 to 64 of the characters a-z, 0-9, '_' and '-'"
        )
    return name


def check_id(value: str) -> str:
    """`value` itself when it is 32 hex digits, else FoundryError."""
    if not _HEX_ID.fullmatch(value):
        raise FoundryError(f"'{value}' is not an id of 32 hex digits")
    return value


def default_store() -> Store:
    """The store named by FOUNDRY_STORE, else the folder ./store."""
    return Store(os.environ.get(STORE_VARIABLE) or Path("store"))


def as_store(store: Store | str | os.PathLike[str] | None) -> Store:
    """`store` as a Store; None is the default store."""
    if store is None:
        return default_store()
    return store if isinstance(store, Store) else Store(store)
