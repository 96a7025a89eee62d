"""Metadata by name, and the type that its values share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from robot_foundry.runtime.canonical import check_keys
from robot_foundry.runtime.errors import FoundryError

STRING, INTEGER, NUMBER, BOOLEAN, JSON = "string", "integer", "number", "boolean", "json"
TYPES = (STRING, INTEGER, NUMBER, BOOLEAN, JSON)
# An integer that float64 does not hold exactly, which is no type of a column.
LONG = "long"
MOST_COLUMNS = 256
_EXACT, _INT64 = range(-(2**53), 2**53 + 1), range(-(2**63), 2**63)
# By name, how many samples have a value of each type. Null is no value.
TypeCounts = dict[str, Counter[str]]


@dataclass(frozen=True)
class MetadataSchema:
    """`metadata` has the type of each column by its name in the source, in the order of names.

    `json` where values are of several types, or lists or objects. There are at most MOST_COLUMNS: of more
    names those that most samples have; the others are in the JSON of all metadata alone.
    """

    metadata: Mapping[str, str]

    @classmethod
    def of(cls, counts: TypeCounts) -> Self:
        """The columns of metadata with these values."""
        most_first = sorted(counts, key=lambda name: (-counts[name].total(), name))
        return cls({name: _shared(counts[name]) for name in sorted(most_first[:MOST_COLUMNS])})

    def to_json(self) -> dict[str, Any]:
        return {"metadata": dict(self.metadata)}

    @classmethod
    def from_json(cls, obj: Any, where: str) -> Self:
        """Strict inverse; FoundryError names `where`."""
        check_keys(obj, ("metadata",), where)
        metadata = obj["metadata"]
        if not isinstance(metadata, dict) or any(kind not in TYPES for kind in metadata.values()):
            raise FoundryError(f"{where} has a type that is none of {', '.join(TYPES)}")
        return cls(metadata)


def counted_types(metadata: Iterable[Mapping[str, Any]]) -> TypeCounts:
    """How many values of which type samples have, by name."""
    pairs = Counter((name, _type_of(value)) for values in metadata for name, value in values.items())
    counts: TypeCounts = {}
    for (name, kind), count in pairs.items():
        types = counts.setdefault(name, Counter())
        if kind is not None:
            types[kind] += count
    return counts


def merged_types(parts: Iterable[TypeCounts]) -> TypeCounts:
    """Of all samples, from their parts in any order."""
    counts: TypeCounts = {}
    for part in parts:
        for name, types in part.items():
            counts.setdefault(name, Counter()).update(types)
    return counts


def _type_of(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return INTEGER if value in _EXACT else LONG if value in _INT64 else JSON
    return STRING if isinstance(value, str) else NUMBER if isinstance(value, float) else JSON


def _shared(types: Mapping[str, int]) -> str:
    """The type that holds all values exactly."""
    there = {kind for kind, count in types.items() if count}
    if len(there) == 1:
        return INTEGER if there == {LONG} else there.pop()
    if there == {INTEGER, LONG}:
        return INTEGER
    return NUMBER if there == {INTEGER, NUMBER} else JSON
