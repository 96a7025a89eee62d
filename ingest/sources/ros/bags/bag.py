"""A bag that is open: its topics, how many messages it says that they have, and these in order of time."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from robot_foundry.checks.finding import listed
from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.formats.streams import ZSTD, blocks_of, compression_of, decompressed
from robot_foundry.ingest.sources.ros.bags.bag_files import (
    JOURNALS,
    METADATA,
    STORAGE,
    is_numbered,
    is_storage,
    part_order,
)
from robot_foundry.ingest.sources.ros.bags.container import (
    BEGINNING,
    FOR_EVER,
    Asked,
    Channel,
    Container,
    Message,
)
from robot_foundry.ingest.sources.ros.bags.containers import open_container
from robot_foundry.ingest.sources.ros.bags.damage import Damage
from robot_foundry.ingest.sources.ros.bags.decoders import Decoder
from robot_foundry.ingest.sources.ros.bags.definitions import Types, full_type
from robot_foundry.ingest.sources.ros.bags.metadata import Metadata, read_metadata
from robot_foundry.ingest.sources.ros.options import PRESENT_PARTS, RosOptions
from robot_foundry.ingest.sources.unusable import Broken

__all__ = ["Bag", "Channel", "Message", "open_bag"]

NUMBERED_ALONE = (
    f"has a number in its name and no {METADATA}, and is taken for a recording of its own: "
    "`--set content.ros.split=true` joins the parts of one"
)


@dataclass
class Bag:
    """`remarks` are what the user should know of it: sentences that follow its name."""

    parts: Sequence[tuple[Container, dict[int, Channel]]]
    folder: Path
    remarks: list[str] = field(default_factory=list)

    @property
    def channels(self) -> list[Channel]:
        return [channel for _, channels in self.parts for channel in channels.values()]

    @property
    def topics(self) -> list[str]:
        return sorted({channel.topic for channel in self.channels})

    @property
    def span(self) -> tuple[int, int]:
        """When its first and its last message came, in ns, by what its files say."""
        spans = [container.span for container, _ in self.parts]
        return min(start for start, _ in spans), max(end for _, end in spans)

    def num_messages(self, topic: str) -> int:
        return sum(channel.num_messages for channel in self.channels if channel.topic == topic)

    def read(self, channel: Channel, place: int, num_bytes: int) -> bytes:
        """The bytes of a message of the channel that has a place."""
        container, _ = self.parts[channel.part]
        return container.read(place, num_bytes)

    def named(self, topic: str) -> str | None:
        """The bag's name of a topic: with or without the slash before it; None if it has none."""
        topics = set(self.topics)
        both = (topic, topic.removeprefix("/"), f"/{topic}")
        return next((name for name in both if name in topics), None)

    def messages(
        self,
        topics: Collection[str],
        damage: Damage,
        start: int | None = None,
        stop: int | None = None,
        heads: Collection[str] = (),
    ) -> Iterator[Message]:
        """Those of the topics from `start` ns up to and without `stop`; parts follow each other.

        Of the topics `heads` the beginning of a message will do, where the file can be read so.
        """
        for container, channels in self.parts:
            wanted = {number: channel for number, channel in channels.items() if channel.topic in topics}
            if wanted:
                begun = {number for number, channel in wanted.items() if channel.topic in heads}
                low, high = (BEGINNING if start is None else start), (FOR_EVER if stop is None else stop)
                yield from container.messages(Asked(wanted, low, high, begun), damage)


@contextmanager
def open_bag(file: SourceFile, options: RosOptions) -> Iterator[Bag]:
    """The bag of a local file and its companions. Refused, in one sentence, if it cannot be used."""
    paths = {item.path: Path(file.root, item.path) for item in (file, *file.companions)}
    described = [paths[path] for path in paths if PurePosixPath(path).name == METADATA]
    metadata = read_metadata(described[0]) if described else None
    names = sorted((path for path in paths if is_storage(path)), key=part_order)
    remarks: list[str] = []
    if metadata is not None:
        names = _in_order(names, metadata, options, remarks)
    elif len(names) == 1 and is_numbered(names[0]) and not options.split:
        remarks.append(NUMBERED_ALONE)
    types = Types(options.typestore, [paths[path] for path in paths if path.endswith(".msg")])
    with ExitStack() as until_closed:
        parts: list[tuple[Container, dict[int, Channel]]] = []
        for name in names:
            ready = until_closed.enter_context(_made_ready(paths, name, remarks))
            container = until_closed.enter_context(open_container(ready, PurePosixPath(name).name))
            remarks += container.remarks
            first = sum(len(channels) for _, channels in parts)
            parts.append((container, _channels(container, types, len(parts), first)))
        bag = Bag(parts, paths[file.path].parent, remarks)
        if not any(channel.num_messages for channel in bag.channels):
            raise Refused("it holds no message")
        if metadata is not None:
            _check_counts(bag, metadata, is_whole=len(names) == len(metadata.parts))
        yield bag


