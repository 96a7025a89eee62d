"""Which units go into which shard: fixed before the work, and local, so that a new unit moves few others.

Units keep the source's order. A shard ends after a unit whose own key says so, with the probability of its
size over the target; and around a file with several units. So a unit that is added, or a whole file, changes
only the shard that it falls into.

A unit that its kind cuts is alone in its own shard: the head, and segments, which hold its later samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from robot_foundry.ingest.kind import kind_of
from robot_foundry.ingest.sources import Unit, layout
from robot_foundry.ingest.sources.base import LARGEST
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.runtime.canonical import digest_of, sha256_hex
from robot_foundry.runtime.keyed import key
from robot_foundry.shards.segments import Segment

INGEST_VERSION = 1


@dataclass(frozen=True)
class PlannedShard:
    """The units of one shard, sorted by key, and the shard's name.

    `segments` are the further shards of a unit that is too long for one.
    """

    shard_key: str
    units: tuple[Unit, ...]
    segments: tuple[Segment, ...] = ()

    @property
    def shard_keys(self) -> list[str]:
        """Of the shard and its segments."""
        return [self.shard_key, *(segment.shard_key for segment in self.segments)]

    @property
    def num_bytes(self) -> int:
        return sum(unit.num_bytes for unit in self.units)


def plan(units: Sequence[Unit], spec: SourceSpec, codecs: dict[str, str]) -> list[PlannedShard]:
    """Shards for the units, in the source's order. Pure: the same units give the same shards and names."""
    return [named(members, spec, codecs) for members in grouped(units, spec)]


def grouped(units: Sequence[Unit], spec: SourceSpec) -> Iterator[list[Unit]]:
    """The units of each shard. What their files hold, as far as fingerprints tell, decides nothing."""
    bounds = kind_of(spec).bounds
    return _groups(units, spec.content.shard_bytes, lambda unit: len(bounds(unit, spec)) > 2)


def named(members: Sequence[Unit], spec: SourceSpec, codecs: dict[str, str]) -> PlannedShard:
    """The shard of these units."""
    name = partial(_shard_key, members, spec, codecs)
    bounds = kind_of(spec).bounds(members[0], spec) if len(members) == 1 else [0, 0]
    if len(bounds) == 2:
        return PlannedShard(name(None), tuple(sorted(members, key=lambda unit: unit.key)))
    last = len(bounds) - 1
    parts = [Segment(name([start, end, last]), start, end) for start, end in pairwise(bounds)]
    return PlannedShard(parts[0].shard_key, tuple(members), tuple(parts[1:]))


def batches(planned: Sequence[PlannedShard]) -> list[list[PlannedShard]]:
    """What one worker does in one go: the shards of one remote file together, so that it is fetched once."""
    made: list[list[PlannedShard]] = []
    for item in planned:
        file = item.units[0].file
        if made and file.is_remote and made[-1][-1].units[-1].file == file:
            made[-1].append(item)
        else:
            made.append([item])
    return made


def _groups(units: Sequence[Unit], target_bytes: int, is_cut: Callable[[Unit], bool]) -> Iterator[list[Unit]]:
    group: list[Unit] = []
    num_bytes = 0
    for unit in units:
        if is_cut(unit):
            if group:
                yield group
            yield [unit]
            group, num_bytes = [], 0
            continue
        if group and group[-1].file.path != unit.file.path and not (unit.alone and group[-1].alone):
            yield group
            group, num_bytes = [], 0
        group.append(unit)
        num_bytes += unit.num_bytes
        is_full = num_bytes >= LARGEST * target_bytes  # whatever the keys say
        if is_full or key("shard-boundary", unit.key) < unit.num_bytes / target_bytes * 2.0**64:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def _shard_key(
    group: Sequence[Unit], spec: SourceSpec, codecs: dict[str, str], part: list[int] | None
) -> str:
    reader, content = layout(spec.layout), spec.to_json()["content"]
    return digest_of(
        {
            "ingest": INGEST_VERSION,
            "layout": [reader.name, reader.version],
            "content": {name: value for name, value in content.items() if name != "shard_bytes"},
            "codecs": codecs if any(unit.encodes for unit in group) else {},
            "units": [_decided_by(unit) for unit in group],
            **({} if part is None else {"part": part}),
        }
    )


def _decided_by(unit: Unit) -> list[Any]:
    decisive: list[Any] = [unit.file.path, unit.id, unit.file.fingerprint]
    if unit.texts:
        decisive.append([list(text) for text in unit.texts])
    if unit.dropped:
        decisive.append({"dropped": sha256_hex(unit.dropped)})
    return decisive
