"""Where a source lies: one file, a folder, or what a glob pattern names; here or in an object store."""

from __future__ import annotations

import glob
import os
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from robot_foundry.runtime import files
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import NO_STAMP, FileStatus

LAST_CHARACTER = "\U0010ffff"


class Siblings(Collection[str]):
    """Paths of all files beneath a root, listed when they are first asked for; no links that lead nowhere."""

    def __init__(self, root: str) -> None:
        self._root = root

    @cached_property
    def listing(self) -> list[FileStatus]:
        """Links that lead nowhere as well."""
        return list(files.walk(self._root))

    @property
    def is_listed(self) -> bool:
        return "listing" in self.__dict__

    @cached_property
    def by_path(self) -> dict[str, FileStatus]:
        return {file.path: file for file in self.listing if file.stamp != NO_STAMP}

    def __contains__(self, path: object) -> bool:
        return path in self.by_path

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_path)

    def __len__(self) -> int:
        return len(self.by_path)

    @cached_property
    def lost(self) -> frozenset[str]:
        """The links that lead nowhere."""
        return frozenset(file.path for file in self.listing if file.stamp == NO_STAMP)

    @cached_property
    def sorted_paths(self) -> list[str]:
        return sorted(self.by_path)

    @cached_property
    def sorted_with_lost(self) -> list[str]:
        return sorted(self.by_path.keys() | self.lost)


class Beneath(Collection[str]):
    """Those of the siblings that lie in and beneath one folder, so that many folders take no long search.

    Links that lead nowhere are among them if `with_lost`.
    """

    def __init__(self, siblings: Siblings, folder: str, *, with_lost: bool = False) -> None:
        self._siblings, self._prefix = siblings, f"{folder}/" if folder else ""
        self._with_lost = with_lost

    @property
    def _sorted(self) -> list[str]:
        return self._siblings.sorted_with_lost if self._with_lost else self._siblings.sorted_paths

    @cached_property
    def _span(self) -> range:
        """Where they are among the sorted paths: of a flat folder with many files each has the same ones."""
        paths = self._sorted
        first = bisect_left(paths, self._prefix)
        return range(first, bisect_left(paths, self._prefix + LAST_CHARACTER, lo=first))

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str) or not path.startswith(self._prefix):
            return False
        return path in self._siblings or (self._with_lost and path in self._siblings.lost)

    def __iter__(self) -> Iterator[str]:
        paths = self._sorted
        return (paths[n] for n in self._span)

    def __len__(self) -> int:
        return len(self._span)


@dataclass(frozen=True)
class Listed:
    """What was found at a place. `named` says that the user gave this one file or pattern."""

    root: str
    files: Sequence[FileStatus]
    siblings: Siblings
    named: bool


def listed_at(source: str | Path) -> Listed:
    """The files of a file, a folder or a glob pattern, local or in an object store."""
    text = str(source)
    if files.is_remote(text):
        files.check_scheme(text)
        place = text.rstrip("/")
    else:
        place = str(Path(text).expanduser().absolute())
    if files.is_file(place):
        root, _, name = place.rpartition("/")
        root = root or "/"
        return Listed(root, [files.status(root, name)], Siblings(root), named=True)
    if glob.has_magic(place) and not files.is_folder(place):
        root, pattern = _before_magic(place)
        matching = list(files.matching(root, pattern))
        if not matching:
            raise _no_match(root, pattern, text)
        return Listed(root, matching, Siblings(root), named=True)
    siblings = Siblings(place)
    if not siblings.listing:
        if not files.is_remote(place) and Path(place).is_dir():
            raise UsageError(f"the folder {text} is empty", hint="give a file, a folder or a quoted glob")
        if not files.is_remote(place) and os.path.islink(place):
            raise UsageError(f"{text} is a link that leads nowhere: there is no {os.readlink(place)}")
        raise UsageError(f"there is no file or folder {text}", hint="give a file, a folder or a quoted glob")
    return Listed(place, siblings.listing, siblings, named=False)


def _before_magic(place: str) -> tuple[str, str]:
    """The folder above the first part of the path that has a wildcard, and the rest.

    A folder whose own name holds such characters is that folder.
    """
    parts = place.split("/")
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    while first < len(parts) - 1 and files.is_folder("/".join(parts[: first + 1])):
        later = (i for i in range(first + 1, len(parts) - 1) if glob.has_magic(parts[i]))
        first = next(later, len(parts) - 1)
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def _no_match(root: str, pattern: str, text: str) -> UsageError:
    """What of the pattern is there: folders alone, or nothing from one of its parts on."""
    error = UsageError(f"no file matches {text}")
    parts = pattern.split("/")
    if files.is_remote(root) or "**" in parts:
        return error
    folders = glob.glob(pattern, root_dir=root)
    if folders:
        count = "1 folder" if len(folders) == 1 else f"{len(folders)} folders"
        hint = (
            f"end the pattern with /* or /**/* to take what lies in {'it' if len(folders) == 1 else 'them'}"
        )
        return UsageError(f"no file matches {text}, only {count} ({folders[0]})", hint=hint)
    first = next(i for i in range(len(parts)) if not glob.glob("/".join(parts[: i + 1]), root_dir=root))
    above = os.path.join(root, *parts[:first])
    return UsageError(f"no file matches {text}: there is nothing that matches '{parts[first]}' in {above}")
