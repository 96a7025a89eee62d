"""Storage in a folder: temporary file, fsync, then rename (replace) or hard link (exclusive create)."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from robot_foundry.runtime.durable import sync
from robot_foundry.runtime.errors import FoundryError, MissingFileError
from robot_foundry.runtime.folders import NOWHERE
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.storage.storage import checked_path, checked_prefix

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Beside the file that it becomes, so that the rename never crosses file systems; `list` leaves it out.
TEMPORARY_PREFIX = ".tmp-"
START_BYTES = 8 * 1024 * 1024


class LocalStorage:
    """See `Storage`. Folders are made on the first write."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root.expanduser()))

    def __repr__(self) -> str:
        return f"LocalStorage({self.url!r})"

    @property
    def url(self) -> str:
        return str(self.root)

    def read_bytes(self, path: str) -> bytes:
        with self._open(path) as file:
            return file.read()

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        with self._open(path) as file:
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise FoundryError(f"{self._place(path)} ends before byte {offset + size}")
        return data

    def size(self, path: str) -> int:
        try:
            return self._place(path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(path) from None

    def exists(self, path: str) -> bool:
        return self._place(path).is_file()

    def list(self, prefix: str = "") -> list[str]:
        paths = []
        top = self.root / checked_prefix(prefix)
        for folder, _, names in os.walk(top, onerror=_unless_nowhere, followlinks=True):
            relative = Path(folder).relative_to(self.root)
            paths += [(relative / name).as_posix() for name in names if not name.startswith(TEMPORARY_PREFIX)]
        return sorted(paths)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        sizes = {}
        for path in self.list(prefix):
            with suppress(MissingFileError):  # it was removed since, or is a link that leads nowhere
                sizes[path] = self.size(path)
        return sizes

    def write(self, path: str, data: bytes, *, durable: bool = True) -> None:
        if durable:
            with self.writer(path) as file:
                file.write(data)
            return
        target = self._place(path)
        with _temporary(target) as (file, temporary):
            file.write(data)
            file.flush()
            kill_point("storage-before-replace")
            os.replace(temporary, target)

    def create(self, path: str, data: bytes) -> bool:
        target = self._place(path)
        if target.exists():
            return False
        with _temporary(target) as (file, temporary):
            file.write(data)
            _flush(file)
            kill_point("storage-before-link")
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                raise _no_hard_links(target, error) from error
            kill_point("storage-after-link")
        sync(target.parent)
        return True

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        target = self._place(path)
        with _temporary(target) as (file, temporary):
            yield file
            _flush(file)
            kill_point("storage-before-rename")
            os.replace(temporary, target)
        sync(target.parent)

    def put(self, path: str, source: Path) -> None:
        with source.open("rb") as file, self.writer(path) as copy:
            shutil.copyfileobj(file, copy, START_BYTES)

    def delete(self, path: str) -> None:
        self._place(path).unlink(missing_ok=True)

    def local_path(self, path: str) -> Path | None:
        return self._place(path)

    def _place(self, path: str) -> Path:
        return self.root / checked_path(path)

    def _open(self, path: str) -> BinaryIO:
        try:
            return self._place(path).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(path) from None

    def _missing(self, path: str) -> MissingFileError:
        return MissingFileError(f"there is no file {self._place(path)}")


class _Started(io.BufferedWriter):
    """A file to write. Its bytes start for the disk as they come, so that little is left for the flush."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file)
        self._end = 0

    def write(self, data: ReadableBuffer, /) -> int:
        written = super().write(data)
        size = self.tell() - self._end
        if size >= START_BYTES and hasattr(os, "posix_fadvise"):  # macOS has none
            self.flush()
            # Linux can let go only of what is written, so it begins to write.
            os.posix_fadvise(self.fileno(), self._end, size, os.POSIX_FADV_DONTNEED)
            self._end += size
        return written


def _unless_nowhere(error: OSError) -> None:
    """What a folder holds that cannot be read is unknown, not nothing."""
    if error.errno not in NOWHERE:
        raise error


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside `target`, gone at the end unless it was renamed."""
    _make_folder(target.parent)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    try:
        with _Started(io.FileIO(temporary, "x")) as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    sync(folder.parent)


def _no_hard_links(target: Path, error: OSError) -> FoundryError | OSError:
    if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
        return error
    return FoundryError(
        f"the file system of {target.parent} has no hard links, which an exclusive create needs",
        hint="put the store on a file system such as ext4, xfs, APFS or NFS, or in an object store",
    )
