"""Pictures in files of their own, as tables name them: found among the files of the source alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.formats.json_values import UnusableJson, type_of
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.raw import RawPicture

# Names by which the folder of the pictures is found.
MOST_TRIED = 1000
_IN = "_in_"
_ABSENT = (
    "its picture is not among the files of the source, which is to hold tables and pictures (content.images "
    "names the folder of these in it)"
)


class Pictures:
    """Files by path, and those of them that names in one folder lead to."""

    def __init__(self, files: Iterable[SourceFile]) -> None:
        self._by_path = {file.path: file for file in files}

    def folder(self, table: str, names: Sequence[str], content: Asked) -> str:
        """The folder in which most of the names are files: the asked, the table's, its parent or another.

        Refused where several other folders serve as well.
        """
        if content.images is not None:
            return content.images.strip("/")
        beside = table.rpartition("/")[0]
        near = [beside, *([beside.rpartition("/")[0]] if beside else [])]
        found = {folder: self._num_found(folder, names) for folder in near}
        best = max(near, key=found.__getitem__)
        if found[best] == len(names):
            return best
        others = self._others(names)
        others.update(found)
        most = max(others.values(), default=0)
        chosen = [folder for folder in others if others[folder] == most]
        if most == 0 or found[best] == most:
            return best
        if len(chosen) > 1:
            listed = " and ".join(sorted(chosen)[:2])
            raise Refused(f"its pictures may be those of {listed}: name the folder in content.images")
        return chosen[0]

    def file(self, folder: str, name: str) -> SourceFile | None:
        return self._by_path.get(_joined(folder, name))

    def _num_found(self, folder: str, names: Iterable[str]) -> int:
        return sum(_joined(folder, name) in self._by_path for name in names)

    def _others(self, names: Sequence[str]) -> dict[str, int]:
        """How many of the names are files in each folder in which one is."""
        found: dict[str, int] = {}
        for name in names:
            plain = _plain(name)
            for path in self._by_file_name.get(plain.rpartition("/")[2], ()):
                if path == plain or path.endswith(f"/{plain}"):
                    folder = path[: -len(plain)].rstrip("/")
                    found[folder] = found.get(folder, 0) + 1
        return found

    @cached_property
    def _by_file_name(self) -> dict[str, list[str]]:
        by_name: dict[str, list[str]] = {}
        for path in self._by_path:
            by_name.setdefault(path.rpartition("/")[2], []).append(path)
        return by_name


@dataclass
class FoundPart:
    """A part of a table: the files that it names, and how many bytes all of it has.

    As the `id` of a unit it is its `bounds` and the folder in which pictures are named.
    """

    bounds: str
    folder: str = ""
    num_bytes: int = 0
    files: dict[str, SourceFile] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.bounds}{_IN}{self.folder}" if self.folder else self.bounds

    def name(self, pictures: Pictures, names: Iterable[str]) -> None:
        """Add those of the pictures that the names lead to."""
        for name in names:
            picture = pictures.file(self.folder, name)
            if picture is not None and picture.path not in self.files:
                self.files[picture.path] = picture
                self.num_bytes += picture.size


def bounds_and_folder(unit: str) -> tuple[str, str]:
    """Of the `id` of a unit that is a `FoundPart`."""
    bounds, _, folder = unit.partition(_IN)
    return bounds, folder


@dataclass(frozen=True)
class NamedPictures:
    """The pictures of one unit: `files` at hand, which its table names in `folder`."""

    files: Pictures
    folder: str
    content: Asked

    def read(self, key: str, value: Any) -> RawPicture:
        """The picture that a value of a table names. UnusableJson if it is no name of one."""
        name = name_of(key, value)
        file = self.files.file(self.folder, name)
        path = _joined(self.folder, name)
        if file is None:
            return RawPicture(path, None, _ABSENT)
        if file.size > self.content.max_picture_bytes:
            return RawPicture(path, None, too_large(self.content))
        return RawPicture(path, Path(file.root, file.path).read_bytes())


def too_large(content: Asked) -> str:
    """Why there are no bytes of a picture that is larger than the spec allows."""
    return f"its picture has more than {content.max_picture_bytes} bytes (content.max_picture_bytes)"


def name_of(key: str, value: Any) -> str:
    """The name of a picture's file as a table has it: a text, or an object with a path.

    UnusableJson for what is none, for a URL, and for a path out of the source.
    """
    if isinstance(value, dict):
        value = value.get("path") or value.get("file_name")
    if not isinstance(value, str):
        raise UnusableJson(f"its '{key}' is {type_of(value)}, expected the name of a picture")
    if not value.strip():
        raise UnusableJson(f"its '{key}' is empty")
    if "://" in value:
        raise UnusableJson("its picture is named by a URL, which is not fetched: img2dataset does that")
    if value.startswith(("data:", "/9j/", "iVBOR")):
        raise UnusableJson("its picture stands in the table as base64, which is not read")
    parts = value.replace("\\", "/").split("/")
    if parts[0] in ("", "~") or ".." in parts or parts[0].endswith(":"):
        raise UnusableJson("the path of its picture leads out of the source")
    return value


def names_of(values: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """Those of the values, each behind its key, that are names."""
    for key, value in values:
        try:
            yield name_of(key, value)
        except UnusableJson:
            continue


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{_plain(name)}" if folder else _plain(name)


def _plain(name: str) -> str:
    """Without what leads nowhere: `./a//b` is `a/b`; Windows' separators are as those of others."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
