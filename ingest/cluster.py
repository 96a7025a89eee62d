"""What the nodes of a cluster must see before they work: a local source, and a local store.

Without a cluster nothing is checked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.scan import SourceFiles
from robot_foundry.runtime.files import is_remote
from robot_foundry.runtime.parallel import Workers


def require_source(files: SourceFiles, workers: Workers) -> None:
    """Have the nodes checked for the first file of a local source."""
    if not is_remote(files.root):
        first = files.statuses[:1]
        workers.require({str(Path(files.root, file.path)): file.size for file in first})


@contextmanager
def required_store(store: Store, workers: Workers) -> Iterator[None]:
    """Have the nodes checked for a local store, by a file that is there meanwhile."""
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
