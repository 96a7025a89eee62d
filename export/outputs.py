"""A folder of files that an export makes one by one, so that it can be stopped at any instant and go on.

What is to be made is known before the work: a list of files, the last of which is the marker that makes the
folder readable. Each is written to a hidden partial beside it and renamed when it is whole; then a line in
the record says its size, its hash and what there is to tell of it. A second run of the same request proves
what is finished and makes the rest. So the same request gives the same bytes, the record included, however
often it was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import filelock

from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.durable import sync
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.folders import walk
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.records import EXPORT_LOCK, EXPORT_RECORD

RECORD, LOCK = EXPORT_RECORD, EXPORT_LOCK
PARTIAL = ".partial"
_BLOCK = 1 << 20
Job = TypeVar("Job")


@dataclass(frozen=True)
class Finished:
    """A file that is whole. `facts` is what its maker told of it, a JSON object."""

    path: str
    num_bytes: int
    sha256: str
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "path": self.path, "bytes": self.num_bytes, "sha256": self.sha256, "facts": dict(self.facts)
        }  # fmt: skip


class Output:
    """The open folder. Made by `open_output`; every file of the plan is written once, the marker last."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], files: Sequence[str]) -> None:
        self.folder, self._files = folder, list(files)
        self._head = canonical_json({"export": dict(identity), "files": digest_of(self._files)}) + b"\n"
        self._finished: dict[str, Finished] = {}
        self.reused = 0
        self._resume(dict(identity))

    def finished(self, path: str) -> Finished | None:
        """The file of the plan, if it is whole."""
        return self._finished.get(path)

    @property
    def num_bytes(self) -> int:
        """Bytes of all that is whole."""
        return sum(entry.num_bytes for entry in self._finished.values())

    def make(self, path: str, write: Callable[[Path], Mapping[str, Any] | None]) -> Finished:
        """The file at `path`, which `write` fills at the place it is given unless it is whole already.

        What `write` returns, a JSON object, is kept as the facts of the file. The marker has to come last.
        """
        if path not in self._finished:
            self._finish(path, write(self._begun(path)))
        return self._finished[path]

    def make_all(
        self,
        jobs: Mapping[str, Job],
        write: Callable[[Path, Job], Mapping[str, Any] | None],
        workers: Workers,
    ) -> Iterator[str]:
        """As `make`, of files by path, on workers of this machine; gives the paths as they are whole."""
        todo = [path for path in jobs if path not in self._finished]
        yield from (path for path in jobs if path in self._finished)
        items = ((self._begun(path), jobs[path]) for path in todo)
        for number, facts in workers.map(partial(_written, write), items):
            self._finish(todo[number], facts)
            yield todo[number]

    def _begun(self, path: str) -> Path:
        """The place where a file of the plan is written."""
        if path not in self._files:
            raise FoundryError(f"'{path}' is no file of the plan")
        if path == self._files[-1] and len(self._finished) < len(self._files) - 1:
            missing = next(name for name in self._files if name not in self._finished)
            raise FoundryError(f"'{path}' marks the folder whole, and '{missing}' is not written yet")
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        return self._partial(path)

    def _finish(self, path: str, facts: Mapping[str, Any] | None) -> None:
        """Give a file that is whole its name, and note it."""
        place, hidden = self.folder / path, self._partial(path)
        # As a later run reads them from the record, so that both go on alike.
        kept = json.loads(canonical_json(dict(facts or {})))
        sync(hidden)
        kill_point("export_partial")
        entry = Finished(path, hidden.stat().st_size, _sha256(hidden), kept)
        os.replace(hidden, place)
        sync(place.parent)
        kill_point("export_renamed")
        self._finished[path] = entry
        self._note(entry)
        kill_point("export_recorded")

    def _resume(self, identity: dict[str, Any]) -> None:
        """Prove what an earlier run finished, and take the rest away. UsageError for what is not its own."""
        record = self.folder / RECORD
        lines = record.read_bytes().splitlines(keepends=True) if record.exists() else []
        if lines and lines[0].endswith(b"\n") and lines[0] != self._head:
            raise UsageError(
                f"{self.folder} holds another export{_difference(lines[0], identity)}",
                hint="choose another --out, or delete this one",
            )
        self._refuse_foreign()
        entries = {entry.path: entry for line in lines[1:] if (entry := _entry(line)) is not None}
        whole: dict[str, Finished] = {}
        with Progress(len(entries), "files", "proving what is there") as progress:
            for path in (path for path in self._files if path in entries):
                if self._is_there(entries[path]):
                    whole[path] = entries[path]
                progress.advance(bytes=entries[path].num_bytes)
        if len(whole) < len(self._files):
            whole.pop(self._files[-1], None)
        for path in reversed(self._files):  # the marker first
            if path not in whole:
                (self.folder / path).unlink(missing_ok=True)
                self._partial(path).unlink(missing_ok=True)
        self._finished = whole
        self.reused = len(whole)
        _replace(record, self._content())

    def _refuse_foreign(self) -> None:
        own = {RECORD, RECORD + PARTIAL, LOCK, *self._files}
        own |= {str(self._partial(path).relative_to(self.folder)) for path in self._files}
        foreign = [path for path in walk(str(self.folder)) if path not in own]
        if foreign:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            raise UsageError(
                f"{self.folder} holds '{min(foreign)}'{more}, which this export does not write",
                hint="choose a new folder for --out",
            )

    def _is_there(self, entry: Finished) -> bool:
        place = self.folder / entry.path
        return place.is_file() and place.stat().st_size == entry.num_bytes and _sha256(place) == entry.sha256

    def _partial(self, path: str) -> Path:
        place = self.folder / path
        return place.with_name(f".{place.name}{PARTIAL}")

    def _content(self) -> bytes:
        """The record of what is finished, in the order of the plan."""
        return self._head + b"".join(
            _line(self._finished[path]) for path in self._files if path in self._finished
        )

    def _note(self, entry: Finished) -> None:
        """Add it to the record, which in the end is in the order of the plan, whatever was made anew."""
        if entry.path == self._files[-1]:
            _replace(self.folder / RECORD, self._content())
            return
        with (self.folder / RECORD).open("ab") as file:
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def open_output(folder: Path, identity: Mapping[str, Any], files: Sequence[str]) -> Iterator[Output]:
    """The folder for the files of a plan, in the order in which they are made; the last is the marker.

    `identity` is all that decides the bytes, as a JSON object: what is selected, options, versions of
    encoders. UsageError for a folder with another export or with files of others, FoundryError while another
    process writes to it.
    """
    _check(files)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="choose a new folder for --out")
    folder.mkdir(parents=True, exist_ok=True)
    begun = (LOCK, RECORD + PARTIAL)
    if not (folder / RECORD).exists() and any(path not in begun for path in walk(str(folder))):
        raise UsageError(
            f"{folder} holds files, and no export that could go on", hint="choose a new folder for --out"
        )
    try:
        with filelock.FileLock(folder / LOCK, timeout=0):
            yield Output(folder, identity, files)
    except filelock.Timeout as error:
        raise FoundryError(f"another process is writing to {folder}", hint="wait until it is done") from error