def _in_order(names: Sequence[str], metadata: Metadata, options: RosOptions, remarks: list[str]) -> list[str]:
    """The parts as metadata.yaml orders them."""
    by_name = {_plain(path): path for path in names}
    named = list(dict.fromkeys(_plain(part) for part in metadata.parts))
    absent = [part for part in named if part not in by_name]
    if absent:
        count = f"{len(absent)} of its {len(named)} parts are not there ({listed(absent)})"
        if options.parts != PRESENT_PARTS or len(absent) == len(named):
            raise Refused(
                f"{count}, which its {METADATA} lists: fetch them, or "
                "`--set content.ros.parts=present` goes without"
            )
        remarks.append(f"is not whole: {count}")
    unlisted = [name for name in by_name if name not in named]
    if unlisted:
        raise Refused(f"its {METADATA} does not list {listed(unlisted)}: move what belongs to no bag away")
    return [by_name[part] for part in named if part in by_name]


def _plain(path: str) -> str:
    """The name of a part whether it is compressed or not: metadata.yaml has either."""
    matched = STORAGE.fullmatch(PurePosixPath(path).name)
    return PurePosixPath(path).name if matched is None else f"{matched['stem']}.{matched['format']}"


def _check_counts(bag: Bag, metadata: Metadata, *, is_whole: bool) -> None:
    """Tell where metadata.yaml does not agree with the files, which are the ones to be believed."""
    counts: Counter[str] = Counter()
    for channel in bag.channels:
        counts[channel.topic] += channel.num_messages
    unlike = [
        f"{topic} {metadata.counts.get(topic, 0)}, not {counts.get(topic, 0)}"
        for topic in sorted({*metadata.counts, *counts})
        if metadata.counts.get(topic, 0) != counts.get(topic, 0)
    ]
    if unlike and is_whole:
        bag.remarks.append(
            f"has a {METADATA} whose numbers of messages are not those of its files: {listed(unlike)}"
        )


def _channels(container: Container, types: Types, part: int, first: int) -> dict[int, Channel]:
    """The channels of a part by their connections, numbered from `first` on."""
    channels: dict[int, Channel] = {}
    for connection in container.connections:
        store = types.store(connection, is_ros1=container.is_ros1)
        decode, problem = None, None
        if isinstance(store, str):
            problem = store
        else:
            decode = Decoder(store, full_type(connection.msgtype), is_ros1=container.is_ros1)
        about = connection.topic, connection.msgtype, connection.msgcount
        number = first + len(channels)
        channels[connection.id] = Channel(*about, decode, problem, number, part)
    return channels


@contextmanager
def _made_ready(paths: dict[str, Path], name: str, remarks: list[str]) -> Iterator[Path]:
    """A file as rosbags can open it: decompressed, and with what lies in a journal beside it."""
    path = paths[name]
    journals = [paths[f"{name}{suffix}"] for suffix in JOURNALS if f"{name}{suffix}" in paths]
    journals = [journal for journal in journals if journal.stat().st_size]
    with path.open("rb") as file:
        is_zstd = compression_of(file.read(16)) == ZSTD
    if not is_zstd and not journals:
        yield path
        return
    with TemporaryDirectory(prefix="robot-foundry-") as folder:
        ready = Path(folder, _plain(name))
        if is_zstd:
            _decompress(path, ready, name)
        else:
            _settle(path, journals, ready, remarks)
        yield ready


def _decompress(path: Path, target: Path, name: str) -> None:
    try:
        with path.open("rb") as file, target.open("wb") as copy:
            for block in decompressed(blocks_of(file), ZSTD):
                copy.write(block)
    except (Refused, Broken) as error:
        raise Refused(f"its file {PurePosixPath(name).name} cannot be decompressed: {error}") from error


def _settle(path: Path, journals: Sequence[Path], target: Path, remarks: list[str]) -> None:
    """A copy of a database with what its journal holds; the source stays as it is."""
    shutil.copyfile(path, target)
    for journal in journals:
        shutil.copyfile(journal, target.with_name(journal.name.replace(path.name, target.name)))
    try:
        connection = sqlite3.connect(target)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise Refused(f"its journal {journals[0].name} cannot be read: {error}") from error
    remarks.append("was not closed: a part of it lies in the journal beside it, and is read from there")
