"""What the bags of a source hold, before a spec says what is wanted: topics, types, numbers, fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from robot_foundry.ingest.files.places import listed_at
from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.ros.bags.bag import Bag, open_bag
from robot_foundry.ingest.sources.ros.bags.bag_files import gathered, is_storage
from robot_foundry.ingest.sources.ros.options import PRESENT_PARTS, RosOptions
from robot_foundry.ingest.sources.ros.times.sync import NANOSECONDS
from robot_foundry.ingest.sources.unusable import shown
from robot_foundry.runtime.errors import UsageError

# A bag without some of its parts, or with types of its own, is still worth a look.
OPTIONS = RosOptions(parts=PRESENT_PARTS)
LONGEST_NAME = 256


@dataclass(frozen=True)
class Topic:
    """`hz` is the mean over the bag, None where that says nothing; `fields` are paths with their types.

    `problem` says after the name of a type why no message of it can be decoded.
    """

    topic: str
    types: tuple[str, ...]
    messages: int
    hz: float | None
    fields: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True)
class Overview:
    """`refused` says why the bag cannot be read; `remarks` are sentences that follow its name."""

    path: str
    seconds: float
    topics: tuple[Topic, ...]
    remarks: tuple[str, ...] = ()
    refused: str | None = None


def bags_at(source: str | Path) -> list[SourceFile]:
    """The bags of a file, a folder or a pattern. UsageError if there is none."""
    listed = listed_at(source)
    claimed = sorted(file.path for file in listed.files if is_storage(file.path))
    if not claimed:
        raise UsageError(
            f"{source} holds no bag (.bag, .db3, .mcap)", hint="docs/ros.md says what a bag is made of"
        )
    by_path = {file.path: file for file in listed.files} | dict(listed.siblings.by_path)

    def file_of(path: str, companions: Sequence[str] = ()) -> SourceFile:
        status = by_path[path]
        beside = tuple(file_of(companion) for companion in companions)
        return SourceFile(listed.root, path, status.size, status.stamp, "", beside)

    return [file_of(first, others) for first, others in gathered(claimed, listed.siblings, OPTIONS)]


def overview(file: SourceFile) -> Overview:
    """What one bag says of itself; its messages are not read."""
    try:
        with file.at_hand() as here, open_bag(here, OPTIONS) as bag:
            first, last = bag.span
            seconds = max(last - first, 0) / NANOSECONDS
            return Overview(file.path, seconds, tuple(_topics(bag, seconds)), tuple(bag.remarks))
    except Refused as error:
        return Overview(file.path, 0.0, (), refused=error.message)


def _topics(bag: Bag, seconds: float) -> Iterator[Topic]:
    for name in bag.topics:
        channels = [channel for channel in bag.channels if channel.topic == name]
        count = bag.num_messages(name)
        fields = [field for channel in channels if channel.decode for field in channel.decode.fields()]
        yield Topic(
            shown(name, LONGEST_NAME),
            tuple(sorted({shown(channel.type, LONGEST_NAME) for channel in channels})),
            count,
            (count - 1) / seconds if count > 1 and seconds else None,
            tuple(dict.fromkeys(fields)),
            next((channel.problem for channel in channels if channel.problem), None),
        )
