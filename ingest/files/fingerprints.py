"""By what a file of a source is known: the BLAKE3 of its content, or the checksum of its object store."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from itertools import accumulate
from threading import Event

from robot_foundry.ingest.sources import SourceFile
from robot_foundry.ingest.sources.base import STORE_CHECKSUM
from robot_foundry.runtime import files
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import FileStatus
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.storage.cache import keep, kept
from robot_foundry.runtime.storage.storage import Storage

HOW = ("auto", "full")
# Starting workers takes seconds; fewer files than this are read here.
FILES_WORTH_WORKERS = 64
THREADS, THREADS_AHEAD = 4, 2
# So far a source is read for its fingerprints before it is read for its episodes: within what memory caches.
AHEAD_BYTES = 512 * 1024 * 1024
# What is known is kept each time that so much was read, so that a killed run need not read it again.
KEPT_EVERY_BYTES = 10 * 1024**3


class Fingerprints:
    """Fingerprints of the files beneath one root.

    `how` is auto, or full to read remote files too. Hashes are kept in the cache of the store, each under the
    file's path, size and stamp, so that a second run reads no file.
    """

    def __init__(self, root: str, cache: Storage, workers: Workers, how: str = "auto") -> None:
        if how not in HOW:
            raise UsageError(f"fingerprint is {' or '.join(HOW)}, got {how!r}")
        self._root, self._cache, self._workers = root, cache, workers
        self._by_store = files.is_remote(root) and how == "auto"
        self._path = f"cache/blake3/{digest_of(root)}.json"
        self._cached: dict[str, list[str]] | None = None

    def of(self, statuses: Sequence[FileStatus], *, quiet: bool = True) -> dict[str, str]:
        """The fingerprint of each file by its path."""
        if self._by_store:
            return {file.path: f"{STORE_CHECKSUM}{file.stamp}:{file.size}" for file in statuses}
        cached, unknown = self._load(), self._unknown(statuses)
        if unknown:
            self._read(cached, unknown, quiet)
        return {file.path: cached[file.path][2] for file in statuses}

    def reads(self, statuses: Sequence[FileStatus]) -> bool:
        """Whether some of these are local files that must be read."""
        return not files.is_remote(self._root) and bool(self._unknown(statuses))

    @contextmanager
    def ahead(self, statuses: Sequence[FileStatus]) -> Iterator[Callable[[str], str]]:
        """Fingerprints by path, while the files are worked on in this order: the next are read meanwhile."""
        cached, upcoming = self._load(), deque(self._unknown(statuses))
        ends = dict(zip((file.path for file in upcoming), accumulate(f.size for f in upcoming), strict=True))
        read: dict[str, Future[str]] = {}

        def fingerprint(path: str) -> str:
            if path in ends:
                while upcoming and ends[upcoming[0].path] - upcoming[0].size < ends[path] + AHEAD_BYTES:
                    file = upcoming.popleft()
                    read[file.path] = start(file)
                cached[path] = [*keys[path], read[path].result()]
            return cached[path][2]

        keys = {file.path: _key(file) for file in upcoming}
        try:
            with _hashing(self._root, THREADS_AHEAD) as start:
                yield fingerprint
        finally:
            self._keep(cached)

    def _read(self, cached: dict[str, list[str]], unknown: Sequence[FileStatus], quiet: bool) -> None:
        num_bytes = 0
        with Progress(len(unknown), "files", "fingerprint", quiet=quiet) as progress:
            try:
                for file, digest in self._hashes(unknown):
                    cached[file.path] = [*_key(file), digest]
                    progress.advance(bytes=file.size)
                    num_bytes += file.size
                    if num_bytes >= KEPT_EVERY_BYTES:
                        self._keep(cached)
                        num_bytes = 0
            finally:
                self._keep(cached)

    def _hashes(self, unknown: Sequence[FileStatus]) -> Iterator[tuple[FileStatus, str]]:
        if len(unknown) >= FILES_WORTH_WORKERS and not self._workers.inline:
            for index, digest in self._workers.map(partial(_hash, self._root), unknown):
                yield unknown[index], digest
            return
        with _hashing(self._root, THREADS) as start:
            asked = {start(file): file for file in unknown}
            for done in as_completed(asked):
                yield asked[done], done.result()

    def _unknown(self, statuses: Sequence[FileStatus]) -> list[FileStatus]:
        """Those whose content was not read since it changed, each once."""
        cached = self._load()
        each = {file.path: file for file in statuses}.values()
        return [file for file in each if cached.get(file.path, [])[:2] != _key(file)]

    def _load(self) -> dict[str, list[str]]:
        if self._cached is None:
            stored = kept(self._cache, self._path)
            self._cached = {} if stored is None else json.loads(stored)
        return self._cached

    def _keep(self, cached: dict[str, list[str]]) -> None:
        with suppress(OSError):  # without it they are only read again; a dry run needs no store to write to
            keep(self._cache, self._path, canonical_json(cached))


def _key(file: FileStatus) -> list[str]:
    return [str(file.size), file.stamp]


@contextmanager
def _hashing(root: str, threads: int) -> Iterator[Callable[[FileStatus], Future[str]]]:
    """Starts to hash a file. At the end, an interrupt perhaps, what is still under way stops.

    Threads, because hashing and reading leave the interpreter to others.
    """
    stop = Event()
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield lambda file: pool.submit(_hash, root, file, stop)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _hash(root: str, file: FileStatus, stop: Event | None = None) -> str:
    digest = files.content_hash(root, file.path, stop)
    SourceFile(root, file.path, file.size, file.stamp, digest).check_unchanged()
    return digest
