"""Where bytes live: a folder or an object store, with atomic replace and exclusive create.

Paths are relative and '/'-separated. Whatever instant a writer dies at, a path holds its old content,
its new content, or nothing; never a part.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from robot_foundry.runtime.errors import UsageError, nearest

OBJECT_STORES = ("gcs", "gs", "memory", "s3")


class Storage(Protocol):
    """Files under one root. Safe to share between threads and to send to another process."""

    @property
    def url(self) -> str:
        """The root: an absolute folder, or an fsspec URL."""
        ...

    def read_bytes(self, path: str) -> bytes:
        """The whole file; `MissingFileError` if there is none."""
        ...

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset`; `FoundryError` if the file ends before."""
        ...

    def size(self, path: str) -> int:
        """Size in bytes; `MissingFileError` if there is no such file."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a file is at `path`; False for a folder."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Sorted paths of all files beneath the folder `prefix` ("" is the root): none where it is not there.

        An error where something in it cannot be read.
        """
        ...

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """The size in bytes of each file that `list` gives, by its path."""
        ...

    def write(self, path: str, data: bytes, *, durable: bool = True) -> None:
        """Put `data` at `path`, replacing what was there in one step.

        Where `durable` is False a power failure soon after may leave part of it, or nothing; see `cache`.
        """
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Put `data` at `path` only if nothing is there; of racing writers exactly one gets True."""
        ...

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A binary file to write; its content appears at `path` on a clean exit and never otherwise."""
        ...

    def put(self, path: str, source: Path) -> None:
        """Copy the local file `source` to `path`, replacing what was there in one step."""
        ...

    def delete(self, path: str) -> None:
        """Remove the file; nothing happens if there is none."""
        ...

    def local_path(self, path: str) -> Path | None:
        """The file's place on this machine for mmap, or None if it is not on a local disk."""
        ...


def open_storage(url: str | Path) -> Storage:
    """The storage at a folder (it need not exist yet), a file:// URL, or an s3://, gs:// or memory:// URL."""
    text = str(url)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _local(Path(text))
    if scheme == "file":
        return _local(Path(unquote(urlsplit(text).path)))
    if scheme in OBJECT_STORES:
        from robot_foundry.runtime.storage.storage_fsspec import FsspecStorage

        return FsspecStorage(text)
    raise UsageError(
        f"{text} has the unknown storage scheme {scheme!r}{nearest(scheme, OBJECT_STORES)}",
        hint="use a folder, s3://bucket/folder or gs://bucket/folder",
    )


def checked_path(path: str) -> str:
    """`path` itself if it is relative, '/'-separated and stays beneath the root; else `UsageError`."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or "\0" in path:
        raise UsageError(f"{path!r} is not a relative path inside the storage")
    return path


def checked_prefix(prefix: str) -> str:
    """A folder for `list`, without its trailing slash; "" is the root."""
    trimmed = prefix.removesuffix("/")
    return checked_path(trimmed) if trimmed else ""


def _local(root: Path) -> Storage:
    from robot_foundry.runtime.storage.storage_local import LocalStorage

    return LocalStorage(root)
