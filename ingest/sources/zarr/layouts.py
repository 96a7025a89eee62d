"""The layout of replay buffers as specs name it; what reads chunks is imported when one is read."""

from __future__ import annotations

from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.ingest.sources.robot.robot_layout import RobotLayout

ZARR = RobotLayout(
    "zarr",
    "robot_foundry.ingest.sources.zarr.replay_buffer:ReplayBuffer",
    "zarr",
    ROBOT,
    has_own_lengths=False,
    names_columns=True,
)
LAYOUTS = (ZARR,)
