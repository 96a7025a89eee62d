"""Statistics of datasets and of what a policy is trained on, from canonical tables alone.

Every summary is one flat `Statistics.merge_all` over leaves: blocks of rows whose borders depend on the data
alone. So it has the same bits whatever the workers.

Legend: N selected rows, T steps of the horizon, S state dims, A action dims, E episodes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version as package_version
from itertools import groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Component, Mixture
from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.mixture import as_mixture, component_schema, component_selection, spaces
from robot_foundry.catalog.schema import Schema
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import Flag, frame_matrix, read_episodes, read_frames, read_leaves
from robot_foundry.catalog.version import Version
from robot_foundry.catalog.windows import chunk_rows
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.representation import Representation, encode, represented
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import unordered_map
from robot_foundry.runtime.progress import Progress

FORMAT = 1
BLOCK_ROWS = 4096


def version_statistics(store: Store, version: Version, stream: str) -> Statistics:
    """Absolute values of `stream` ('state' or an action stream) over all rows, from the stored leaves."""
    schema = read_manifest(store, version).schema
    if schema is None:
        raise FoundryError(f"{version} is a mixture", hint="ask for its components")
    space = schema.space(stream)
    column = "state" if stream == "state" else f"action.{stream}"
    leaves: dict[str, list[Digest]] = {name: [] for name in space.names}
    for row in read_leaves(store, version).to_pylist():
        if row["column"] == column:
            leaves[row["dim"]].append(Digest.from_bytes(row["digest"]))
    return Statistics(space, tuple(Digest.merge_all(leaves[name]) for name in space.names))


def representation_statistics(
    store: Store,
    mixture: Mixture,
    *,
    stream: str = "next_state",
    representation: str = "relative_tool",
    horizon: int = 16,
    stride: int = 1,
    workers: int = 0,
    quiet: bool = True,
) -> tuple[Statistics, Statistics]:
    """Statistics of the states and of the encoded chunks of the training split of `mixture`, over its unions.

    States are absolute; chunks are those of the loader, all offsets pooled: anchor t, targets in rows t,
    t+stride, … of `stream` (see `windows`). Left out are steps past the end of the episode, rows flagged
    invalid, anchors whose state is flagged invalid, and (counted in the digests) values that are not finite.
    Every row counts once, whatever the weights. Cached in the store, keyed by all that defines them.
    """
    mixture = as_mixture(store, mixture, split="train")
    wanted = Representation.parse(representation)
    unions = spaces(store, mixture)
    if stream not in unions.streams:
        for schema in unions.schemas.values():
            schema.space(stream)
    action_union = represented_union(unions.schemas, stream, str(wanted))
    identity = {
        "format": FORMAT,
        "digests": package_version("fastdigest"),
        "rows": [[c.version_id, component_selection(store, c).id] for c in mixture.components],
        "spaces": [unions.state.to_json(), action_union.to_json()],
        "window": [stream, str(wanted), horizon, stride],
    }
    cache = store.statistics_cache(digest_of(identity))
    if store.storage.exists(cache):
        cached = json.loads(store.storage.read_bytes(cache))
        return Statistics.from_json(cached["state"]), Statistics.from_json(cached["action"])

    window = _Window(stream, str(wanted), horizon, stride)
    tasks = [task for component in mixture.components for task in _tasks(store, component, window)]
    states, actions = [], []
    with Progress(len(tasks), "shards", "statistics", quiet=quiet) as progress:
        for index, leaves in unordered_map(_shard_leaves, tasks, workers=workers):
            embodiment = tasks[index].schema.embodiment
            states += [state.into(unions.state, embodiment=embodiment) for state, _ in leaves]
            actions += [action.into(action_union, embodiment=embodiment) for _, action in leaves]
            progress.advance()
    state, action = Statistics.merge_all(states), Statistics.merge_all(actions)
    with suppress(OSError):  # the store may be one that this user can only read
        store.storage.write(cache, canonical_json({"state": state.to_json(), "action": action.to_json()}))
    return state, action


def represented_union(schemas: Mapping[str, Schema], stream: str, representation: str) -> ActionSpace:
    """The union of a stream of several schemas, in `representation`."""
    parts = [represented(schema.space(stream), representation) for schema in schemas.values()]
    return ActionSpace.union(*parts, embodiments=[schema.embodiment for schema in schemas.values()])


@dataclass(frozen=True)
class _Window:
    stream: str
    representation: str
    horizon: int
    stride: int


@dataclass(frozen=True)
class _Task:
    """One shard of a component: ranges of anchor rows, and the first and last + 1 row of its episodes."""

    store: Store
    version: Version
    schema: Schema
    shard_key: str
    window: _Window
    ranges: list[tuple[int, int]]
    first_E: NDArray[np.int64]
    end_E: NDArray[np.int64]


def _tasks(store: Store, component: Component, window: _Window) -> Iterator[_Task]:
    selection = component_selection(store, component)
    version, schema = selection.version, component_schema(store, component)
    shards = read_manifest(store, version).shards
    episodes = read_episodes(store, version)
    shard_E = episodes["shard"].to_numpy()
    first_E = episodes["row_start"].to_numpy()
    # Ends are not the next starts: rows of episodes that were quarantined may lie between.
    end_E = first_E + episodes["num_frames"].to_numpy()
    for ordinal, group in groupby(selection.ranges(), key=itemgetter(0)):
        ranges = [(start, stop) for _, start, stop in group]
        here = shard_E == ordinal
        yield _Task(store, version, schema, shards[ordinal].key, window, ranges, first_E[here], end_E[here])


def _shard_leaves(task: _Task) -> list[tuple[Statistics, Statistics]]:
    """(state, action) statistics of blocks of anchors, over the spaces of the component."""
    window, schema = task.window, task.schema
    state_space, action_space = schema.state_space(), schema.space(window.stream)
    encoded_space = represented(action_space, window.representation)
    table = read_frames(task.store, task.version, task.shard_key)
    state_RS = frame_matrix(table, "state")
    target_RA = frame_matrix(table, f"action.{window.stream}")
    flags_R = table["flags"].to_numpy()
    anchor_R = np.concatenate([np.arange(start, stop) for start, stop in task.ranges])
    leaves = []
    for begin in range(0, len(anchor_R), BLOCK_ROWS):
        row_N = anchor_R[begin : begin + BLOCK_ROWS]
        episode_N = np.searchsorted(task.first_E, row_N, side="right") - 1
        bounds_N = task.first_E[episode_N], task.end_E[episode_N]
        row_NT, inside_NT = chunk_rows(row_N, *bounds_N, window.horizon, window.stride)
        anchored_N = (flags_R[row_N] & Flag.INVALID_STATE) == 0
        valid_NT = inside_NT & anchored_N[:, None] & ((flags_R[row_NT] & Flag.INVALID_ACTION) == 0)
        state_NS = state_RS[row_N]
        action_NTA = encode(state_NS, target_RA[row_NT], state_space, action_space, window.representation)
        leaves.append(
            (
                Statistics.of(state_NS, anchored_N[:, None], state_space),
                Statistics.of(action_NTA, valid_NT[..., None], encoded_space),
            )
        )
    return leaves
