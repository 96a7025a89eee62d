"""Cameras by role: which there are, in what size they are seen, and in what order a model looks at them.

Legend: B rows, H history, V views (every moment of the first role, then of the next), h × w pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.windows.window import WindowSpec


def image_sizes(schemas: Iterable[Schema], window: WindowSpec) -> dict[str, tuple[int, int]]:
    """(height, width) of each role of the window: what it asks for, or else what all datasets store."""
    cameras = [camera for schema in schemas for camera in schema.cameras]
    roles = sorted({camera.role for camera in cameras})
    by_role: dict[str, tuple[int, int]] = {}
    for role in window.cameras:
        sizes = sorted({(camera.height, camera.width) for camera in cameras if camera.role == role})
        if not sizes:
            raise FoundryError(
                f"no dataset has a camera with the role '{role}'{nearest(role, roles)} "
                f"(roles: {', '.join(roles) or 'none'})"
            )
        if window.image is None and len(sizes) > 1:
            listed = ", ".join(f"{height} x {width}" for height, width in sizes)
            raise FoundryError(
                f"images of '{role}' are stored in unlike sizes ({listed})",
                hint="give the window an image size",
            )
        by_role[role] = window.image or sizes[0]
    return by_role


def views(
    images: Mapping[str, NDArray[np.uint8]], masks: Mapping[str, NDArray[np.bool_]], roles: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Images by role [B, H, h, w, 3] and which are there [B, H], as views [B, V, h, w, 3] and [B, V]."""
    for role in roles:
        if role not in images:
            raise FoundryError(f"the batch has no camera '{role}'{nearest(role, images)}")
    image_BVhw3 = np.concatenate([images[role] for role in roles], axis=1)
    return image_BVhw3, np.concatenate([masks[role] for role in roles], axis=1)
