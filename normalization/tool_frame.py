"""Tool frames: from the frame in which a source gives its poses to the canonical frame of a tool.

The canonical tool frame has z along the approach direction, out of the fingers, x lateral, along the line on
which the fingers open, and y completing a right-handed frame. Relative actions of unlike tool frames mean
unlike motions, so poses are moved to it before anything is mixed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization import pose
from robot_foundry.runtime.errors import FoundryError

UNKNOWN, CANONICAL = "unknown", "canonical"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TOLERANCE = 1e-3  # of the cosine between axes: what rounding in a hand-written spec may leave


@dataclass(frozen=True)
class ToolFrame:
    """Where the canonical tool lies in the frame that a source gives poses of, its flange for instance.

    `approach` and `lateral` are directions of any length, perpendicular to each other, `position` is in m.
    The two senses of `lateral` differ by half a turn about the approach: choose one for all robots.
    """

    approach: tuple[float, float, float] = (0.0, 0.0, 1.0)
    lateral: tuple[float, float, float] = (1.0, 0.0, 0.0)
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("approach", "lateral", "position"):
            value = tuple(float(x) for x in getattr(self, name))
            if len(value) != 3 or not np.isfinite(value).all():
                raise FoundryError(f"{name} of a tool frame needs three finite numbers, not {list(value)}")
            object.__setattr__(self, name, value)
        lengths = [np.linalg.norm(self.approach), np.linalg.norm(self.lateral)]
        if min(lengths) == 0:
            raise FoundryError("approach and lateral of a tool frame are directions, not zero")
        cosine = np.dot(self.approach, self.lateral) / np.prod(lengths)
        if abs(cosine) > _TOLERANCE:
            raise FoundryError(
                f"approach {list(self.approach)} and lateral {list(self.lateral)} of a tool frame are "
                f"{np.degrees(np.arccos(cosine)):.4g} degrees apart, not 90"
            )

    @property
    def pose(self) -> NDArray[np.float64]:
        """The canonical tool in the source's frame, (4, 4)."""
        z_3 = np.array(self.approach) / np.linalg.norm(self.approach)
        x_3 = np.array(self.lateral) - np.dot(self.lateral, z_3) * z_3
        x_3 = x_3 / np.linalg.norm(x_3)
        return pose.make(self.position, np.stack([x_3, np.cross(z_3, x_3), z_3], axis=-1))

    def canonical(self, source: NDArray[Any]) -> NDArray[Any]:
        """Poses (..., 4, 4) of the source's frame -> poses of the canonical tool."""
        return pose.compose(source, self.pose)

    def to_json(self) -> dict[str, list[float]]:
        return {
            "approach": list(self.approach),
            "lateral": list(self.lateral),
            "position": list(self.position),
        }


def check_tool_frame(name: str) -> str:
    """The name, if it is one: unknown, canonical, or a name of your own for a frame that is not converted."""
    if not _NAME.fullmatch(name):
        raise FoundryError(
            f"'{name}' is no name of a tool frame: {UNKNOWN}, {CANONICAL}, or letters a-z, digits, _ and -"
        )
    return name


def tool_frame_warnings(
    names: Sequence[tuple[str, str]], conventions: Mapping[str, str] | None = None
) -> list[str]:
    """What to say of a mixture of (dataset, name of its tool frame): unknown frames, and unlike ones.

    `conventions` say of datasets by which robot and reading of its poses they were made: where that is one
    for all, an unknown frame is the same in all of them.
    """
    convention_of = conventions or {}
    alike = {convention_of.get(dataset, dataset) for dataset, _ in names}
    if len(names) < 2 or (len(alike) == 1 and {frame for _, frame in names} == {UNKNOWN}):
        return []
    unknown = [dataset for dataset, frame in names if frame == UNKNOWN]
    dataset_of_frame = {frame: dataset for dataset, frame in reversed(names) if frame != UNKNOWN}
    warnings = []
    if unknown:
        warnings.append(
            f"the tool frame of {', '.join(unknown)} is unknown: poses of the tools may not agree"
        )
    if len(dataset_of_frame) > 1:
        listed = ", ".join(f"{frame} ({dataset})" for frame, dataset in dataset_of_frame.items())
        warnings.append(f"the tool frames differ, so relative actions mean unlike motions: {listed}")
    return warnings
