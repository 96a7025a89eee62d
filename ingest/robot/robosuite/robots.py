"""The robots and grippers of robosuite: what they are called here, and how their grippers are read.

From robosuite 1.4.1 and 1.5.2: `default_gripper` in models/robots/manipulators/*.py; ranges of the joints in
models/assets/grippers/*.xml; which end is open in `format_action` of models/grippers/*.py (-1 opens).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ONE_ARM = ("right",)
# The parts of a mapping that they are, too, in the order of their actions.
TWO_ARMS = ("right", "left")


@dataclass(frozen=True)
class Gripper:
    """How `gripper_qpos` tells the opening: its first columns, in the form `kind` between these numbers."""

    kind: str
    num_columns: int
    closed: float
    open: float


@dataclass(frozen=True)
class Robot:
    """`gripper` is the one that it has where nothing else is said, `joints` how many its arm has."""

    embodiment: str
    gripper: str
    joints: int
    arms: tuple[str, ...] = ONE_ARM


GRIPPERS = {
    # Fingers at 0 … 0.04 and 0 … -0.04 m.
    "PandaGripper": Gripper("fingers", 2, 0.0, 0.08),
    # Fingers at -0.0115 … 0.020833 and 0.0115 … -0.020833 m. The command opens them to 0.0115 m each and no
    # further; what is open beyond that is where an episode begins.
    "RethinkGripper": Gripper("fingers", 2, -0.023, 0.041666),
    # The first of six joints drives the others: 0 … 0.8 and 0 … 0.7 rad, and 0 is open.
    "Robotiq85Gripper": Gripper("width", 1, 0.8, 0.0),
    "Robotiq140Gripper": Gripper("width", 1, 0.7, 0.0),
    "XArm7Gripper": Gripper("width", 1, 0.85, 0.0),
}
# Tools that do not open.
NO_GRIPPER = ("NullGripper", "WipingGripper")

ROBOTS = {
    "Panda": Robot("panda", "PandaGripper", 7),
    "MountedPanda": Robot("panda", "PandaGripper", 7),
    "OnTheGroundPanda": Robot("panda", "PandaGripper", 7),
    "PandaMobile": Robot("panda_mobile", "PandaGripper", 7),
    "PandaOmron": Robot("panda_omron", "PandaGripper", 7),
    "Sawyer": Robot("sawyer", "RethinkGripper", 7),
    "IIWA": Robot("iiwa", "Robotiq140Gripper", 7),
    "Jaco": Robot("jaco", "JacoThreeFingerGripper", 7),
    "Kinova3": Robot("kinova3", "Robotiq85Gripper", 7),
    "UR5e": Robot("ur5e", "Robotiq85Gripper", 6),
    "XArm7": Robot("xarm7", "XArm7Gripper", 7),
    "Baxter": Robot("baxter", "RethinkGripper", 7, TWO_ARMS),
    "Tiago": Robot("tiago", "Robotiq85Gripper", 7, TWO_ARMS),
    "GR1": Robot("gr1", "FourierRightHand", 7, TWO_ARMS),
}


@dataclass(frozen=True)
class Arm:
    """An arm that env_args name. `gripper` is None where nobody knows which one its robot has."""

    robot: str
    gripper: str | None


def env_kwargs(episode: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the environment that made the episode; empty where the source does not say."""
    return nested(episode["environment"], "env_args", "env_kwargs") or {}


def nested(values: Any, *names: str) -> Any:
    """values[names[0]][names[1]]…, a section; None where a step is missing or is none."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else None


def robots_of(episode: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the robots in env_args; none where these do not say."""
    return _texts(env_kwargs(episode).get("robots"))


def unread_robots(episode: Mapping[str, Any]) -> Any:
    """What env_args say of the robots if it is not their names; None if it is, or if they say nothing."""
    stated = env_kwargs(episode).get("robots")
    names = stated if isinstance(stated, list | tuple) else [stated]
    return None if stated is None or all(isinstance(name, str) for name in names) else stated


def arms_of(episode: Mapping[str, Any]) -> tuple[Arm, ...]:
    """The arms of these robots, in the order of their actions: of one robot the right one first."""
    robots = robots_of(episode)
    stated = env_kwargs(episode).get("gripper_types", "default")
    grippers = _per_robot(stated, len(robots))
    arms = []
    for name, gripper in zip(robots, grippers, strict=True):
        robot = ROBOTS.get(name)
        default = robot.gripper if robot else None
        # robosuite puts the tool that does nothing where it is told none.
        mounted = default if gripper == "default" else str(gripper or NO_GRIPPER[0])
        arms += [Arm(name, mounted)] * len(robot.arms if robot else ONE_ARM)
    return tuple(arms)


def embodiment_of(robots: tuple[str, ...]) -> str:
    """What robots are called here: `panda`, and two of them `panda_panda`."""
    return "_".join(ROBOTS[name].embodiment if name in ROBOTS else _slug(name) for name in robots)


def is_of_robosuite(embodiment: str) -> bool:
    """Whether the name is that of one or two robots of the table."""
    names = {robot.embodiment for robot in ROBOTS.values()}
    return embodiment in names or any(
        embodiment == f"{first}_{second}" for first in names for second in names
    )


def _per_robot(stated: Any, count: int) -> list[Any]:
    """One value for each robot, of a list or of one for all."""
    values = list(stated) if isinstance(stated, list | tuple) else [stated] * count
    return [*values, *["default"] * count][:count]


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(item for item in values if isinstance(item, str) and item)


def _slug(name: str) -> str:
    """UR10eRobot → ur10e_robot."""
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parts.lower()).strip("_") or "robot"
