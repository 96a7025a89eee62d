"""Statistics of datasets and of what a policy is trained on, from canonical tables alone.

Every summary is one flat `Statistics.merge_all` over leaves: blocks of rows whose borders depend on the data
alone. So it has the same bits whatever the workers.

Legend: N selected rows, R ranges of them, T steps of the horizon, S state dims, A action dims, E episodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version as package_version
from math import gcd
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.mixture import over_split
from robot_foundry.catalog.opened import OpenMixture, Part
from robot_foundry.catalog.robot.episode_tables import episode_rates
from robot_foundry.catalog.robot.schema import Schema, schema_of
from robot_foundry.catalog.robot.tables import Flag, flag_named, frames_schema_of
from robot_foundry.catalog.robot.unions import unions_of
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.tables import named_table
from robot_foundry.catalog.version import Version
from robot_foundry.normalization.representation import Representation, represented
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.storage.cache import keep, kept
from robot_foundry.windows.chunks import Anchors, Frames, WindowPlan, encoded, windows
from robot_foundry.windows.timing import Steps, Timing

FORMAT = 3
BLOCK_ROWS = 4096
WEIGHTINGS = ("count", "mixture")


@dataclass(frozen=True)
class ChunkStatistics:
    """Over the unions of a mixture: absolute states, encoded chunks, and these by offset, if asked for.

    `offsets` has one entry for each step of the horizon, the longest that a dataset of the mixture has.
    """

    state: Statistics
    action: Statistics
    offsets: tuple[Statistics, ...] = ()

    def to_json(self) -> dict[str, Any]:
        offsets = [statistics.to_json() for statistics in self.offsets]
        return {"state": self.state.to_json(), "action": self.action.to_json(), "offsets": offsets}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> ChunkStatistics:
        read = Statistics.from_json
        return cls(read(obj["state"]), read(obj["action"]), tuple(read(text) for text in obj["offsets"]))


def representation_statistics(opened: OpenMixture, **options: Any) -> tuple[Statistics, Statistics]:
    """(state, action) of `chunk_statistics`, which has the options: all offsets of a chunk pooled."""
    statistics = chunk_statistics(opened, **options)
    return statistics.state, statistics.action


def chunk_statistics(
    opened: OpenMixture,
    *,
    stream: str = "next_state",
    representation: str = "relative_tool",
    horizon: int | str = 16,
    stride: int | str = 1,
    control_hz: float | None = None,
    masked: Sequence[str] = (),
    per_offset: bool = False,
    weighting: str = "count",
    workers: int = 0,
    quiet: bool = True,
) -> ChunkStatistics:
    """Statistics of the states and of the encoded chunks of the training split of a mixture, over its unions.

    States are absolute and of the anchors; chunks are those of the loader (`windows` makes both). Left out
    are steps past the end of the episode, rows flagged invalid or with a flag of `masked`, anchors whose
    state is flagged invalid, and (counted in the digests) values that are not finite.

    `weighting` 'count': every row counts once. 'mixture': rows count as often as the weights draw them, by
    leaves scaled to whole multiples (`Digest.scaled`, see docs/actions.md), and `count` is in such multiples.
    Cached in the store, keyed by all that defines them.
    """
    if weighting not in WEIGHTINGS:
        listed = ", ".join(WEIGHTINGS)
        raise UsageError(f"weighting '{weighting}' is none of {listed}{nearest(weighting, WEIGHTINGS)}")
    opened = over_split(opened, "train")
    store, mixture = opened.store, opened.mixture
    unions = unions_of(opened)
    unions.check_stream(stream)
    timing = Timing(horizon, 1, stride, control_hz)
    wanted = _Wanted(
        stream, str(Representation.parse(representation)), timing, flag_named(*masked), per_offset
    )
    over = unions.state, represented_union(unions.schemas, stream, wanted.representation)
    identity = _identity(opened, wanted, over)
    weights = {"count": None, "mixture": [component.weight for component in mixture.components]}
    caches = {
        kind: store.statistics_cache(digest_of({**identity, "weights": weights[kind]})) for kind in WEIGHTINGS
    }
    cached = kept(store.storage, caches[weighting])
    if cached is not None:
        return ChunkStatistics.from_json(json.loads(cached))
    steps = [timing.steps(unions.schemas[c.name].fps, c.name) for c in mixture.components]
    leaves = _leaves(opened, wanted, steps, over, workers=workers, quiet=quiet)
    _check_counted(mixture, leaves, masked)
    multiples = frame_multiples(mixture, max(item.horizon for item in steps))
    merged = {}
    for kind in dict.fromkeys(("count", weighting)):  # the plain one costs little once the leaves are there
        times = multiples if kind == "mixture" else [1] * len(mixture.components)
        merged[kind] = _merged(leaves, times)
        with suppress(OSError):  # the store may be one that this user can only read
            keep(store.storage, caches[kind], canonical_json(merged[kind].to_json()))
    return merged[weighting]


def represented_union(schemas: Mapping[str, Schema], stream: str, representation: str) -> ActionSpace:
    """The union of a stream of several schemas, in `representation`."""
    parts = [
        represented(schema.space(stream), representation, schema.state_space()) for schema in schemas.values()
    ]
    try:
        return ActionSpace.union(*parts, embodiments=[schema.embodiment for schema in schemas.values()])
    except FoundryError as error:
        raise FoundryError(
            f"{', '.join(schemas)} cannot be mixed as {representation}: {error}",
            hint="data.window.representation=relative_base (or absolute) is one representation for all",
        ) from error


@dataclass(frozen=True)
class _Wanted:
    stream: str
    representation: str
    timing: Timing
    masked: Flag
    per_offset: bool


def _identity(
    opened: OpenMixture, wanted: _Wanted, unions: tuple[ActionSpace, ActionSpace]
) -> dict[str, Any]:
    """All that decides the statistics but the weights."""
    timing = wanted.timing
    return {
        "format": FORMAT,
        "digests": package_version("fastdigest"),
        "rows": [[part.component.version_id, part.select().id] for part in opened.parts],
        "spaces": [union.to_json() for union in unions],
        "window": [
            wanted.stream,
            wanted.representation,
            timing.horizon,
            timing.stride,
            timing.control_hz,
            int(wanted.masked),
            wanted.per_offset,
        ],
    }


@dataclass(frozen=True)
class _Leaf:
    """Statistics of a block of anchors of component number `component`: all offsets, then each if wanted."""

    component: int
    state: Statistics
    action: tuple[Statistics, ...]


@dataclass(frozen=True)
class _Task:
    """One shard of a component: ranges [R] of anchor rows, and of its episodes [E] the first and last + 1 row
    and the rows from one step to the next."""

    store: Store
    version: Version
    stream: str
    name: str  # of the frames table
    file: TableFile
    columns: pa.Schema
    component: int
    embodiment: str
    plan: WindowPlan
    per_offset: bool
    start_R: NDArray[np.int64]
    stop_R: NDArray[np.int64]
    first_E: NDArray[np.int64]
    end_E: NDArray[np.int64]
    step_E: NDArray[np.float64]


def _leaves(
    opened: OpenMixture,
    wanted: _Wanted,
    steps: Sequence[Steps],
    unions: tuple[ActionSpace, ActionSpace],
    *,
    workers: int,
    quiet: bool,
) -> list[_Leaf]:
    """The leaves of all components over the unions, in no certain order."""
    longest = max(item.horizon for item in steps)
    tasks = [
        task
        for number, part in enumerate(opened.parts)
        for task in _tasks(part, number, wanted, steps[number], longest)
    ]
    union_leaves = []
    with Progress(len(tasks), "shards", "statistics", quiet=quiet) as progress:
        for index, leaves in unordered_map(_shard_leaves, tasks, workers=workers):
            embodiment = tasks[index].embodiment
            for leaf in leaves:
                state = leaf.state.into(unions[0], embodiment=embodiment)
                action = tuple(part.into(unions[1], embodiment=embodiment) for part in leaf.action)
                union_leaves.append(_Leaf(leaf.component, state, action))
            progress.advance()
    return union_leaves


def _check_counted(mixture: Mixture, leaves: Sequence[_Leaf], masked: Sequence[str]) -> None:
    """FoundryError where no target of a component counts: nothing could be learned from it."""
    counted = {leaf.component for leaf in leaves if any(digest.count for digest in leaf.action[0].digests)}
    for number, component in enumerate(mixture.components):
        if number not in counted:
            also = f", or flagged {' or '.join(masked)}, which is masked" if masked else ""
            raise FoundryError(
                f"no target of '{component.name}' counts: every frame is flagged invalid{also}",
                hint="leave it out of the mixture, or change data.window.flags",
            )


def frame_multiples(mixture: Mixture, values: int) -> list[int]:
    """How often weighted statistics count a sample of each component: weight / samples, as whole numbers.

    They are as large as lets all counts, of up to `values` numbers a sample and dim, stay below 2^53.
    """
    shares = [component.fraction / component.num_samples for component in mixture.components]
    times = [max(1, round(share * ((1 << 52) // values))) for share in shares]
    common = gcd(*times)
    return [number // common for number in times]


def _merged(leaves: list[_Leaf], times: list[int]) -> ChunkStatistics:
    """One flat merge of all leaves, those of component i scaled by times[i]."""
    state = Statistics.merge_all(leaf.state.scaled(times[leaf.component]) for leaf in leaves)
    columns = zip(*(leaf.action for leaf in leaves), strict=True)
    scales = [times[leaf.component] for leaf in leaves]
    action, *offsets = (
        Statistics.merge_all(part.scaled(number) for part, number in zip(column, scales, strict=True))
        for column in columns
    )
    return ChunkStatistics(state, action, tuple(offsets))


def _tasks(part: Part, number: int, wanted: _Wanted, steps: Steps, horizon: int) -> Iterator[_Task]:
    opened, selection, schema = part.opened, part.select(), schema_of(part.manifest)
    plan = WindowPlan(
        schema.state_space(),
        schema.space(wanted.stream),
        wanted.representation,
        steps,
        horizon,
        1,
        wanted.masked,
    )
    groups = opened.geometry
    # Ends are not the next starts: rows of episodes that were quarantined may lie between.
    end_E = groups.start_E + groups.length_E
    step_E = steps.rows(episode_rates(opened.table("episodes")))
    ordinals = np.unique(selection.shard_R)
    # Ranges and episodes are in the order of shards.
    from_R, to_R = _borders(selection.shard_R, ordinals)
    from_E, to_E = _borders(groups.shard_E, ordinals)
    columns = frames_schema_of(schema)
    for i, ordinal in enumerate(ordinals.tolist()):
        ranges, episodes = slice(from_R[i], to_R[i]), slice(from_E[i], to_E[i])
        name = f"frames/{opened.manifest.shards[ordinal].key}"
        yield _Task(
            opened.store,
            opened.version,
            wanted.stream,
            name,
            opened.manifest.files[name],
            columns,
            number,
            schema.embodiment,
            plan,
            wanted.per_offset,
            selection.start_R[ranges],
            selection.stop_R[ranges],
            groups.start_E[episodes],
            end_E[episodes],
            step_E[episodes],
        )


def _borders(
    sorted_N: NDArray[np.int32], value_m: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each value begins and ends among those that are sorted."""
    return np.searchsorted(sorted_N, value_m, "left"), np.searchsorted(sorted_N, value_m, "right")


