"""Pairs as a source has them: nothing of them is checked yet but that they can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robot_foundry.shards.pairs.pair import Turn


@dataclass(frozen=True)
class RawPicture:
    """A picture of the source: its own name there, and its bytes, or one sentence on why there are none.

    `member` is its member in the tar that the unit is, None elsewhere: what adoption needs.
    """

    name: str
    data: bytes | None
    absent: str | None = None
    member: str | None = None


@dataclass(frozen=True)
class RawPair:
    """See `shards.pairs.pair.Pair`. `unread` are endings of members of its sample that say nothing here."""

    id: str
    pictures: tuple[RawPicture, ...] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
