"""The leaves of a shard: the t-digest of every dim over its episodes, from its frames table alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.query.shown import Distribution, Distributions
from robot_foundry.catalog.robot.schema import Schema, schema_of
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.selection import Selection
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.runtime.errors import UsageError


def shard_leaves(schema: Schema, frames: pa.Table, ordinals: Collection[int]) -> list[dict[str, Any]]:
    """Rows of the leaves table without `shard`, over the episodes with these ordinals.

    Values in rows that are flagged invalid count as NaN.
    """
    flags_N = frames["flags"].to_numpy()
    of_episode_N = np.isin(frames["episode"].to_numpy(), sorted(ordinals))
    columns = [("state", schema.state, Flag.INVALID_STATE)]
    columns += [(f"action.{name}", dims, Flag.INVALID_ACTION) for name, dims in schema.streams.items()]
    leaves = []
    for column, dims, invalid in columns:
        values_ND = column_matrix(frames, column)[of_episode_N].astype(np.float64)
        values_ND[(flags_N[of_episode_N] & invalid) != 0] = np.nan
        for d, dim in enumerate(dims):
            digest = Digest.of(values_ND[:, d])
            leaves.append({"column": column, "dim": dim.name, "digest": digest.to_bytes()})
    return leaves


def version_statistics(opened: OpenVersion, stream: str) -> Statistics:
    """Absolute values of `stream` ('state' or an action stream) over all rows, from the stored leaves."""
    space = schema_of(opened.manifest).space(stream)
    column = "state" if stream == "state" else f"action.{stream}"
    leaves: dict[str, list[Digest]] = {name: [] for name in space.names}
    rows = opened.table("leaves")
    rows = rows.filter(pc.equal(rows["column"], column))
    for dim, digest in zip(rows["dim"].to_pylist(), rows["digest"].to_pylist(), strict=True):
        leaves[dim].append(Digest.from_bytes(digest))
    return Statistics(space, tuple(Digest.merge_all(leaves[name]) for name in space.names))


def absolute_values(opened: OpenVersion, selection: Selection | None) -> Distributions:
    """Every dim of a version, as stored. UsageError for a selection: a mixture has chunks of each alone."""
    if selection is not None:
        raise UsageError(
            f"{opened.version} is part of a mixture: of mixtures there are statistics of training chunks",
            hint="foundry-data stats REF -r relative_tool",
        )
    numbers = []
    for stream in ("state", *schema_of(opened.manifest).streams):
        statistics = version_statistics(opened, stream)
        for dim, digest in zip(statistics.space, statistics.digests, strict=True):
            numbers.append(Distribution(stream, dim.name, dim.unit, digest))
    return Distributions(numbers, called="dims", headers=("stream", "dim"))
