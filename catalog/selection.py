"""Which rows of a version are used: a split, an optional SQL condition on groups, as row ranges per shard.

Legend: n samples, E groups (of robots: episodes), R ranges or rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.kind import Geometry, Kind, check_flags, one
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, NothingSelected, UsageError, nearest

if TYPE_CHECKING:
    from robot_foundry.catalog.opened import OpenVersion

SPLITS = ("train", "val", "all")
SPLIT_BY = ("episode", "time")
DEFAULT_FRACTION = "1/10"
DEFAULT_GAP = 16
_MOST_ROWS = 1 << 40  # of a shard


@dataclass(frozen=True)
class SelectionSpec:
    """What to select; the same spec on the same version always gives the same rows.

    `split_by` 'episode': a group (of robots, an episode) is val when its hash is below `val_fraction` · 2⁶⁴.
    The hash is of its content alone (`Geometry.hash_E`), so it is on the same side in every version and
    mixture, and so are copies of it. If all selected groups would be val, the one with the greatest hash is
    train, with its copies: train is never empty.
    `split_by` 'time': the last `val_fraction` of every group is val, and the `gap` samples before it belong
    to neither split, so that no training chunk reaches into it (gap ≥ (horizon + history)·stride). A group
    too short to leave a sample on both sides is train. For datasets of few episodes.
    `where` is an SQL condition on what the kind says of a group. Of robots these are the columns of
    `Dataset.episodes()` and `instruction`, the first annotation; `attributes.NAME` is what the source says.
    `skip` are flags of the kind (`noop`, `intervention`, …): samples that have one of them are not selected.
    They are still seen and predicted from their neighbours.
    """

    split: str = "train"
    val_fraction: str = DEFAULT_FRACTION
    where: str | None = None
    split_by: str = "episode"
    gap: int = DEFAULT_GAP
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "skip", tuple(sorted(set(self.skip))))
        for name, value, choices in (("split", self.split, SPLITS), ("split_by", self.split_by, SPLIT_BY)):
            if value not in choices:
                listed = ", ".join(choices)
                raise UsageError(f"{name} '{value}' is none of {listed}{nearest(str(value), choices)}")
        try:
            fraction = Fraction(str(self.val_fraction))
        except (ValueError, ZeroDivisionError) as error:
            raise UsageError(f"val_fraction '{self.val_fraction}' is not a number or fraction") from error
        if not 0 <= fraction < 1:
            raise UsageError(f"val_fraction {self.val_fraction} is not in [0, 1)")
        if self.gap < 0:
            raise UsageError(f"gap {self.gap} is negative")
        object.__setattr__(self, "val_fraction", str(fraction))

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.val_fraction)

    def to_json(self) -> dict[str, Any]:
        """Only the keys that matter: what a split does not use does not enter an id."""
        spec = asdict(self)
        if self.split == "all":
            spec = {"split": "all", "where": self.where, "skip": self.skip}
        elif self.split_by == "episode":
            del spec["gap"]
        spec["skip"] = list(self.skip) or None
        return {name: value for name, value in spec.items() if value is not None}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> SelectionSpec:
        names = [item.name for item in fields(cls)]
        unknown = [f"'{name}'{nearest(name, names)}" for name in obj if name not in names]
        if unknown:
            raise UsageError(f"selection has the unknown keys {'; '.join(unknown)}")
        return cls(**obj)


@dataclass(frozen=True, eq=False)
class Selection:
    """The rows that a spec selects of a version. Samples count 0 … num_samples-1 in shard and row order."""

    version: Version
    spec: SelectionSpec
    num_groups: int
    shard_R: NDArray[np.int32]
    start_R: NDArray[np.int64]
    stop_R: NDArray[np.int64]
    _ends_R: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends_R", np.cumsum(self.stop_R - self.start_R))

    @classmethod
    def of(cls, opened: OpenVersion, spec: SelectionSpec) -> Selection:
        """The rows of a version; NothingSelected where there are none. `OpenVersion.select` keeps it."""
        kind, version = opened.kind, opened.version
        check_flags(spec.skip, kind.flags)
        groups = kind.geometry(opened, spec)
        if spec.where is not None:
            groups = groups.take(_matching(opened, spec.where))
        if not groups.length_E.any():
            raise _nothing_selected(kind, version, spec)
        begin_E, end_E = rows_of_split(spec, groups.hash_E, groups.length_E)
        kept = end_E > begin_E
        if not kept.any():
            raise _nothing_held_out(kind, version, spec, groups.num_groups)
        chosen = groups.take(kept)
        spans = chosen.shard_E, chosen.start_E + begin_E[kept], chosen.start_E + end_E[kept]
        num_groups = chosen.num_groups
        if spec.skip:
            spans, num_groups = _unflagged(opened, spec.skip, spans)
            if not num_groups:
                listed = " or ".join(spec.skip)
                raise NothingSelected(
                    f"no {one(kind.samples)} of {version} is left: all that are selected are {listed}",
                    hint=f"leave {version.dataset} out, or do not skip {listed}",
                )
        return cls(version, spec, num_groups, *_joined(*spans))

    @property
    def num_samples(self) -> int:
        return int(self._ends_R[-1])

    @cached_property
    def id(self) -> str:
        """32 hex digits of the version and the selected rows, however they were asked for."""
        hasher = hashlib.sha256()
        for array in (self.shard_R, self.start_R, self.stop_R):
            hasher.update(array.astype("<i8").tobytes())
        return digest_of({"version_id": self.version.version_id, "rows": hasher.hexdigest()})

    def ranges(self) -> list[tuple[int, int, int]]:
        """(shard ordinal, first row, row after the last) in order; ranges do not touch."""
        columns = (self.shard_R, self.start_R, self.stop_R)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def holds(self, groups: Geometry) -> NDArray[np.bool_]:
        """Which groups [E] of the version have their first sample in it."""
        shard_E = groups.shard_E.astype(np.int64)
        start_R = self.shard_R.astype(np.int64) * _MOST_ROWS + self.start_R
        range_E = np.searchsorted(start_R, shard_E * _MOST_ROWS + groups.start_E, side="right") - 1
        place_E = np.maximum(range_E, 0)
        in_range_E = (self.shard_R[place_E] == shard_E) & (groups.start_E < self.stop_R[place_E])
        return (range_E >= 0) & in_range_E

    def locate(self, sample_n: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Shard ordinal and row in that shard's tables of each sample [n]."""
        sample_n = np.asarray(sample_n, dtype=np.int64)
        if sample_n.size and (sample_n.min() < 0 or sample_n.max() >= self.num_samples):
            raise FoundryError(f"a sample lies outside 0 … {self.num_samples - 1} of {self.version}")
        range_n = np.searchsorted(self._ends_R, sample_n, side="right")
        from_end_n = self._ends_R[range_n] - sample_n
        return self.shard_R[range_n], self.stop_R[range_n] - from_end_n


