"""Storage in an object store through fsspec: objects appear whole, exclusive create is a conditional put."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from robot_foundry.runtime.errors import FoundryError, MissingFileError, UsageError
from robot_foundry.runtime.storage.storage import checked_path, checked_prefix

# The store in memory looks whether an object is there and then puts it, and all of a process share it: one
# creator at a time. Object stores decide by themselves.
_CREATING = threading.Lock()
# What the package of a scheme is called, for the hint when it is not installed.
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


class FsspecStorage:
    """See `Storage`. Credentials and endpoints come from the environment, as for the store's own tools."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") if not url.endswith("://") else url
        self._files, self._root = open_filesystem(self._url)
        self._is_memory = self._url.startswith("memory://")

    def __repr__(self) -> str:
        return f"FsspecStorage({self.url!r})"

    def __reduce__(self) -> tuple[type[FsspecStorage], tuple[str]]:
        return FsspecStorage, (self._url,)

    @property
    def url(self) -> str:
        return self._url

    def read_bytes(self, path: str) -> bytes:
        with self._missing_named(path):
            return bytes(self._files.cat_file(self._place(path)))

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        if size == 0:
            return b""
        with self._missing_named(path):
            try:
                data = bytes(self._files.cat_file(self._place(path), start=offset, end=offset + size))
            except FileNotFoundError:
                raise
            except Exception:  # each store has its own error for a range that begins after the end
                if offset < self.size(path):
                    raise
                data = b""
        if len(data) != size:
            raise FoundryError(f"{self._url}/{path} ends before byte {offset + size}")
        return data

    def size(self, path: str) -> int:
        with self._missing_named(path):
            return int(self._files.info(self._place(path))["size"])

    def exists(self, path: str) -> bool:
        try:
            # `isfile` also says no where the store does not answer.
            return bool(self._files.info(self._place(path))["type"] == "file")
        except FileNotFoundError:
            return False

    def list(self, prefix: str = "") -> list[str]:
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        folder = checked_prefix(prefix)
        start = len(self._root) + 1 if self._root else 0
        with self._missing_bucket_named():
            infos = self._files.find(f"{self._root}/{folder}" if folder else self._root, detail=True)
        return {name[start:]: int(info["size"]) for name, info in infos.items()}

    def write(self, path: str, data: bytes, *, durable: bool = True) -> None:
        with self._missing_bucket_named():
            self._files.pipe_file(self._place(path), data)

    def create(self, path: str, data: bytes) -> bool:
        try:
            with self._missing_bucket_named(), _CREATING if self._is_memory else nullcontext():
                self._files.pipe_file(self._place(path), data, mode="create")
        except FileExistsError:
            return False
        return True

    @contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        checked_path(path)
        with tempfile.TemporaryDirectory(prefix="robot-foundry-") as folder:
            local = Path(folder, "upload")
            with local.open("xb") as file:
                yield file
            self.put(path, local)

    def put(self, path: str, source: Path) -> None:
        with self._missing_bucket_named():
            self._files.put_file(str(source), self._place(path))

    def delete(self, path: str) -> None:
        if self.exists(path):
            self._files.rm_file(self._place(path))

    def local_path(self, path: str) -> Path | None:
        checked_path(path)
        return None

    def _place(self, path: str) -> str:
        return f"{self._root}/{checked_path(path)}"

    @contextmanager
    def _missing_named(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise MissingFileError(f"there is no object {self._url}/{path}") from None

    @contextmanager
    def _missing_bucket_named(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            bucket = self._root.partition("/")[0]
            raise MissingFileError(
                f"there is no bucket {bucket} for {self._url}", hint="make the bucket, or name another"
            ) from None


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of the URL, and the path in it without a final slash."""
    import fsspec

    scheme, _, place = url.partition("://")
    # A cached listing would hide what another process has committed since.
    options = {"use_listings_cache": False}
    logger = logging.getLogger(_PACKAGES.get(scheme, "fsspec"))
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # else gcsfs prints the traceback of what it raises
    try:
        if scheme in ("gs", "gcs"):
            # The class that fsspec would take asks over gRPC what kind of bucket it is, which an emulator
            # cannot answer, and in a zonal one overwrites where it is told to create.
            from gcsfs.core import GCSFileSystem

            return GCSFileSystem(**options), place.rstrip("/")
        files, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme, "fsspec")
        raise UsageError(
            f"{url} needs the package {package}, which is not installed", hint=f"pip install {package}"
        ) from error
    return files, str(root).rstrip("/")
