"""Which rows of a version are used: a split, an optional SQL condition on episodes, as row ranges per shard.

Legend: n samples, E episodes, R ranges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.manifest import known_manifest
from robot_foundry.catalog.robot.episode_tables import COLUMN, expanded, numbered
from robot_foundry.catalog.robot.tables import Flag, flag_named, read_annotations, read_episodes, read_frames
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest

SPLITS = ("train", "val", "all")
SPLIT_BY = ("episode", "time")
DEFAULT_FRACTION = "1/10"
DEFAULT_GAP = 16
_MOST_ROWS = 1 << 40  # of a shard

_INSTRUCTIONS = (
    "SELECT key, first(text ORDER BY kind <> 'instruction', start, text) AS instruction "
    "FROM annotations GROUP BY key"
)


@dataclass(frozen=True)
class SelectionSpec:
    """What to select; the same spec on the same version always gives the same rows.

    `split_by` 'episode': an episode is val when its `split_hash` falls below `val_fraction` · 2⁶⁴. The hash
    is of the content of its source file and its id in there alone, so it is on the same side in every version
    and mixture, wherever the file lies and whatever it is called, and so are copies of it. If all selected
    episodes would be val, the one with the greatest hash is train, with its copies: train is never empty.
    `split_by` 'time': the last `val_fraction` of every episode is val, and the `gap` frames before it belong
    to neither split, so that no training chunk reaches into it (gap ≥ (horizon + history)·stride). An
    episode too short to leave a frame on both sides is train. For datasets of few episodes.
    `where` is an SQL condition over the columns of `Dataset.episodes()` and `instruction`, the first
    annotation; `attributes.NAME` is what the source says of an episode.
    `skip` are flags (`noop`, `intervention`, …): frames that have one of them are not selected. They are
    still seen and predicted from their neighbours.
    """

    split: str = "train"
    val_fraction: str = DEFAULT_FRACTION
    where: str | None = None
    split_by: str = "episode"
    gap: int = DEFAULT_GAP
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "skip", tuple(sorted(set(self.skip))))
        flag_named(*self.skip)
        for name, value, known in (("split", self.split, SPLITS), ("split_by", self.split_by, SPLIT_BY)):
            if value not in known:
                listed = ", ".join(known)
                raise UsageError(f"{name} '{value}' is none of {listed}{nearest(str(value), known)}")
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
        known = [item.name for item in fields(cls)]
        unknown = [f"'{name}'{nearest(name, known)}" for name in obj if name not in known]
        if unknown:
            raise UsageError(f"selection has the unknown keys {'; '.join(unknown)}")
        return cls(**obj)


@dataclass(frozen=True, eq=False)
class Selection:
    """The rows that a spec selects of a version. Samples count 0 … num_samples-1 in shard and row order."""

    version: Version
    spec: SelectionSpec
    num_episodes: int
    shard_R: NDArray[np.int32]
    start_R: NDArray[np.int64]
    stop_R: NDArray[np.int64]
    _ends_R: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends_R", np.cumsum(self.stop_R - self.start_R))

    @classmethod
    def of(
        cls, store: Store, version: Version, spec: SelectionSpec | Mapping[str, Any] | None = None
    ) -> Selection:
        """Select by `spec` or its JSON; None is the training split. Nothing selected raises FoundryError."""
        if not isinstance(spec, SelectionSpec):
            spec = SelectionSpec.from_json(spec or {})
        episodes = read_episodes(store, version)
        if spec.where is not None:
            episodes = _filtered(episodes, read_annotations(store, version), spec.where)
        shard_E = episodes["shard"].to_numpy()
        start_E = episodes["row_start"].to_numpy()
        length_E = episodes["num_frames"].to_numpy().astype(np.int64)
        if not length_E.any():
            condition = f" where {spec.where}" if spec.where is not None else ""
            raise FoundryError(
                f"no frames of {version} are selected{condition}",
                hint='foundry-data query "SELECT * FROM episodes" shows what conditions can be on',
            )
        begin_E, end_E = frames_of_split(spec, episodes["split_hash"].to_numpy(), length_E)
        if not (end_E > begin_E).any():
            raise _nothing_held_out(version, spec, len(length_E))
        kept = end_E > begin_E
        spans = shard_E[kept], (start_E + begin_E)[kept], (start_E + end_E)[kept]
        num_episodes = int(kept.sum())
        if spec.skip:
            spans, num_episodes = _unflagged(store, version, flag_named(*spec.skip), spans)
            if not num_episodes:
                listed = " or ".join(spec.skip)
                raise FoundryError(
                    f"no frame of {version} is left: all that are selected are {listed}",
                    hint=f"leave {version.dataset} out, or do not skip {listed}",
                )
        return cls(version, spec, num_episodes, *_joined(*spans))

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

    def holds(self, episodes: pa.Table) -> NDArray[np.bool_]:
        """Which episodes [E] of the version's table have their first frame in it."""
        shard_E, row_E = episodes["shard"].to_numpy().astype(np.int64), episodes["row_start"].to_numpy()
        start_R = self.shard_R.astype(np.int64) * _MOST_ROWS + self.start_R
        range_E = np.searchsorted(start_R, shard_E * _MOST_ROWS + row_E, side="right") - 1
        found_E = np.maximum(range_E, 0)
        return (range_E >= 0) & (self.shard_R[found_E] == shard_E) & (row_E < self.stop_R[found_E])

    def locate(self, sample_n: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Shard ordinal and row in that shard's frames table of each sample [n]."""
        sample_n = np.asarray(sample_n, dtype=np.int64)
        if sample_n.size and (sample_n.min() < 0 or sample_n.max() >= self.num_samples):
            raise FoundryError(f"a sample lies outside 0 … {self.num_samples - 1} of {self.version}")
        range_n = np.searchsorted(self._ends_R, sample_n, side="right")
        from_end_n = self._ends_R[range_n] - sample_n
        return self.shard_R[range_n], self.stop_R[range_n] - from_end_n


def frames_of_split(
    spec: SelectionSpec, hash_E: NDArray[np.uint64], length_E: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last + 1 selected frame of each episode; equal where none is."""
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
    # hash / 2⁶⁴ < fraction, in integers: hash < bound, where the bound may be 2⁶⁴ itself.
    bound = -(-(spec.fraction.numerator << 64) // spec.fraction.denominator)
    held_out_E = np.zeros(len(hash_E), bool) if bound == 0 else hash_E <= np.uint64(bound - 1)
    filled_E = length_E > 0
    if held_out_E[filled_E].all():
        held_out_E &= hash_E != hash_E[filled_E].max()
    chosen_E = held_out_E if spec.split == "val" else ~held_out_E
    return begin_E, np.where(chosen_E, end_E, 0)


Spans = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]  # shard, first row, row after the last


def _unflagged(store: Store, version: Version, flags: Flag, spans: Spans) -> tuple[Spans, int]:
    """The parts of spans of rows that have none of the flags, and how many of the spans have such a part."""
    entries = known_manifest(store, version).shards
    pieces: list[tuple[int, int, int]] = []
    num_spans, flagged_R, opened = 0, np.zeros(0, bool), -1
    for shard, start, stop in zip(*(column.tolist() for column in spans), strict=True):
        if shard != opened:  # episodes, and so spans, are in the order of shards
            table, opened = read_frames(store, version, entries[shard].key), shard
            flagged_R = (table["flags"].to_numpy() & int(flags)) != 0
        padded = np.concatenate([[True], flagged_R[start:stop], [True]])
        edges = start + np.flatnonzero(padded[1:] != padded[:-1])
        pieces += [(shard, *pair) for pair in edges.reshape(-1, 2).tolist()]
        num_spans += bool(len(edges))
    columns = np.array(pieces, np.int64).reshape(-1, 3).T
    return (columns[0].astype(np.int32), columns[1], columns[2]), num_spans


def _joined(
    shard_R: NDArray[np.int32], start_R: NDArray[np.int64], stop_R: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Sorted ranges, neighbours joined."""
    order = np.lexsort((start_R, shard_R))
    shard_R, start_R, stop_R = shard_R[order], start_R[order], stop_R[order]
    fresh_R = np.ones(len(shard_R), dtype=bool)
    fresh_R[1:] = (shard_R[1:] != shard_R[:-1]) | (start_R[1:] != stop_R[:-1])
    last_R = np.append(fresh_R[1:], True)
    return shard_R[fresh_R], start_R[fresh_R], stop_R[last_R]


def _filtered(episodes: pa.Table, annotations: pa.Table, where: str) -> pa.Table:
    from robot_foundry.catalog.duck import query_tables

    table = numbered(expanded(episodes) if COLUMN in where.lower() else episodes)
    table = table.append_column("_row", pa.array(np.arange(episodes.num_rows, dtype=np.int64)))
    sql = (
        f"SELECT _row FROM (SELECT e.*, i.instruction FROM episodes e LEFT JOIN ({_INSTRUCTIONS}) i "
        f"USING (key)) WHERE (\n{where}\n) ORDER BY _row"
    )
    rows = query_tables(sql, {"episodes": table, "annotations": annotations}, f"where '{where}'")
    return episodes.take(rows["_row"])


def _nothing_held_out(version: Version, spec: SelectionSpec, episodes: int) -> FoundryError:
    of = f"{version} has {episodes} episode{'s' if episodes != 1 else ''}"
    if spec.split_by == "time":
        return FoundryError(
            f"the val split is empty: {of}, each too short to hold out {spec.val_fraction} of it "
            f"after a gap of {spec.gap} frames"
        )
    return FoundryError(
        f"the val split is empty: {of} and none falls into it at val_fraction {spec.val_fraction}",
        hint="split_by 'time' holds out the end of every episode instead",
    )
