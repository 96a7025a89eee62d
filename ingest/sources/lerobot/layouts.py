"""The layout of LeRobot datasets as specs name it; parquet and videos are imported when one is read."""

from __future__ import annotations

from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.ingest.sources.robot.robot_layout import RobotLayout

LEROBOT = RobotLayout(
    "lerobot",
    "robot_foundry.ingest.sources.lerobot.lerobot:LeRobot",
    "parquet",
    ROBOT,
    has_image_arrays=False,
    has_own_lengths=False,
    names_columns=True,
)
LAYOUTS = (LEROBOT,)
