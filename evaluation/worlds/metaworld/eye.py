"""Where a point of the room is in a picture of it.

Shape suffixes: 3 position, 33 rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_foundry.evaluation.worlds.metaworld.rendering import hangs
from robot_foundry.evaluation.worlds.metaworld.views import View


@dataclass(frozen=True)
class Eye:
    """A pinhole camera as it is now. MuJoCo's look along their own -z, with x to the right and y up.

    position_3   m, in the frame of the room
    rotation_33  columns are the camera's axes
    focal        focal length in heights of the picture
    turned       whether the picture is turned by 180 degrees
    """

    position_3: np.ndarray
    rotation_33: np.ndarray
    focal: float
    turned: bool

    @classmethod
    def of(cls, view: View, model: Any, data: Any) -> Eye:
        number = model.camera(view.camera).id
        fovy = model.cam_fovy[number] if view.fovy is None else view.fovy
        return cls(
            data.cam_xpos[number].copy(),
            data.cam_xmat[number].reshape(3, 3).copy(),
            0.5 / float(np.tan(np.radians(fovy) / 2.0)),
            hangs(data, number),
        )

    def place(self, point_3: np.ndarray) -> tuple[float, float] | None:
        """How far from the left and from the top a point is seen, 0 to 1 each; None out of the picture."""
        right, up, back = self.rotation_33.T @ (np.asarray(point_3, dtype=np.float64) - self.position_3)
        if back >= 0.0:
            return None
        across, down = 0.5 - self.focal * right / back, 0.5 + self.focal * up / back
        if self.turned:
            across, down = 1.0 - across, 1.0 - down
        inside = 0.0 <= across < 1.0 and 0.0 <= down < 1.0
        return (float(across), float(down)) if inside else None
