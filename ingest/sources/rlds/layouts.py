"""The layout of RLDS as specs name it; protocol buffers are imported when a source is read."""

from __future__ import annotations

from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.ingest.sources.robot.robot_layout import RobotLayout

RLDS = RobotLayout(
    "rlds", "robot_foundry.ingest.sources.rlds.rlds:Rlds", "TFRecord", ROBOT, has_own_lengths=False
)
LAYOUTS = (RLDS,)
