"""Work on a cluster whose nodes must see what lies on this machine: a local source, a local store."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.files.scan import SourceFiles
from robot_foundry.runtime.files import is_remote
from robot_foundry.runtime.parallel import Workers


@contextmanager
def source_seen_by_all(source: SourceFiles, store: Store, workers: Workers) -> Iterator[None]:
    """Have the nodes checked for a local source and a local store before they work."""
    if not is_remote(source.root):
        first = source.statuses[:1]
        workers.require({str(Path(source.root, file.path)): file.size for file in first})
    with seen_by_all(store, workers):
        yield


@contextmanager
def seen_by_all(store: Store, workers: Workers) -> Iterator[None]:
    """Have the nodes of a cluster, if there is one, checked for a local store before they work."""
    probe = f"cache/probes/{secrets.token_hex(8)}"
    local = store.storage.local_path(probe)
    if local is None or not workers.on_cluster:
        yield
        return
    store.storage.write(probe, b"probe")
    workers.require({str(local): len(b"probe")})
    try:
        yield
    finally:
        store.storage.delete(probe)
