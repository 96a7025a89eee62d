"""What lies beneath a local folder: all of it, or what a glob pattern names.

Links are followed, but never into a folder that was passed on the way to them or that holds one of these: all
in there would be found again and again.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class _Entry:
    """A name in a folder; `below` is the folder of that name, None for a link that leads in a circle."""

    name: str
    is_folder: bool
    below: _Folder | None = None


@dataclass(frozen=True)
class _Folder:
    """`path` is relative to the root, `passed` the real paths of the folder and of all on the way to it."""

    place: str
    path: str
    passed: tuple[str, ...]

    def child(self, name: str, *, is_link: bool) -> _Folder | None:
        """The folder of that name; None for a link that leads in a circle."""
        place = os.path.join(self.place, name)
        real = os.path.realpath(place) if is_link else os.path.join(self.passed[-1], name)
        inside = real.rstrip("/") + "/"
        if is_link and any(f"{above}/".startswith(inside) for above in self.passed):
            return None
        return _Folder(place, os.path.join(self.path, name), (*self.passed, real))

    def entries(self) -> list[_Entry]:
        """All that is in it, by name."""
        try:
            with os.scandir(self.place) as scan:
                listed = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in scan)
        except FileNotFoundError:  # removed since it was listed
            return []
        return [
            _Entry(name, True, self.child(name, is_link=is_link)) if is_folder else _Entry(name, False)
            for name, is_folder, is_link in listed
        ]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in NOWHERE:  # a link to itself
            return False
        raise


def _top(root: str) -> _Folder:
    return _Folder(root, "", (os.path.realpath(root),))


def walk(root: str) -> Iterator[str]:
    """Relative paths of all that is no folder. OSError if a folder cannot be read."""
    stack = [_top(root)]
    while stack:
        folder = stack.pop()
        for entry in folder.entries():
            if not entry.is_folder:
                yield os.path.join(folder.path, entry.name)
            elif entry.below is not None:
                stack.append(entry.below)


def expand(root: str, pattern: str) -> Iterator[str]:
    """Those that match the pattern, each once, as Python's `glob` has it: `**` is any number of folders.

    What begins with a dot is matched by what does so, too. OSError if a folder that it leads into cannot be
    read.
    """
    parts = tuple(pattern.split("/"))
    seen: set[tuple[str, int]] = set()
    given: set[str] = set()
    stack = [(_top(root), 0)]
    while stack:
        folder, depth = stack.pop()
        if (folder.path, depth) in seen:
            continue
        seen.add((folder.path, depth))
        for path, below in _step(folder, parts, depth):
            if below is not None:
                stack.append(below)
            elif path not in given:
                given.add(path)
                yield path


def _step(
    folder: _Folder, parts: Sequence[str], depth: int
) -> Iterator[tuple[str, tuple[_Folder, int] | None]]:
    """What the part of the pattern at `depth` finds in the folder: files, and folders with the next depth."""
    part, is_last = parts[depth], depth == len(parts) - 1
    is_any = part == "**"
    if is_any and not is_last:
        yield "", (folder, depth + 1)
    if not glob.has_magic(part):
        yield from _named(folder, part, depth, is_last=is_last)
        return
    for entry in folder.entries():
        is_hidden = entry.name.startswith(".") and not part.startswith(".")
        if is_hidden or not (is_any or fnmatch.fnmatchcase(entry.name, part)):
            continue
        if is_last and not entry.is_folder:
            yield os.path.join(folder.path, entry.name), None
        elif entry.below is not None and (is_any or not is_last):
            yield "", (entry.below, depth if is_any else depth + 1)


def _named(
    folder: _Folder, name: str, depth: int, *, is_last: bool
) -> Iterator[tuple[str, tuple[_Folder, int] | None]]:
    """As `_step`, for a part without wildcards."""
    place = os.path.join(folder.place, name)
    is_folder = os.path.isdir(place)
    if is_last and os.path.lexists(place) and not is_folder:
        yield os.path.join(folder.path, name), None
    elif not is_last and is_folder:
        below = folder.child(name, is_link=os.path.islink(place) or name in ("", ".", ".."))
        if below is not None:
            yield "", (below, depth + 1)
