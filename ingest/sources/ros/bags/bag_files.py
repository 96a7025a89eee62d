"""Which files make one bag: a file, or the parts of a split recording with what lies beside them.

Told by names alone, so that a listing of an object store is enough; metadata.yaml is held against it when the
bag is opened.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from robot_foundry.ingest.sources.ros.options import BAG, RosOptions

STORAGE = re.compile(r"(?P<stem>.+)\.(?P<format>bag|db3|mcap)(\.zstd?)?")
NUMBERED = re.compile(r"(?P<name>.+)_(?P<number>\d+)")
METADATA = "metadata.yaml"
# Where SQLite keeps what it has not written into the database yet.
JOURNALS = ("-wal", "-journal")


def is_storage(path: str) -> bool:
    """Whether messages lie in a file of that name."""
    return STORAGE.fullmatch(PurePosixPath(path).name) is not None


def stem(path: str) -> str:
    """The name of a file of messages without what tells its format."""
    matched = STORAGE.fullmatch(PurePosixPath(path).name)
    return PurePosixPath(path).stem if matched is None else matched["stem"]


def part_order(path: str) -> tuple[str, int, str]:
    """Sorts the parts of a recording by their numbers: part 10 comes after part 9."""
    numbered = NUMBERED.fullmatch(stem(path))
    return (stem(path), -1, path) if numbered is None else (numbered["name"], int(numbered["number"]), path)


def gathered(
    claimed: Sequence[str], listed: Collection[str], options: RosOptions
) -> list[tuple[str, Sequence[str]]]:
    """The first file of every bag among those that are claimed, with all that is read together with it."""
    in_folder: dict[str, list[str]] = defaultdict(list)
    for path in claimed:
        in_folder[str(PurePosixPath(path).parent)].append(path)
    definitions = [path for path in listed if any(fnmatch.fnmatch(path, p) for p in options.definitions)]
    bags = []
    for folder, paths in in_folder.items():
        beside = [path for path in listed if str(PurePosixPath(path).parent) == folder]
        for parts in _bags(folder, paths, beside, options):
            names = [*parts[1:], *_companions(folder, parts, beside, options), *definitions]
            bags.append((parts[0], sorted(dict.fromkeys(names))))
    return sorted(bags)


def _bags(
    folder: str, paths: Iterable[str], beside: Collection[str], options: RosOptions
) -> Iterator[list[str]]:
    """The parts of each bag of a folder, in their order."""
    ordered = sorted(paths, key=part_order)
    storages = [path for path in beside if is_storage(path) and not path.endswith(".bag")]
    if _metadata(folder) in beside and set(storages) == set(ordered):
        yield ordered
        return
    joined: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in ordered:
        matched = STORAGE.fullmatch(PurePosixPath(path).name)
        numbered = NUMBERED.fullmatch(stem(path))
        # Numbered files may as well be recordings of their own.
        if matched is None or numbered is None or not options.split:
            yield [path]
        else:
            joined[numbered["name"], matched["format"]].append(path)
    yield from joined.values()


def _companions(
    folder: str, parts: Sequence[str], beside: Collection[str], options: RosOptions
) -> Iterator[str]:
    storages = [path for path in beside if is_storage(path)]
    # Of a file that was picked out of several, metadata.yaml tells what the others hold.
    if _metadata(folder) in beside and set(storages) == set(parts):
        yield _metadata(folder)
    for path in parts:
        yield from (f"{path}{suffix}" for suffix in JOURNALS if f"{path}{suffix}" in beside)
    for pattern in patterns_beside(parts[0], options):
        yield from (path for path in beside if fnmatch.fnmatch(PurePosixPath(path).name, pattern))


def patterns_beside(first: str, options: RosOptions) -> list[str]:
    """Shell patterns of the names of files that the spec reads beside a bag, whose first file is given."""
    times = options.episodes.times if options.episodes else None
    patterns = [*options.beside.values(), *([] if times is None else [times])]
    return [pattern.replace(BAG, stem(first)) for pattern in patterns]


def is_numbered(path: str) -> bool:
    """Whether the file is called as the parts of a split recording of ROS 2 are."""
    is_ros2 = not PurePosixPath(path).name.endswith(".bag")
    return is_ros2 and NUMBERED.fullmatch(stem(path)) is not None


def _metadata(folder: str) -> str:
    return METADATA if folder == "." else f"{folder}/{METADATA}"
