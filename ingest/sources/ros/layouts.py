"""The layout of ROS bags as specs name it; the reader and rosbags are imported when a source is read."""

from __future__ import annotations

from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.ingest.sources.robot.robot_layout import OptionsSection, RobotLayout
from robot_foundry.ingest.sources.ros.options import RosOptions
from robot_foundry.ingest.sources.ros.options_reader import read_options

ROS = RobotLayout(
    RosOptions.section,
    "robot_foundry.ingest.sources.ros.ros:Ros",
    "ROS bag",
    ROBOT,
    has_image_arrays=False,
    has_own_lengths=False,
    options=OptionsSection(read_options, others="has no topics", page="docs/ros.md"),
)
LAYOUTS = (ROS,)
