"""Kinds: what a version holds. Neutral code asks a kind, and never which one it is.

A version is groups of samples in shards: a group (an episode, a document) is held out whole and asked for by
SQL, a sample (a frame, a row of tokens) is what an order counts. A kind says what these are, which tables
describe them, and how they are selected, checked and shown; here as far as the catalogue goes. What goes into
a shard (`ingest.kind`) and what comes out of a loader (`loader.kind`) are further faces of the same name.

Legend: E groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.query.shown import Description, Distributions, SqlFace
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest

if TYPE_CHECKING:
    from robot_foundry.catalog.opened import OpenMixture, OpenVersion
    from robot_foundry.catalog.selection import Selection, SelectionSpec
    from robot_foundry.catalog.validation.tasks import Validator

MIXTURE = "mixture"
# What a mixture is of whose manifest does not say so: there was no other kind when the first were made.
FIRST = "robot"
# The packages of each kind, by room, where a module `kind` holds its face as KIND.
ROOMS: dict[str, Mapping[str, str]] = {
    "robot": {
        "catalog": "robot_foundry.catalog.robot",
        "ingest": "robot_foundry.ingest.robot",
        "loader": "robot_foundry.loader.robot",
    },
    "text": {
        "catalog": "robot_foundry.catalog.text",
        "ingest": "robot_foundry.ingest.text",
        "loader": "robot_foundry.loader.text",
    },
    "tokens": {
        "catalog": "robot_foundry.catalog.tokens",
        "ingest": "robot_foundry.ingest.tokens",
        "loader": "robot_foundry.loader.tokens",
    },
    "pairs": {
        "catalog": "robot_foundry.catalog.pairs",
        "ingest": "robot_foundry.ingest.pairs",
        "loader": "robot_foundry.loader.pairs",
    },
}


class Schema(Protocol):
    """What the columns of a version's tables mean; part of its identity."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Geometry:
    """Where the groups of a version lie, in the order of shards and rows.

    `shard_E` numbers shards in the manifest, `start_E` is the first row in the shard, `length_E` the samples;
    `hash_E` decides on which side of a split a group is: equal for equal content, wherever it lies. An entry
    may stand for several groups that lie one behind the other and are on one side: `count_E` says how many,
    one each where it is None.
    """

    shard_E: NDArray[np.int32]
    start_E: NDArray[np.int64]
    length_E: NDArray[np.int64]
    hash_E: NDArray[np.uint64]
    count_E: NDArray[np.int64] | None = None

    @property
    def num_groups(self) -> int:
        return len(self.hash_E) if self.count_E is None else int(self.count_E.sum())

    def take(self, entry_n: NDArray[np.integer | np.bool_]) -> Geometry:
        """That of the entries with these numbers, in their order, or of those for which it is True."""
        return Geometry(
            self.shard_E[entry_n],
            self.start_E[entry_n],
            self.length_E[entry_n],
            self.hash_E[entry_n],
            None if self.count_E is None else self.count_E[entry_n],
        )


class Kind(Protocol):
    """The catalogue's face of a kind.

    name          as manifests have it
    groups        the plural of what is held out whole: 'episodes'; `samples` of what is counted: 'frames'.
                  A manifest counts both by these names, and those of a shard as num_<groups>, num_<samples>
    left_out      what else a manifest counts of the source: groups that are not there for another reason than
                  that they cannot be read
    tables        names of the tables of a version; `shard_tables` of those of each shard, <table>/<shard key>
    flags         names of what may be said of a sample, so that a selection can leave it out
    """

    @property
    def name(self) -> str: ...

    @property
    def groups(self) -> str: ...

    @property
    def samples(self) -> str: ...

    @property
    def left_out(self) -> tuple[str, ...]: ...

    @property
    def tables(self) -> tuple[str, ...]: ...

    @property
    def shard_tables(self) -> tuple[str, ...]: ...

    @property
    def flags(self) -> tuple[str, ...]: ...

    def read_schema(self, obj: Mapping[str, Any], where: str) -> Schema:
        """Strict inverse of `Schema.to_json`; FoundryError names `where`."""
        ...

    def columns(self, table: str, schema: Any) -> pa.Schema:
        """The columns of a table of `tables` or `shard_tables`."""
        ...

    # How a version is selected from, and mixed with others.

    def geometry(self, opened: OpenVersion, spec: SelectionSpec | None) -> Geometry:
        """Where the groups lie, for a selection by `spec`; None asks for each group by itself.

        Entries may stand for several groups where `spec` holds or leaves out whole groups, by their hashes
        alone, and decides alike of all of an entry.
        """
        ...

    def conditions(self, opened: OpenVersion, where: str) -> tuple[str, Mapping[str, pa.Table]]:
        """What the SQL condition `where` is on: a query over the tables that come with it.

        It gives a row for each group, with the columns that can be asked of, and `_row`, the group's number
        in the geometry of groups by themselves.
        """
        ...

    def flagged(self, opened: OpenVersion, shard: int, flags: Sequence[str]) -> NDArray[np.bool_]:
        """Which rows of a shard, counted as `Geometry.start_E` counts them, have one of the flags."""
        ...

    def check_mixed(self, opened: OpenMixture) -> None:
        """FoundryError where the components cannot be used as one."""
        ...

    def doubts_of_mixture(self, opened: OpenMixture) -> list[str]:
        """What is allowed and probably not meant by such a mixture, one sentence each."""
        ...

    def columns_of_mixture(self, opened: OpenMixture) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """By what it is of, the columns of the mixture: `name`, `unit`, and `components`, who has it by name.

        Empty where every component has all.
        """
        ...

    # How it is shown: `ls`, `show`, `stats` and `query`.

    @property
    def sql(self) -> SqlFace: ...

    def describe(self, opened: OpenVersion) -> Description:
        """What `show` tells of a version."""
        ...

    def distributions(self, opened: OpenVersion, selection: Selection | None) -> Distributions:
        """What `stats` tells of a version, or of what a mixture selects of it; UsageError where it cannot."""
        ...

    # How it is validated.

    @property
    def doubts(self) -> tuple[str, ...]:
        """Names of the checks that doubt data in versions without damage."""
        ...

    @property
    def validator(self) -> Validator: ...


def one(plural: str) -> str:
    """What a kind counts, in the singular."""
    return plural.removesuffix("s")


def check_flags(names: Sequence[str], flags: Sequence[str]) -> None:
    """UsageError for a name that is none of the flags."""
    for name in names:
        if name not in flags:
            known = f"flags: {', '.join(flags)}" if flags else "samples of this kind have no flags"
            raise UsageError(f"there is no flag '{name}'{nearest(name, flags)} ({known})")


def all_flags() -> list[str]:
    """The flags of all kinds."""
    return list(dict.fromkeys(flag for name in ROOMS for flag in kind_named(name).flags))


def face(kind: str, room: str) -> Any:
    """What the kind of that name says in that room; FoundryError for a kind that is unknown."""
    if kind not in ROOMS:
        raise FoundryError(
            f"there is no kind '{kind}'{nearest(kind, ROOMS)} (kinds: {', '.join(sorted(ROOMS))})"
        )
    return import_module(f"{ROOMS[kind][room]}.kind").KIND


def all_kinds() -> list[Kind]:
    """The catalogue's faces of all kinds."""
    return [kind_named(name) for name in ROOMS]


def kind_named(name: str) -> Kind:
    """The catalogue's face of a kind."""
    kind: Kind = face(name, "catalog")
    return kind
