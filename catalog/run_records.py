"""Records of runs in a store, one JSON object each, which `foundry-data query` shows as the table `runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot_foundry.catalog.store import Store, check_name
from robot_foundry.runtime.canonical import canonical_json, digest_of


def keep_record(store: Store, kind: str, of: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Write `runs/<kind>-<digest of `of`>.json` and return its path: one record of all that decides a run.

    A later record of the same takes its place.
    """
    path = f"runs/{check_name(kind, 'kind of run')}-{digest_of(dict(of))}.json"
    store.storage.write(path, canonical_json({"kind": kind, **values}))
    return path
