"""Which episodes go into which shard: fixed before the work, and local, so that a new unit moves few others.

Units keep the source's order. A shard ends after a unit whose own key says so, with the probability of its
size over the target; and around a file with several episodes. So a unit that is added, or a whole file,
changes only the shard that it falls into.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robot_foundry.ingest.sources.base import Layout, Unit
from robot_foundry.ingest.spec import Content, content_json
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.keyed import key

INGEST_VERSION = 1
# Beyond this multiple of the target a shard ends whatever the keys say.
LARGEST = 4


@dataclass(frozen=True)
class Group:
    """The units of one shard, sorted by key, and the shard's name."""

    shard_key: str
    units: tuple[Unit, ...]

    @property
    def num_bytes(self) -> int:
        return sum(unit.num_bytes for unit in self.units)


def plan(units: Sequence[Unit], content: Content, layout: Layout, codecs: dict[str, str]) -> list[Group]:
    """Shards for the units, in the source's order. Pure: the same units give the same groups and names."""
    return [
        Group(_shard_key(group, content, layout, codecs), tuple(sorted(group, key=lambda unit: unit.key)))
        for group in _groups(units, content.shard_bytes)
    ]


def _groups(units: Sequence[Unit], target_bytes: int) -> Iterator[list[Unit]]:
    group: list[Unit] = []
    for unit in units:
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


def _shard_key(group: Sequence[Unit], content: Content, layout: Layout, codecs: dict[str, str]) -> str:
    bytes_decided_by = {name: value for name, value in content_json(content).items() if name != "shard_bytes"}
    return digest_of(
        {
            "ingest": INGEST_VERSION,
            "layout": [layout.name, layout.version],
            "content": bytes_decided_by,
            "codecs": codecs,
            "units": [[unit.file.path, unit.episode, unit.file.fingerprint] for unit in group],
        }
    )