def _shard_leaves(task: _Task) -> list[_Leaf]:
    """Statistics of blocks of anchors, over the spaces of the component."""
    plan = task.plan
    space = represented(plan.target, plan.representation, plan.state)
    table = named_table(task.store, task.version, task.name, task.file, task.columns)
    frames = Frames.of(table, task.stream)
    anchor_N = np.concatenate([np.arange(*ends) for ends in zip(task.start_R, task.stop_R, strict=True)])
    leaves = []
    for begin in range(0, len(anchor_N), BLOCK_ROWS):
        row_N = anchor_N[begin : begin + BLOCK_ROWS]
        episode_N = np.searchsorted(task.first_E, row_N, side="right") - 1
        bounds_N = task.first_E[episode_N], task.end_E[episode_N]
        anchors = Anchors(np.zeros(len(row_N), np.int32), row_N, *bounds_N, episode_N, task.step_E[episode_N])
        window = windows(anchors, {0: frames}, plan)
        action_NTA, counted_NT1 = encoded(window, plan), window.counted_nT[..., None]
        anchored_N1 = (window.flags_n & Flag.INVALID_STATE)[:, None] == 0
        offsets = range(plan.horizon) if task.per_offset else ()
        parts = [Statistics.of(action_NTA[:, t], counted_NT1[:, t], space) for t in offsets]
        leaves.append(
            _Leaf(
                task.component,
                Statistics.of(window.state_nHS[:, -1], anchored_N1, plan.state),
                (Statistics.of(action_NTA, counted_NT1, space), *parts),
            )
        )
    return leaves
