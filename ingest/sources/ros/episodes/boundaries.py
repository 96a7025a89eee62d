"""Where episodes begin and end in a bag: at pauses, by a trigger, or as a CSV file beside it says."""

from __future__ import annotations

import csv
import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import Any

from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.ros.bags.bag import Bag
from robot_foundry.ingest.sources.ros.bags.bag_files import patterns_beside, stem
from robot_foundry.ingest.sources.ros.bags.damage import Damage
from robot_foundry.ingest.sources.ros.episodes.triggers import Mark, marks_of, named
from robot_foundry.ingest.sources.ros.gather import Window, names_in
from robot_foundry.ingest.sources.ros.options import Episodes, RosOptions

NANOSECONDS = 1_000_000_000
# Whole numbers of so many digits are nanoseconds, as ROS writes them; all others are seconds.
DIGITS_OF_NS = 16
LARGEST_CSV = 16 << 20
START, STOP, OF_BAG = "start", "end", "bag"
TO_THE_END = "end"


@dataclass(frozen=True)
class Part:
    """An episode of a bag. `told` is what a CSV file says of it."""

    window: Window
    told: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """From it `window_of` gives the window."""
        stop = TO_THE_END if self.window.stop is None else self.window.stop
        return f"{self.window.start}-{stop}"


def window_of(unit_id: str) -> Window:
    start, _, stop = unit_id.partition("-")
    return Window(int(start), None if stop == TO_THE_END else int(stop))


def parts_of(bag: Bag, options: RosOptions, file: SourceFile) -> list[Part]:
    """The episodes of the bag, in order of time. Refused if there is none."""
    episodes = options.episodes
    assert episodes is not None
    if episodes.gap is not None:
        return list(_by_gaps(bag, options, episodes.gap, episodes.topic))
    by_file = episodes.times is not None
    parts = list(_listed(episodes, options, file) if by_file else _between(marks_of(bag, episodes)))
    if not parts:
        by = f"the file {episodes.times}" if by_file else "its trigger"
        raise Refused(f"no episode of it begins by {by}")
    return parts


def told_of(unit_id: str, options: RosOptions, file: SourceFile) -> dict[str, str]:
    """What a CSV file says of the episode of that name."""
    if options.episodes is None or options.episodes.times is None:
        return {}
    rows = _listed(options.episodes, options, file)
    return next((part.told for part in rows if part.id == unit_id), {})


def _by_gaps(bag: Bag, options: RosOptions, gap: float, topic: str | None) -> Iterator[Part]:
    topics = set(names_in(bag, options).values()) if topic is None else {named(bag, topic)}
    start, last = None, None
    for message in bag.messages(topics, Damage()):
        if start is None:
            start = message.received_ns
        elif last is not None and message.received_ns - last > gap * NANOSECONDS:
            yield Part(Window(start, last + 1))
            start = message.received_ns
        last = message.received_ns if last is None else max(last, message.received_ns)
    if start is not None and last is not None:
        yield Part(Window(start, last + 1))


def _between(marks: Iterable[Mark]) -> Iterator[Part]:
    """From a start to a stop, the next start, or the end of the bag."""
    start = None
    for time_ns, is_start in marks:
        if start is not None:
            yield Part(Window(start, time_ns))
        start = time_ns if is_start else None
    if start is not None:
        yield Part(Window(start, None))


def _listed(episodes: Episodes, options: RosOptions, file: SourceFile) -> Iterator[Part]:
    """The rows of the CSV file that are of this bag."""
    pattern = patterns_beside(file.path, options)[-1]
    beside = [
        item.path for item in file.companions if fnmatch.fnmatch(PurePosixPath(item.path).name, pattern)
    ]
    if not beside:
        raise Refused(f"there is no file {pattern} beside it, which content.ros.episodes.times names")
    path = Path(file.root, min(beside))
    if path.stat().st_size > LARGEST_CSV:
        raise Refused(f"its file {path.name} has {path.stat().st_size} bytes")
    names = {stem(file.path), PurePosixPath(file.path).name, PurePosixPath(file.path).parent.name}
    with path.open(encoding="utf-8-sig", newline="") as lines:
        try:
            rows = list(csv.DictReader(lines))
        except (csv.Error, UnicodeDecodeError) as error:
            raise Refused(f"its file {path.name} is no CSV file: {error}") from error
    for number, row in enumerate(rows, start=2):
        if row.get(OF_BAG) and row[OF_BAG] not in names:
            continue
        start, stop = (_time(row, column, path.name, number) for column in (START, STOP))
        if stop <= start:
            raise Refused(f"line {number} of its file {path.name} ends before it begins")
        told = {
            str(name): value
            for name, value in row.items()
            if isinstance(value, str) and value and name not in (START, STOP, OF_BAG, None)
        }
        yield Part(Window(start, stop), told)


def _time(row: dict[str, Any], column: str, name: str, number: int) -> int:
    """Nanoseconds since 1970."""
    text = (row.get(column) or "").strip()
    if text.isdigit() and len(text) >= DIGITS_OF_NS:
        return int(text)
    try:
        return int(Decimal(text) * NANOSECONDS)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise Refused(f"line {number} of its file {name} has no time under '{column}': {text!r}") from error
