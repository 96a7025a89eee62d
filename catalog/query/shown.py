"""What a kind says of its versions, to people, to programs and to SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from robot_foundry.catalog.opened import OpenVersion
    from robot_foundry.normalization.digest import Digest

MOST_SHOWN = 5
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of a table of which SQL sees `columns`, expressions that are computed when a query asks."""

    table: pa.Table
    columns: str


@dataclass(frozen=True)
class RowTable:
    """Rows that SQL reads in place: those of a version as <name>_DATASET.

    Where there is an `of_all`, those of the newest versions of all datasets of the kind are <name>, which no
    other kind has then.
    """

    of_one: Callable[[OpenVersion], pa.Table | Rows]
    of_all: Callable[[Sequence[OpenVersion]], pa.Table] | None = None


@dataclass(frozen=True)
class SqlFace:
    """What SQL sees of the versions of a kind.

    columns   of `versions`, beside what every version has; those in `listed` are also columns of `datasets`
    tables    further tables of the catalogue, without the columns dataset, seq and version before them
    rows_of   from the schema of a version, the rows of these `tables`, and one row of `versions`
    in_place  tables that are read where they lie
    help      lines of (names, what they hold) about these, and `examples` of queries
    """

    columns: pa.Schema
    listed: tuple[str, ...]
    tables: Mapping[str, pa.Schema]
    rows_of: Callable[[Any], Mapping[str, Sequence[Row]]]
    in_place: Mapping[str, RowTable]
    help: Sequence[tuple[str, str]] = ()
    examples: Sequence[str] = ()


@dataclass(frozen=True)
class Description:
    """What `show` tells of a version beside what its manifest says.

    facts         for programs
    head, tail    lines of (label, text), before and behind those that all kinds have
    headers, rows a table below them
    without_line  parts of the provenance that get no line: for programs, or told by others
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    head: Sequence[tuple[str, str]] = ()
    tail: Sequence[tuple[str, str]] = ()
    headers: tuple[str, ...] = ()
    rows: Sequence[Sequence[object]] = ()
    without_line: tuple[str, ...] = ()


@dataclass(frozen=True)
class Distribution:
    """The values of one number: `of` what it is one, its name and unit, and a t-digest of all of them."""

    of: str
    name: str
    unit: str
    digest: Digest


@dataclass(frozen=True)
class Distributions:
    """What `stats` tells of a version.

    numbers  how each is distributed; they are `called` so, and `of` and `name` by `headers`
    counts   by what is counted, how many there are of each name
    """

    numbers: Sequence[Distribution]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    called: str = "numbers"
    headers: tuple[str, str] = ("of", "number")


def first_few(label: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    """A line for each of the first texts, and one that says how many more there are."""
    texts = list(texts)
    lines = [(label, text) for text in texts[:MOST_SHOWN]]
    more = len(texts) - MOST_SHOWN
    return [*lines, ("", f"… and {more:,} more (see --json)")] if more > 0 else lines
