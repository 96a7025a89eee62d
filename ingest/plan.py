"""Which episodes go into which shard: fixed before the work, and local, so that a new unit moves few others.

Units keep the source's order. A shard ends after a unit whose own key says so, with the probability of its
size over the target; and around a file with several episodes. So a unit that is added, or a whole file,
changes only the shard that it falls into.

An episode that is too long for one shard is alone in its own: the head, with the first images and all that is
no image, and segments, which hold the later images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

from robot_foundry.ingest.sources.base import Layout, Unit
from robot_foundry.ingest.spec.spec import Content, content_json
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.keyed import key
from robot_foundry.shards.segments import Segment

INGEST_VERSION = 1
# Beyond this multiple of the target a shard ends whatever the keys say, and an episode is cut.
LARGEST = 4
# Of one episode in one tar, so that the index of a shard stays small beside what it points at.
MOST_FRAMES = 50_000


@dataclass(frozen=True)
class Group:
    """The units of one shard, sorted by key, and the shard's name.

    `segments` are the further shards of an episode that is too long for one.
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


def plan(units: Sequence[Unit], content: Content, layout: Layout, codecs: dict[str, str]) -> list[Group]:
    """Shards for the units, in the source's order. Pure: the same units give the same groups and names."""
    return [named(members, content, layout, codecs) for members in grouped(units, content, layout)]


def grouped(units: Sequence[Unit], content: Content, layout: Layout) -> Iterator[list[Unit]]:
    """The units of each shard. What their files hold, as far as fingerprints tell, decides nothing."""
    cut = partial(_bounds, layout=layout, target_bytes=content.shard_bytes)
    return _groups(units, content.shard_bytes, lambda unit: len(cut(unit)) > 2)


def named(members: Sequence[Unit], content: Content, layout: Layout, codecs: dict[str, str]) -> Group:
    """The shard of these units."""
    name = partial(_shard_key, members, content, layout, codecs)
    bounds = _bounds(members[0], layout, content.shard_bytes) if len(members) == 1 else [0, 0]
    if len(bounds) == 2:
        return Group(name(None), tuple(sorted(members, key=lambda unit: unit.key)))
    last = len(bounds) - 1
    parts = [Segment(name([start, end, last]), start, end) for start, end in pairwise(bounds)]
    return Group(parts[0].shard_key, tuple(members), tuple(parts[1:]))


def _bounds(unit: Unit, layout: Layout, target_bytes: int) -> list[int]:
    """Where the unit's frames are cut: [0, N] for not at all. What is not known before reading is not cut."""
    num_frames = unit.num_frames or 0
    if not layout.declared.has_images or num_frames < 2:
        return [0, num_frames]
    parts = max(ceil(num_frames / MOST_FRAMES), ceil(unit.num_bytes / (LARGEST * target_bytes)))
    parts = min(parts, num_frames)
    return [num_frames * part // parts for part in range(parts + 1)]


def _groups(units: Sequence[Unit], target_bytes: int, is_cut: Callable[[Unit], bool]) -> Iterator[list[Unit]]:
    group: list[Unit] = []
    for unit in units:
        if is_cut(unit):
            if group:
                yield group
            yield [unit]
            group = []
            continue
        if group and group[-1].file.path != unit.file.path and not (unit.alone and group[-1].alone):
            yield group
            group = []
        group.append(unit)
        is_full = sum(member.num_bytes for member in group) >= LARGEST * target_bytes
        if is_full or key("shard-boundary", unit.key) < unit.num_bytes / target_bytes * 2.0**64:
            yield group
            group = []
    if group:
        yield group


def _shard_key(
    group: Sequence[Unit],
    content: Content,
    layout: Layout,
    codecs: dict[str, str],
    part: list[int] | None,
) -> str:
    bytes_decided_by = {name: value for name, value in content_json(content).items() if name != "shard_bytes"}
    return digest_of(
        {
            "ingest": INGEST_VERSION,
            "layout": [layout.name, layout.version],
            "content": bytes_decided_by,
            "codecs": codecs if any(unit.encodes for unit in group) else {},
            "units": [_decided_by(unit) for unit in group],
            **({} if part is None else {"part": part}),
        }
    )


def _decided_by(unit: Unit) -> list[Any]:
    told = [unit.file.path, unit.episode, unit.file.fingerprint]
    return [*told, [list(text) for text in unit.texts]] if unit.texts else told
