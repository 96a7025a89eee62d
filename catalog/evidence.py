"""Evidence for the data checks from the canonical tables of a shard and its index; no tar is read.

Legend: N frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.schema import Schema
from robot_foundry.catalog.tables import Flag, frame_matrix
from robot_foundry.normalization.evidence import Column, EpisodeRows, Evidence
from robot_foundry.normalization.measures import measure
from robot_foundry.shards.reader import RobotShard


def shard_evidence(
    schema: Schema, frames: pa.Table, episodes: Iterable[Mapping[str, Any]], shard: RobotShard | None
) -> Evidence:
    """The evidence of the `episodes` (rows of the episodes table) of one shard.

    Images are compared by the checksums in the index of `shard`; None leaves them out.
    """
    images = {} if shard is None else fingerprints(schema, shard)
    columns = {
        name: (frame_matrix(frames, name), schema.space(stream))
        for name, stream in [("state", "state"), *((f"action.{s}", s) for s in schema.streams)]
    }
    flags_N, timestamp_N = frames["flags"].to_numpy(), frames["timestamp"].to_numpy()
    leaves = []
    for row in episodes:
        own = slice(row["row_start"], row["row_start"] + row["num_frames"])
        valid = {
            name: (flags_N[own] & (Flag.INVALID_STATE if name == "state" else Flag.INVALID_ACTION)) == 0
            for name in columns
        }
        leaves.append(
            measure(
                EpisodeRows(
                    key=row["key"],
                    fps=row["fps"],
                    timestamp_N=timestamp_N[own],
                    columns={
                        name: Column(values[own], valid[name], space)
                        for name, (values, space) in columns.items()
                    },
                    images={camera: image_N[own] for camera, image_N in images.items()},
                )
            )
        )
    return Evidence.merge_all(leaves)


def fingerprints(schema: Schema, shard: RobotShard) -> dict[str, NDArray[np.int64]]:
    """By camera, for every frame row: its image's size and checksum as one number, -1 for none."""
    index = shard.reader.index
    crc32c = index["crc32c"].to_numpy().astype(np.int64)
    of_member = (index["size"].to_numpy().astype(np.int64) << 32) | crc32c
    found = {}
    for camera in schema.cameras:
        rows_N = shard.image_rows(camera.name)
        # Images in the further tars of a long episode are left out.
        here_N = (rows_N >= 0) & (rows_N < len(of_member))
        found[camera.name] = np.where(here_N, of_member[np.where(here_N, rows_N, 0)], -1)
    return found