def rows_of_split(
    spec: SelectionSpec, hash_E: NDArray[np.uint64], length_E: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last + 1 selected sample of each group; equal where none is."""
    begin_E, end_E = np.zeros_like(length_E), length_E.copy()
    if spec.split == "all":
        return begin_E, end_E
    if spec.split_by == "time":
        val_E = length_E * spec.fraction.numerator // spec.fraction.denominator
        train_E = length_E - val_E - spec.gap
        whole_E = (val_E < 1) | (train_E < 1)
        if spec.split == "train":
            return begin_E, np.where(whole_E, length_E, train_E)
        return np.where(whole_E, length_E, length_E - val_E), end_E
    held_out_E = is_below(spec.fraction, hash_E)
    filled_E = length_E > 0
    if held_out_E[filled_E].all():
        held_out_E &= hash_E != hash_E[filled_E].max()
    chosen_E = held_out_E if spec.split == "val" else ~held_out_E
    return begin_E, np.where(chosen_E, end_E, 0)


def is_below(fraction: Fraction, hash_E: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which hashes, as parts of 2⁶⁴, are less than `fraction`, exactly."""
    # In integers: hash < bound, where the bound may be 2⁶⁴ itself.
    bound = -(-(fraction.numerator << 64) // fraction.denominator)
    return np.zeros(len(hash_E), bool) if bound == 0 else hash_E <= np.uint64(bound - 1)


Spans = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]  # shard, first row, row after the last


def _unflagged(opened: OpenVersion, flags: Sequence[str], spans: Spans) -> tuple[Spans, int]:
    """The parts of spans of rows that have none of the flags, and how many of the spans have such a part."""
    shard_R, start_R, stop_R = spans
    pieces: list[Spans] = []
    num_spans = 0
    for shard in np.unique(shard_R):
        here = shard_R == shard
        clear_R = ~opened.kind.flagged(opened, int(shard), flags)
        num_clear_R1 = np.concatenate([[0], np.cumsum(clear_R)])
        num_spans += int((num_clear_R1[stop_R[here]] > num_clear_R1[start_R[here]]).sum())
        entered_R1 = np.zeros(len(clear_R) + 1, np.int64)  # spans that begin here, less those that end
        np.add.at(entered_R1, start_R[here], 1)
        np.add.at(entered_R1, stop_R[here], -1)
        chosen_R = clear_R & (np.cumsum(entered_R1[:-1]) > 0)
        edge_m = np.flatnonzero(np.diff(chosen_R, prepend=False, append=False))
        pieces.append((np.full(len(edge_m) // 2, shard, np.int32), edge_m[::2], edge_m[1::2]))
    shard_m, start_m, stop_m = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    return (shard_m, start_m, stop_m), num_spans


def _joined(
    shard_R: NDArray[np.int32], start_R: NDArray[np.int64], stop_R: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Sorted ranges, neighbours joined."""
    is_behind_R = (shard_R[1:] > shard_R[:-1]) | (
        (shard_R[1:] == shard_R[:-1]) & (start_R[1:] >= start_R[:-1])
    )
    if not is_behind_R.all():
        order = np.lexsort((start_R, shard_R))
        shard_R, start_R, stop_R = shard_R[order], start_R[order], stop_R[order]
    fresh_R = np.ones(len(shard_R), dtype=bool)
    fresh_R[1:] = (shard_R[1:] != shard_R[:-1]) | (start_R[1:] != stop_R[:-1])
    last_R = np.append(fresh_R[1:], True)
    return shard_R[fresh_R], start_R[fresh_R], stop_R[last_R]


def _matching(opened: OpenVersion, where: str) -> NDArray[np.int64]:
    """Numbers of the groups that the SQL condition holds for, ascending."""
    from robot_foundry.catalog.query.duck import query_tables

    asked, tables = opened.kind.conditions(opened, where)
    sql = f"SELECT _row FROM ({asked}) WHERE (\n{where}\n) ORDER BY _row"
    rows: NDArray[np.int64] = query_tables(sql, tables, f"where '{where}'")["_row"].to_numpy()
    return rows


def _nothing_selected(kind: Kind, version: Version, spec: SelectionSpec) -> NothingSelected:
    condition = f" where {spec.where}" if spec.where is not None else ""
    return NothingSelected(
        f"no {kind.samples} of {version} are selected{condition}",
        hint=f"foundry-data query 'SELECT * FROM \"{kind.groups}_{version}\" LIMIT 9' shows what conditions "
        "can be on",
    )


def _nothing_held_out(kind: Kind, version: Version, spec: SelectionSpec, groups: int) -> NothingSelected:
    of = f"{version} has {groups} {kind.groups if groups != 1 else one(kind.groups)}"
    if spec.split_by == "time":
        return NothingSelected(
            f"the val split is empty: {of}, each too short to hold out {spec.val_fraction} of it "
            f"after a gap of {spec.gap} {kind.samples}"
        )
    if kind.groups == kind.samples:
        hint = "a larger val_fraction holds out more of them, and the split 'all' has every one"
    else:
        hint = f"split_by 'time' holds out the end of every {one(kind.groups)} instead"
    return NothingSelected(
        f"the val split is empty: {of} and none falls into it at val_fraction {spec.val_fraction}", hint=hint
    )