def _check(files: Sequence[str]) -> None:
    """FoundryError for a plan that has a file twice, or names that lead out of the folder."""
    if not files or len(set(files)) != len(files):
        raise FoundryError("a plan of files has none of them twice, and at least one")
    for path in files:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or any(part in ("..", ".") for part in parts) or "\\" in path:
            raise FoundryError(f"'{path}' is no path in the folder of an export")


def _line(entry: Finished) -> bytes:
    return canonical_json(entry.to_json()) + b"\n"


def _entry(line: bytes) -> Finished | None:
    """The line of a record; None for one that was cut off."""
    if not line.endswith(b"\n"):
        return None
    try:
        told = json.loads(line)
        return Finished(told["path"], told["bytes"], told["sha256"], told["facts"])
    except (ValueError, KeyError, TypeError):
        return None


def _difference(head: bytes, identity: dict[str, Any]) -> str:
    """What of the other request is not as in this one."""
    try:
        other = json.loads(head)["export"]
        keys = [key for key in sorted({*other, *identity}) if other.get(key) != identity.get(key)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f": its {', '.join(keys)} {'is' if len(keys) == 1 else 'are'} not that of this one" if keys else ""


def _written(write: Callable[[Path, Job], Mapping[str, Any] | None], item: tuple[Path, Job]) -> Any:
    return write(*item)


def _replace(path: Path, data: bytes) -> None:
    hidden = path.with_name(path.name + PARTIAL)
    with hidden.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(hidden, path)


def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
    return hasher.hexdigest()
