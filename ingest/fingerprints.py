"""By what a file of a source is known: the SHA-256 of its content, or the checksum of its object store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from robot_foundry.ingest.sources import SourceFile
from robot_foundry.ingest.sources.base import STORE_CHECKSUM
from robot_foundry.runtime import files
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import FileStatus
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.storage import Storage

HOW = ("auto", "full")
# Starting workers takes seconds; fewer files than this are read here.
FILES_WORTH_WORKERS = 64
THREADS = 4
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
        self._path = f"cache/fingerprints/{digest_of(root)}.json"
        self._known: dict[str, list[str]] | None = None

    def of(self, statuses: Sequence[FileStatus], *, quiet: bool = True) -> dict[str, str]:
        """The fingerprint of each file by its path."""
        if self._by_store:
            return {file.path: f"{STORE_CHECKSUM}{file.stamp}:{file.size}" for file in statuses}
        known = self._load()
        unknown = [file for file in statuses if known.get(file.path, [])[:2] != _key(file)]
        if unknown:
            self._read(known, unknown, quiet)
        return {file.path: known[file.path][2] for file in statuses}

    def _read(self, known: dict[str, list[str]], unknown: Sequence[FileStatus], quiet: bool) -> None:
        num_bytes = 0
        with Progress(len(unknown), "files", "fingerprint", quiet=quiet) as progress:
            try:
                for file, sha256 in self._hashes(unknown):
                    known[file.path] = [*_key(file), sha256]
                    progress.advance(bytes=file.size)
                    num_bytes += file.size
                    if num_bytes >= KEPT_EVERY_BYTES:
                        self._keep(known)
                        num_bytes = 0
            finally:
                self._keep(known)

    def _hashes(self, unknown: Sequence[FileStatus]) -> Iterator[tuple[FileStatus, str]]:
        hashing = partial(_sha256, self._root)
        if len(unknown) >= FILES_WORTH_WORKERS and not self._workers.inline:
            for index, sha256 in self._workers.map(hashing, unknown):
                yield unknown[index], sha256
            return
        # Threads, because hashing and reading leave the interpreter to others.
        with ThreadPoolExecutor(THREADS) as pool:
            asked = {pool.submit(hashing, file): file for file in unknown}
            try:
                for done in as_completed(asked):
                    yield asked[done], done.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _load(self) -> dict[str, list[str]]:
        if self._known is None:
            found = self._cache.exists(self._path)
            self._known = json.loads(self._cache.read_bytes(self._path)) if found else {}
        return self._known

    def _keep(self, known: dict[str, list[str]]) -> None:
        self._cache.write(self._path, canonical_json(known))


def _key(file: FileStatus) -> list[str]:
    return [str(file.size), file.stamp]


def _sha256(root: str, file: FileStatus) -> str:
    sha256 = files.sha256(root, file.path)
    SourceFile(root, file.path, file.size, file.stamp, sha256).check_unchanged()
    return sha256
