"""What a shard holds, as its tar or an earlier look at it tells: enough to plan the tables of a version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from robot_foundry.catalog.kind import kind_named as catalog_kind
from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import open_tar
from robot_foundry.ingest.kind import DerivedKind, Shard, Tar
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.cache import keep, kept
from robot_foundry.shards.index import read_index, tar_bytes, tar_sha256


class LackingTar(FoundryError):
    """A further tar of a shard cannot be used."""


class Interned:
    """Keeps one copy of what blocks have in common, so that surveys of many shards fit into memory."""

    def __init__(self, kind: DerivedKind) -> None:
        self._kind = kind
        self._copies: dict[bytes, Any] = {}

    def shard(self, shard: Shard) -> Shard:
        """The same shard, its parts shared with those that came before."""
        return replace(shard, blocks=tuple(self._kind.interned(block, self._one) for block in shard.blocks))

    def _one(self, value: Any) -> Any:
        return self._copies.setdefault(canonical_json(value), value)


def survey(kind: DerivedKind, store: Store, dataset: str, shard_key: str) -> Shard:
    """The shard as its tar tells it. Which units were refused, no tar says.

    LackingTar where one of its further tars has no index, or one that cannot be used.
    """
    tar = open_tar(store, dataset, shard_key)
    blocks, further_keys = kind.survey(tar)
    segments = tuple(_further(store, dataset, key) for key in further_keys)
    sha256, num_bytes = tar_sha256(tar.index), tar_bytes(tar.index)
    return Shard(shard_key, sha256, num_bytes, blocks, (), reused=True, segments=segments)


def _further(store: Store, dataset: str, shard_key: str) -> Tar:
    try:
        return _tar(store, dataset, shard_key)
    except FoundryError as error:
        raise LackingTar(error.message, hint=error.hint) from error


def _tar(store: Store, dataset: str, shard_key: str) -> Tar:
    index = read_index(store.storage, store.shard_index(dataset, shard_key))
    return Tar(shard_key, tar_sha256(index), tar_bytes(index))


def cached_survey(kind: DerivedKind, store: Store, dataset: str, shard_key: str) -> Shard | None:
    """The survey that `cache_survey` kept, refusals and all, if it is of the tar that is there."""
    cached = kept(store.storage, _cache_path(shard_key))
    if cached is None:
        return None
    values = json.loads(cached)
    segments = tuple(Tar(*entry) for entry in values.get("segments", ()))
    sha256, num_bytes = values["tar_sha256"], values["tar_bytes"]
    if sha256 != _tar(store, dataset, shard_key).sha256 or not _are_there(store, dataset, segments):
        return None
    blocks = tuple(map(kind.survey_from_json, values[catalog_kind(kind.name).groups]))
    refused = tuple(Quarantined(str(unit), str(reason)) for unit, reason in values["refused"])
    return Shard(shard_key, sha256, num_bytes, blocks, refused, reused=True, segments=segments)


def _are_there(store: Store, dataset: str, tars: Sequence[Tar]) -> bool:
    try:
        return all(tar == _further(store, dataset, tar.key) for tar in tars)
    except LackingTar:
        return False


def cache_survey(kind: DerivedKind, store: Store, shard: Shard) -> None:
    """Keep a survey, so that the next run need not open the tar."""
    values = {
        "tar_sha256": shard.tar_sha256,
        "tar_bytes": shard.tar_bytes,
        catalog_kind(kind.name).groups: [kind.survey_to_json(block) for block in shard.blocks],
        "refused": [[entry.unit, entry.reason] for entry in shard.refused],
        "segments": [[tar.key, tar.sha256, tar.num_bytes] for tar in shard.segments],
    }
    keep(store.storage, _cache_path(shard.key), canonical_json(values))


def _cache_path(shard_key: str) -> str:
    return f"cache/surveys/{shard_key}.json"
