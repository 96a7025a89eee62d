"""The data checks on the tables of a version: evidence of a shard, which reads no image, and the findings.

Legend: N frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.checks.evidence import Column, EpisodeRows, Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.checks.measures import measure
from robot_foundry.checks.rules import findings
from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.statistics import Statistics
from robot_foundry.shards.robot.shard import RobotShard


def shard_evidence(
    schema: Schema, frames: pa.Table, episodes: Iterable[Mapping[str, Any]], shard: RobotShard | None
) -> Evidence:
    """The evidence of the `episodes` (rows of the episodes table) of one shard.

    Images are compared by the checksums in the indexes of `shard`; None leaves them out.
    """
    images = {} if shard is None else {c.name: shard.image_prints(c.name) for c in schema.cameras}
    columns = {
        name: (column_matrix(frames, name), schema.space(stream))
        for name, stream in [("state", "state"), *((f"action.{s}", s) for s in schema.streams)]
    }
    flags_N, timestamp_N = frames["flags"].to_numpy(), frames["timestamp"].to_numpy()
    leaves = []
    for row in episodes:
        episode_rows = slice(row["row_start"], row["row_start"] + row["num_frames"])
        valid = {
            name: (flags_N[episode_rows] & (Flag.INVALID_STATE if name == "state" else Flag.INVALID_ACTION))
            == 0
            for name in columns
        }
        leaves.append(
            measure(
                EpisodeRows(
                    key=row["key"],
                    fps=row["fps"],
                    timestamp_N=timestamp_N[episode_rows],
                    columns={
                        name: Column(values[episode_rows], valid[name], space)
                        for name, (values, space) in columns.items()
                    },
                    images={camera: image_N[episode_rows] for camera, image_N in images.items()},
                )
            )
        )
    return Evidence.merge_all(leaves)


def doubts(
    schema: Schema,
    evidence: Evidence,
    leaves: pa.Table,
    mapping: Mapping[str, Any] | None,
    content: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """What the data checks find in a version: its evidence, and `leaves`, its leaves table.

    `mapping` and `content` are those of its spec as JSON, None where nobody knows.
    """
    statistics = {}
    for stream in ("state", *schema.streams):
        column, space = stream if stream == "state" else f"action.{stream}", schema.space(stream)
        # A dim at a time: the digests of all shards and dims may be more than memory holds.
        merged = tuple(Digest.merge_all(_digests(leaves, column, name)) for name in space.names)
        statistics[column] = Statistics(space, merged)
    return findings(evidence, statistics, mapping, content)


def _digests(leaves: pa.Table, column: str, dim: str) -> Iterator[Digest]:
    is_own = pc.and_(pc.equal(leaves["column"], column), pc.equal(leaves["dim"], dim))
    for digest in leaves["digest"].filter(is_own):
        yield Digest.from_bytes(digest.as_py())
