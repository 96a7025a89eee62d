"""Files and units of a source, and what every layout offers to the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Protocol

from robot_foundry.ingest.sources.declared import DeclaredLayout
from robot_foundry.runtime import files
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, MissingFileError

# What a source holds, as it is or where it lies in something larger.
Data = bytes | memoryview
# Before a fingerprint that an object store gave, where the content was not read.
STORE_CHECKSUM = "etag:"
Texts = tuple[tuple[str, str], ...]
# How the file begins that Git LFS puts in place of a large one.
GIT_LFS = b"version https://git-lfs"
# Of remote files, which may be many and small.
COPIES_AT_ONCE = 8
# A unit of more than this multiple of the spec's `shard_bytes` is cut, if its kind can.
LARGEST = 4
# In place of the fingerprint of a local file that was not read yet.
UNKNOWN = ""


class Refused(FoundryError):
    """A unit of the source cannot be read; the message is the reason, in one sentence. The rest goes on."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the source: `path` is '/'-separated and relative to `root`, a local folder or an fsspec URL.

    `size` and `stamp` (mtime in ns, or the ETag of an object) are what it had when it was looked at. `blake3`
    is of its content, or `etag:…` for an object that was not read yet. `companions` are files that are read
    together with it, under the same root.
    """

    root: str
    path: str
    size: int
    stamp: str
    blake3: str
    companions: tuple[SourceFile, ...] = ()

    @property
    def fingerprint(self) -> str:
        """What is known of the content of the file and its companions."""
        if not self.companions:
            return self.blake3
        return digest_of([self.blake3, [[file.path, file.blake3] for file in self.companions]])

    def fingerprinted(self, fingerprint: Callable[[str], str]) -> SourceFile:
        """The same file with the fingerprints, which are given by path."""
        companions = tuple(file.fingerprinted(fingerprint) for file in self.companions)
        return replace(self, blake3=fingerprint(self.path), companions=companions)

    @property
    def is_remote(self) -> bool:
        return files.is_remote(self.root)

    @property
    def num_bytes(self) -> int:
        """Size with the companions."""
        return self.size + sum(file.size for file in self.companions)

    @contextmanager
    def local(self) -> Iterator[Path]:
        """A local path of the file, with its companions at their relative places beside it.

        A remote file is copied, and the copy removed afterwards. FoundryError if the file has changed.
        """
        with self.at_hand() as file:
            yield Path(file.root, file.path)

    @contextmanager
    def at_hand(self) -> Iterator[SourceFile]:
        """The file itself if it is local, else a temporary local copy, whose `blake3` is of its content."""
        if self.is_remote:
            with TemporaryDirectory(prefix="robot-foundry-") as folder:
                yield self.copied(Path(folder))
            return
        self.check_unchanged()
        try:
            yield self
        except Refused:
            self.check_unchanged()  # a file that is still being written looks damaged
            raise
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """FoundryError if the file or a companion is no longer the one that was looked at."""
        for file in (self, *self.companions):
            try:
                status = files.status(file.root, file.path)
            except MissingFileError:
                raise _changed(file, "was removed") from None
            if (status.size, status.stamp) != (file.size, file.stamp):
                raise _changed(file, "changed")

    def copied(self, folder: Path) -> SourceFile:
        """A local copy of a remote file and its companions in the folder. FoundryError if one has changed."""
        blake3 = files.download(self.root, self.path, folder / self.path)
        self_only = replace(self, companions=())
        self_only.check_unchanged()
        if not self.blake3.startswith(STORE_CHECKSUM) and blake3 != self.blake3:
            raise _changed(self, "changed")
        copied = files.status(str(folder), self.path)
        return SourceFile(
            root=str(folder),
            path=self.path,
            size=copied.size,
            stamp=copied.stamp,
            blake3=blake3,
            companions=copied_into(folder, self.companions),
        )


def copied_into(folder: Path, remote: Sequence[SourceFile]) -> tuple[SourceFile, ...]:
    """Local copies of remote files in their order; several are fetched at once."""
    with ThreadPoolExecutor(COPIES_AT_ONCE) as pool:
        return tuple(pool.map(lambda file: file.copied(folder), remote))


def _changed(file: SourceFile, how: str) -> FoundryError:
    return FoundryError(
        f"{file.path} {how} while it was ingested", hint="run the same command when it is complete"
    )


@dataclass(frozen=True)
class Unit:
    """What a source is read by: an episode, or a part with many documents. A shard has whole ones only.

    `id` is the source's own name of it in its file, `key` names it in the tar, `num_bytes` is what it will
    take there, by estimate. `alone` is False for one in a file that holds several. `num_samples` is None
    where only reading tells. `encodes` is False if all is stored as the source holds it: then no encoder
    decides its bytes. `texts` is language of the whole unit that another file of the source tells: (kind,
    text). `whole_file` says that the file is this one unit, whose id is from its path. `dropped` are numbers
    of what it holds and is not to be taken, as little-endian uint32, ascending. `told` is what the user
    should know of its arrays, each by its name, as far as headers tell.
    """

    file: SourceFile
    id: str
    key: str
    num_bytes: int
    alone: bool
    num_samples: int | None = None
    encodes: bool = True
    texts: Texts = ()
    whole_file: bool = False
    dropped: bytes = b""
    told: Texts = ()

    @property
    def name(self) -> str:
        return f"{self.file.path}#{self.id}"

    def fingerprinted(self, fingerprint: Callable[[str], str]) -> Unit:
        """The same unit with the fingerprints of its files, which are given by path."""
        return replace(self, file=self.file.fingerprinted(fingerprint))


class Layout(Protocol):
    """`version` is raised whenever the reader takes other bytes from the same source."""

    declared: ClassVar[DeclaredLayout]
    version: ClassVar[int]

    @property
    def name(self) -> str:
        return self.declared.name

    def claims(self, path: str) -> bool:
        """Whether a file of a folder is one of this layout's, by its relative path alone."""
        ...

    def companions(self, path: str, listed: Collection[str]) -> tuple[str, ...]:
        """Which of the `listed` relative paths are read together with the file that is claimed.

        Listed is what lies in and beneath the folder of the file.
        """
        return ()

    def together(
        self, claimed: Sequence[str], listed: Collection[str], content: Any
    ) -> Sequence[tuple[str, Sequence[str]]] | None:
        """The files that units are of, among those that are claimed, each with its companions.

        None where `companions` tells of each file what belongs to it, and no claimed file belongs to another.
        `claimed` is sorted, `listed` is all that lies beneath the root. Files of equal companions may share
        one sequence, which is then held once.
        """
        return None

    def shared(self, listed: Collection[str]) -> tuple[str, ...]:
        """Which of the relative paths beneath the root tell of many units, in a fixed order."""
        return ()

    def texts(self, path: str, content: bytes) -> Mapping[str, Texts]:
        """Language that such a file tells, by the unit's `id`. FoundryError if it is damaged."""
        return {}

    def needless(self, path: str) -> bool:
        """Whether a file beneath the root belongs to the layout and says nothing that is wanted."""
        return False

    def tells_of_others(self, path: str) -> bool:
        """Whether a claimed file holds no units itself, but tells of those that other files should hold."""
        return False

    def missing(self, root: str, paths: Sequence[str]) -> list[str]:
        """What the source says that it has and that is not among its files, a sentence each."""
        return []

    def again(self, units: Sequence[Unit]) -> list[tuple[Unit, str]]:
        """Those of all units of a source, in order, that another one is already, each with the reason."""
        return []

    def list_units(self, file: SourceFile, content: Any) -> tuple[list[Unit], list[tuple[str, str]]]:
        """The units in the file in the source's own order, and (unit name, reason) of each refused one.

        `content` is that of the spec. Raises Refused if the file as a whole cannot be read.
        """
        ...
