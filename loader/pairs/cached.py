"""Whole numbers that follow from a version's tables, kept in the store's cache so that they are made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.store import Store
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.storage.cache import keep, kept


def cached(
    store: Store, what: str, of: Mapping[str, Any], make: Callable[[], NDArray[np.int32]]
) -> NDArray[np.int32]:
    """What `make` gives, or gave before: `of` is all that decides it, `what` names the folder."""
    path = store.derived_cache(what, digest_of(dict(of)))
    data = kept(store.storage, path)
    if data is not None:
        return np.frombuffer(data, "<i4")
    made = make()
    with suppress(OSError):  # the store may be one that this user can only read
        keep(store.storage, path, made.astype("<i4").tobytes())
    return made
