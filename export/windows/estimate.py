"""How much an export of windows will be, without making it.

Legend: n windows of a probe, R rows of a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot_foundry.catalog.opened import OpenMixture, Part
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.tars import open_robot_shard
from robot_foundry.export.windows.plan import Group
from robot_foundry.export.windows.rows import WindowRow, WindowRows
from robot_foundry.loader.share import Samples
from robot_foundry.shards.tar import BLOCK

MOST_SHARDS = 16  # whose indexes are read; the others are taken to be like them
_CENTROIDS, _CENTROID_BYTES = 400, 26  # of a digest in stats.json


@dataclass(frozen=True)
class Estimate:
    """Bytes of the tars, and of what they are made of: the shards of the same frames."""

    num_bytes: int
    source_bytes: int


def source_bytes(opened: OpenMixture) -> int:
    """What the selected frames take in the shards, by their share of each component's frames."""
    total = 0.0
    for part in opened.parts:
        shards = part.manifest.shards
        frames = sum(entry.num_samples for entry in shards)
        total += sum(entry.tar_bytes for entry in shards) * part.component.num_samples / max(1, frames)
    return round(total)


def estimated(
    opened: OpenMixture,
    rows: WindowRows,
    groups: Sequence[Group],
    members: Callable[[WindowRow], Mapping[str, bytes]],
) -> Estimate:
    """By the sizes of stored images, and by the numbers and texts of one window of each component."""
    per_window = []
    for number, part in enumerate(opened.parts):
        first = np.zeros(1, np.int64)
        probe = Samples(first, np.full(1, number, np.int32), first)
        [row] = rows.read(probe, with_pictures=False)
        numbers = sum(BLOCK + _blocks(len(data)) for data in members(row).values())
        per_window.append(numbers + rows.drafts.history * _image_bytes(part, rows))
    total = 0.0
    for group in groups:
        if group.component is not None:
            total += group.count * per_window[group.component]
        else:
            shares = [float(component.fraction) for component in opened.mixture.components]
            total += group.count * sum(s * b for s, b in zip(shares, per_window, strict=True))
    if rows.with_around:
        state, action = rows.drafts.spaces
        steps = rows.drafts.history + rows.drafts.horizon  # each of them, and all together
        centroids = sum(min(group.count, _CENTROIDS) for group in groups)
        total += centroids * _CENTROID_BYTES * (len(state) + len(action)) * steps
    return Estimate(round(total), source_bytes(opened))


def _image_bytes(part: Part, rows: WindowRows) -> float:
    """What the images of one moment take in a tar, on average over the frames of some shards."""
    selection, manifest = part.select(), part.manifest
    cameras = [camera for camera in schema_of(manifest).cameras if camera.role in rows.image_sizes]
    total = frames = 0.0
    for ordinal in np.unique(selection.shard_R)[:MOST_SHARDS].tolist() if cameras else []:
        key = manifest.shards[ordinal].key
        shard = open_robot_shard(part.opened.store, manifest.dataset, key, manifest.tar_hashes)
        for camera in cameras:
            print_R = shard.image_prints(camera.name)
            size_R = (print_R[print_R >= 0] >> 32).astype(np.float64)
            height, width = rows.image_sizes[camera.role]
            size_R *= height * width / (camera.height * camera.width)
            total += float((size_R + BLOCK * 1.5).sum())
        frames += float(shard.row_starts[-1])
    return total / max(1.0, frames)


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
