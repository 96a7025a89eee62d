"""Files that a source holds more than once: links to one file are taken once, copies give a warning."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from robot_foundry.checks.finding import listed
from robot_foundry.ingest.sources import SourceFile
from robot_foundry.ingest.sources.base import STORE_CHECKSUM
from robot_foundry.runtime import files
from robot_foundry.runtime.files import FileStatus

# An MD5 as object stores write it, with the number of parts where it is of their MD5s.
_CHECKSUM = re.compile(rf"{STORE_CHECKSUM}([0-9a-f]{{32}}(-\d+)?|[A-Za-z0-9+/]{{22}}==):\d+")


def taken_once(
    root: str, claimed: Sequence[FileStatus]
) -> tuple[list[FileStatus], tuple[tuple[str, str], ...]]:
    """The files, sorted by path, without those that are links to others of them; and these with the others.

    Of several links to one file, that is not there itself, the first counts as the file.
    """
    in_order = sorted(claimed, key=lambda file: file.path)
    if files.is_remote(root):
        return in_order, ()
    folders: dict[str, str] = {}
    top = os.path.realpath(root)
    real = {file.path: _real_path(root, file.path, folders) for file in in_order}
    chosen: dict[str, str] = {}
    for path, place in real.items():
        if place == os.path.join(top, path) or place not in chosen:
            chosen[place] = path
    again = tuple((path, chosen[place]) for path, place in real.items() if chosen[place] != path)
    dropped = {path for path, _ in again}
    return [file for file in in_order if file.path not in dropped], again


def _real_path(root: str, path: str, folders: dict[str, str]) -> str:
    """Where the file lies when all links are followed; `folders` is what is known of folders."""
    place = os.path.join(root, path)
    if os.path.islink(place):
        return os.path.realpath(place)
    folder, name = os.path.split(place)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def links_warning(again: Sequence[tuple[str, str]]) -> list[str]:
    """A sentence on links to files that are taken."""
    if not again:
        return []
    shown = listed([f"{path} is {file} again" for path, file in again])
    return [f"links to files of the source are taken once: {shown}"]


def lost_links_warning(paths: Sequence[str]) -> list[str]:
    """A sentence on links that lead nowhere."""
    if not paths:
        return []
    what = "a link that leads" if len(paths) == 1 else "links that lead"
    verb = "is" if len(paths) == 1 else "are"
    return [f"{listed(paths)} {verb} {what} nowhere"]


def copies_warning(content: Mapping[str, str], groups: str) -> list[str]:
    """A sentence on files of equal content, which is given by path; they hold `groups`, such as episodes."""
    by_content: dict[str, list[str]] = {}
    for path in sorted(content):
        by_content.setdefault(content[path], []).append(path)
    pairs = [(path, paths[0]) for paths in by_content.values() for path in paths[1:]]
    if not pairs:
        return []
    shown = listed([f"{path} holds what {first} holds" for path, first in pairs])
    return [
        f"the source has copies, whose {groups} count twice, on one side of every split: "
        f"{shown}; remove them from the source if that is not meant"
    ]


def content_by_path(files_read: Iterable[SourceFile]) -> dict[str, str]:
    """What tells the content of each file by path, as far as it is known without reading a remote one."""
    return {
        file.path: file.blake3
        for file in files_read
        if file.size
        and file.blake3
        and (not file.blake3.startswith(STORE_CHECKSUM) or _CHECKSUM.fullmatch(file.blake3))
    }
