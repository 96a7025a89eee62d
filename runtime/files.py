"""Files that are only read: those of a source, in a local folder or beneath an fsspec URL.

A root is an absolute folder or a URL such as `s3://bucket/folder`. Paths are relative to it, '/'-separated.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from blake3 import blake3

from robot_foundry.runtime import folders
from robot_foundry.runtime.errors import FoundryError, MissingFileError, UsageError, nearest
from robot_foundry.runtime.storage.storage import OBJECT_STORES, checked_path
from robot_foundry.runtime.storage.storage_fsspec import open_filesystem

BLOCK_BYTES = 4 * 1024 * 1024
NO_STAMP = ""
# What object stores call the checksum of an object; where there is none, what changes with each write of it.
# At gs:// the ETag (`etag`) changes with the metadata, too, and an object composed of others has no MD5.
STAMPS = ("ETag", "md5Hash", "generation", "LastModified", "mtime", "created")


@dataclass(frozen=True, slots=True)
class FileStatus:
    """`stamp` changes when the content does: the ETag or MD5 of an object, mtime in ns of a local file.

    A link that leads nowhere has NO_STAMP.
    """

    path: str
    size: int
    stamp: str


def is_remote(place: str) -> bool:
    return "://" in place


def check_scheme(url: str) -> None:
    """UsageError if files at this URL cannot be read."""
    scheme = url.partition("://")[0]
    if scheme not in OBJECT_STORES:
        raise UsageError(
            f"{url} has the unknown scheme {scheme!r}{nearest(scheme, OBJECT_STORES)}",
            hint="use a local path, s3://bucket/folder or gs://bucket/folder",
        )


def status(root: str, path: str) -> FileStatus:
    """The file's size and stamp; MissingFileError if it is not there."""
    try:
        if not is_remote(root):
            os_stat = os.stat(Path(root, path))
            return FileStatus(path, os_stat.st_size, str(os_stat.st_mtime_ns))
        files, base = open_filesystem(root)
        with _reached(f"{root}/{path}", "read"):
            return _remote_status(path, files.info(f"{base}/{checked_path(path)}"))
    except FileNotFoundError:
        raise MissingFileError(f"there is no file {root}/{path}") from None


def is_file(place: str) -> bool:
    """Whether a file, or an object, is at this path or URL."""
    if not is_remote(place):
        return Path(place).is_file()
    return _remote_type(place) == "file"


def is_folder(place: str) -> bool:
    """Whether a folder, or objects beneath such a name, are at this path or URL."""
    if not is_remote(place):
        return Path(place).is_dir()
    return _remote_type(place) == "directory"


def _remote_type(place: str) -> str | None:
    """What is there: "file", "directory" or None."""
    files, path = open_filesystem(place)
    try:
        with _reached(place, "read"):
            # `isfile` and `isdir` also say no where the store does not answer.
            return str(files.info(path)["type"])
    except FileNotFoundError:
        return None


def walk(root: str) -> Iterator[FileStatus]:
    """All files beneath the root, in no certain order; links are followed, but not to a folder around them.

    A link that leads nowhere has no stamp. OSError if a folder cannot be read.
    """
    if is_remote(root):
        files, base = open_filesystem(root)
        with suppress(FileNotFoundError), _reached(root, "listed"):  # no such bucket
            yield from _remote(files.find(base, detail=True), base)
        return
    for path in folders.walk(root):
        yield from _local(root, path)


@contextmanager
def _reached(place: str, what: str) -> Iterator[None]:
    """One error for what the packages of object stores raise without network or credentials."""
    try:
        yield
    except (FileNotFoundError, FoundryError):
        raise
    except Exception as error:
        raise FoundryError(
            f"{place} cannot be {what}: {' '.join(str(error).split()) or type(error).__name__}",
            hint="look at the network and the credentials, then run the same command again",
        ) from error


def _local(root: str, path: str) -> Iterator[FileStatus]:
    """The status of what is a file, or a link that leads nowhere."""
    try:
        os_stat = os.stat(os.path.join(root, path))
    except OSError as error:
        if error.errno not in folders.NOWHERE:
            raise
        if os.path.islink(os.path.join(root, path)):
            yield FileStatus(path, 0, NO_STAMP)
        return
    if stat.S_ISREG(os_stat.st_mode):
        yield FileStatus(path, os_stat.st_size, str(os_stat.st_mtime_ns))


def matching(root: str, pattern: str) -> Iterator[FileStatus]:
    """The files beneath the root that match the glob `pattern` (`**` crosses folders).

    OSError if a folder that it leads into cannot be read.
    """
    if is_remote(root):
        files, base = open_filesystem(root)
        with suppress(FileNotFoundError), _reached(root, "listed"):  # no such bucket
            yield from _remote(files.glob(f"{glob.escape(base)}/{pattern}", detail=True), base)
        return
    for path in folders.expand(root, pattern):
        yield from _local(root, path)


def read_bytes(root: str, path: str) -> bytes:
    """The whole file, for small ones."""
    if not is_remote(root):
        return Path(root, path).read_bytes()
    files, base = open_filesystem(root)
    with _reached(f"{root}/{path}", "read"):
        return bytes(files.cat_file(f"{base}/{checked_path(path)}"))


def read_utf8(path: Path) -> str:
    """The text of a local file that the user wrote. UsageError if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8 in the editor that wrote it"
        ) from error


def content_hash(root: str, path: str, stop: Event | None = None) -> str:
    """The BLAKE3 of the content, 64 hex digits; the file is read once, in blocks.

    A local file is read no further once `stop` is set, by another thread: CancelledError.
    """
    if not is_remote(root):
        return _local_hash(Path(root, path), stop)
    return _read_through(root, path, None)


def _local_hash(path: Path, stop: Event | None) -> str:
    # Blocks as large as these, because a thread may wait for the interpreter between two of them.
    block = memoryview(bytearray(min(BLOCK_BYTES, path.stat().st_size + 1)))
    digest = blake3()
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            if stop is not None and stop.is_set():
                raise CancelledError
            digest.update(block[:size])
    return digest.hexdigest()


def download(root: str, path: str, target: Path) -> str:
    """Copy a remote file to the local `target`, and return the BLAKE3 of what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return _read_through(root, path, target)


def _read_through(root: str, path: str, target: Path | None) -> str:
    digest = blake3()
    with open(target or os.devnull, "wb") as copy:
        for block in _remote_blocks(root, path):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()


def _remote_blocks(root: str, path: str) -> Iterator[bytes]:
    files, base = open_filesystem(root)
    place = f"{base}/{checked_path(path)}"
    with (
        _reached(f"{root}/{path}", "read"),
        files.open(place, "rb", block_size=BLOCK_BYTES, cache_type="readahead") as source,
    ):
        while block := source.read(BLOCK_BYTES):
            yield block


def _remote(infos: dict[str, dict[str, Any]], base: str) -> Iterator[FileStatus]:
    for place, info in infos.items():
        if info.get("type") == "file" and not place.endswith("/"):
            yield _remote_status(place[len(base) :].lstrip("/"), info)


def _remote_status(path: str, info: dict[str, Any]) -> FileStatus:
    raw_stamp = next((info[name] for name in STAMPS if info.get(name) is not None), None)
    if raw_stamp is None:
        raise FoundryError(
            f"{path} has neither checksum nor time of change, so a change of it would go unseen"
        )
    stamp = str(raw_stamp.timestamp() if isinstance(raw_stamp, datetime) else raw_stamp).strip('"')
    return FileStatus(path, int(info["size"]), stamp)
