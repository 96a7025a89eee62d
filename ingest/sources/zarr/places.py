"""Where the files of a replay buffer lie: beneath a folder, or in a zip. Both give bytes by path.

<root>/.zgroup, <root>/data/<array>/{.zarray, 0.0, 1.0, …}, <root>/meta/episode_ends/{.zarray, 0}
"""

from __future__ import annotations

import zipfile
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from robot_foundry.ingest.sources.base import GIT_LFS, Refused, SourceFile

GROUP, ARRAY, ATTRIBUTES, CONSOLIDATED = ".zgroup", ".zarray", ".zattrs", ".zmetadata"
# What describes an array or a group in format 3.
OF_FORMAT_3 = "zarr.json"
ZIP = ".zip"
ENDS = "meta/episode_ends"
_DESCRIBES = (GROUP, ARRAY, ATTRIBUTES, CONSOLIDATED, OF_FORMAT_3)
_DAMAGE = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, ValueError)


def is_claimed(path: str) -> bool:
    """Whether the file begins a replay buffer, or may."""
    name = path.rpartition("/")[2]
    return name in (GROUP, OF_FORMAT_3) or name.endswith(f".zarr{ZIP}")


def gathered(claimed: Sequence[str], listed: Collection[str]) -> list[tuple[str, Sequence[str]]]:
    """The file that stands for each replay buffer, with all that lies beneath it.

    It is that of the folder which has meta/episode_ends; of folders that none has, and that lie in none, the
    outermost, to be refused by name.
    """
    paths = set(listed)
    groups = {path.rpartition("/")[0]: path for path in sorted(claimed) if not path.endswith(ZIP)}
    ended = {root for root in groups if _has_ends(root, paths)}
    roots = {
        root: path for root, path in groups.items() if root in ended or _is_outermost(root, groups, ended)
    }
    beneath: dict[str, list[str]] = defaultdict(list)
    for path in sorted(paths):
        for root in _above(path):
            if root in roots:
                beneath[root].append(path)
                break
    made: list[tuple[str, Sequence[str]]] = [(path, ()) for path in claimed if path.endswith(ZIP)]
    made += [(path, [other for other in beneath[root] if other != path]) for root, path in roots.items()]
    return sorted(made, key=lambda entry: entry[0])


def _above(path: str) -> list[str]:
    """The folders that a file lies in, the innermost first; "" is the root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _has_ends(root: str, paths: Collection[str]) -> bool:
    ends = f"{root}/{ENDS}" if root else ENDS
    return any(f"{ends}/{name}" in paths for name in (ARRAY, OF_FORMAT_3))


def _is_outermost(root: str, groups: Collection[str], ended: Collection[str]) -> bool:
    """Whether it lies in no other group, and no replay buffer lies in it."""
    above = _above(f"{root}/{GROUP}")[1:] if root else []
    inside = f"{root}/" if root else ""
    return not any(other in groups for other in above) and not any(o.startswith(inside) for o in ended)


class Place(Protocol):
    """What lies in a replay buffer: `names` are paths beneath its root, `describing` those without data."""

    @property
    def names(self) -> Collection[str]: ...

    @property
    def describing(self) -> Collection[str]: ...

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file of these. Refused for more than `limit` bytes, and for damage."""
        ...


@dataclass(frozen=True)
class Folder:
    """The files beneath a folder that are at hand, by their paths in it; `listed` are all that there are."""

    files: dict[str, SourceFile]
    listed: frozenset[str]

    @property
    def names(self) -> Collection[str]:
        return self.listed

    @property
    def describing(self) -> Collection[str]:
        return describing(self.files)

    def read(self, name: str, limit: int) -> bytes:
        file = self.files[name]
        _check_size(name, file.size, limit)
        content = Path(file.root, file.path).read_bytes()
        if content.startswith(GIT_LFS):
            raise Refused(f"its file '{name}' is a Git LFS pointer, in place of which `git lfs pull` puts it")
        return content


@dataclass(frozen=True)
class Zip:
    """The members of a zip by their paths beneath the replay buffer in it."""

    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]
    describing: Collection[str]

    @property
    def names(self) -> Collection[str]:
        return self.members.keys()

    def read(self, name: str, limit: int) -> bytes:
        try:
            with self.archive.open(self.members[name]) as member:
                content = member.read(limit + 1)  # whatever its header says
        except _DAMAGE as error:
            raise Refused(f"its member '{name}' is damaged: {error}") from error
        _check_size(name, len(content), limit)
        return content


def place_of(file: SourceFile) -> Place:
    """Of a local file. Refused if nothing can be read there."""
    if file.path.endswith(ZIP):
        return _zip(Path(file.root, file.path), file.size, file.stamp)
    prefix = prefix_of(file)
    files = {entry.path.removeprefix(prefix): entry for entry in (file, *file.companions)}
    return Folder(files, frozenset(files))


def prefix_of(file: SourceFile) -> str:
    """What comes before the paths of a replay buffer in a folder."""
    return file.path[: len(file.path) - len(file.path.rpartition("/")[2])]


def describing(paths: Iterable[str]) -> list[str]:
    """Those of the paths that describe arrays and groups, and the episodes' ends, without the data."""
    return [path for path in paths if path.rpartition("/")[2] in _DESCRIBES or f"/{ENDS}/" in f"/{path}"]


# The list of a large zip takes a while, and its episodes are read one after the other. Only one stays, as the
# copy of a remote one keeps its space on the disk for as long as it is open.
@lru_cache(maxsize=1)
def _zip(path: Path, _size: int, _stamp: str) -> Zip:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        with path.open("rb") as head:
            if head.read(len(GIT_LFS)) == GIT_LFS:
                raise Refused(
                    "it is a Git LFS pointer, in place of which `git lfs pull` puts the data"
                ) from error
        raise Refused(f"it is no whole zip: {error}") from error
    named = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    found = sorted({name.removesuffix(f"{ENDS}/{kind}") for name in named for kind in (ARRAY, OF_FORMAT_3)
                    if f"/{name}".endswith(f"/{ENDS}/{kind}")})  # fmt: skip
    if len(found) > 1:
        raise Refused(f"it holds several replay buffers ({', '.join(found[:3])}): unpack it")
    prefix = found[0] if found else ""
    members = {name.removeprefix(prefix): info for name, info in named.items() if name.startswith(prefix)}
    return Zip(archive, members, describing(members))


def _check_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise Refused(f"its file '{name}' has more than the {limit} bytes that it may have")
