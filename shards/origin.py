"""Where a block of a shard comes from, and what of its unit is not in it: what heads of blocks tell alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robot_foundry.runtime.canonical import check_keys


@dataclass(frozen=True)
class Origin:
    """The unit of the source that a block is of, that unit's file, and what tells the file's content."""

    unit: str
    file: str
    content: str


@dataclass(frozen=True)
class Refusal:
    """Samples of a unit that were left out for one reason: how many, and the places of the first."""

    reason: str
    count: int
    first: tuple[str, ...]

    @classmethod
    def from_json(cls, obj: Mapping[str, Any], where: str) -> Refusal:
        """Strict inverse; ValueError or FoundryError for another."""
        check_keys(obj, ("reason", "count", "first"), where)
        refusal = cls(obj["reason"], obj["count"], tuple(obj["first"]))
        is_text = all(isinstance(text, str) for text in (refusal.reason, *refusal.first))
        if not is_text or type(refusal.count) is not int or refusal.count < 1:
            raise ValueError(f"{where} has a refusal that is none")
        return refusal
