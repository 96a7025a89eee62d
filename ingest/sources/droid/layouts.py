"""The layout of DROID's raw recordings as specs name it."""

from __future__ import annotations

from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.ingest.sources.hdf5.layouts import CONTAINER
from robot_foundry.ingest.sources.robot.robot_layout import RobotLayout

DROID_RAW = RobotLayout(
    "droid_raw",
    "robot_foundry.ingest.sources.droid.droid_raw:DroidRaw",
    CONTAINER,
    ROBOT,
    has_image_arrays=False,
    has_own_lengths=False,
)
LAYOUTS = (DROID_RAW,)
