"""robosuite's operational-space controllers, as far as their input: clip, then scale.

Formula: robosuite/controllers/base_controller.py, `scale_action`, and osc.py, `set_goal`, of 1.0 to 1.4;
robosuite/controllers/parts/arm/osc.py of 1.5, whose settings lie under `body_parts`. The arms' commands
follow each other: gains that come with a variable impedance, the pose, the gripper.

What is absolute (`control_delta: false`, `input_type: absolute`) is not scaled. A rotation command of exactly
zero keeps the goal before it in robosuite 1.4; here it means the orientation that the arm has, as in 1.5.

Legend: N frames, d columns of a command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from robot_foundry.ingest.robot.conversions import Array, Clip
from robot_foundry.ingest.robot.robosuite.robots import (
    ONE_ARM,
    TWO_ARMS,
    arms_of,
    env_kwargs,
    nested,
    robots_of,
)
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.clock import example
from robot_foundry.normalization import rotation
from robot_foundry.runtime.overrides import set_options

POSE_COLUMNS = 6
# Columns of a pose by the type of the controller.
WIDTHS = {"OSC_POSE": 6, "OSC_POSITION": 3}
# Gains before the pose: `set_goal` of both versions.
GAINS = {"fixed": 0, "variable_kp": 6, "variable": 12}
# Displacements are no poses: where this share of the commands lies so near to the pose that the arm has, and
# that far from zero, they are absolute whatever the controller's settings say. (Files whose actions were
# converted keep the settings of the original.)
ABSOLUTE_SHARE = 0.9
NEAR_M, NEAR_RAD = 0.1, 0.35
# Environments of robosuite that turn the base of no robot (no `set_base_ori`): displacements in its frame are
# those in the world. Kitchens turn it, and so do two robots unless they stand side by side.
UNTURNED = ("Lift", "Stack", "Door", "Wipe", "ToolHang", "NutAssembly", "PickPlace")
VARIANTS = ("Single", "Square", "Round", "Milk", "Bread", "Cereal", "Can")
TWO_ROBOTS = ("TwoArmLift", "TwoArmHandover", "TwoArmPegInHole", "TwoArmTransport")
SIDE_BY_SIDE = ("parallel", "single-arm-parallel")


# `input_type` and `input_ref_frame` as robosuite 1.5 checks them.
INPUT_TYPES, REF_FRAMES = ("delta", "absolute"), ("base", "world")


class UnreadMode(Refused):
    """The controller does not say in a form that is understood whether its commands displace."""


@dataclass(frozen=True)
class Controller:
    """Limits of the six pose columns, in the controller's units before and m or rad after.

    Of OSC_POSITION the last three are NaN. `first` is the first column of its pose among the actions,
    `width` the number of those columns; the gripper's follow.
    """

    input_min_6: Array
    input_max_6: Array
    output_min_6: Array
    output_max_6: Array
    is_delta: bool
    first: int = 0
    width: int = POSE_COLUMNS

    def displacement(self, command_Nd: Array, start: int, clip: Clip) -> Array:
        """What a command that displaces asks for, in m or rad.

        `start` is its first column; `clip` gives the values within two limits.
        """
        low, high, out_low, out_high = self._limits(start, command_Nd.shape[1])
        # As scale_action: limits are of the input, whose middle is the middle of the output.
        scale = np.abs(out_high - out_low) / np.abs(high - low)
        clipped_Nd = clip(command_Nd, low, high)
        return (clipped_Nd - (high + low) / 2) * scale + (out_high + out_low) / 2

    def command(self, displacement_Nd: Array, start: int) -> Array:
        """The command that asks for a displacement in m or rad, clipped: the inverse of `displacement`.

        A column that moves nothing, its output limits being equal, gets the middle of its input.
        """
        low, high, out_low, out_high = self._limits(start, displacement_Nd.shape[1])
        scale = np.abs(out_high - out_low) / np.abs(high - low)
        moved_Nd = (displacement_Nd - (out_high + out_low) / 2) / np.where(scale > 0, scale, 1.0)
        return np.clip(np.where(scale > 0, moved_Nd, 0.0) + (high + low) / 2, low, high)

    def _limits(self, start: int, count: int) -> tuple[Array, Array, Array, Array]:
        """input_min, input_max, output_min and output_max of `count` columns of the actions from `start`."""
        pick = slice(start - self.first, start - self.first + count)
        limits = (self.input_min_6, self.input_max_6, self.output_min_6, self.output_max_6)
        return limits[0][pick], limits[1][pick], limits[2][pick], limits[3][pick]

    def to_json(self) -> dict[str, Any]:
        return {
            name: [None if np.isnan(x) else float(x) for x in value]
            if isinstance(value, np.ndarray)
            else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Controller:
        read: dict[str, Any] = {
            name: np.array([np.nan if x is None else x for x in value]) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**read)


@dataclass(frozen=True)
class PlacedCommands:
    """The columns of a field that a controller takes, from `start` of the actions on: `Commands`."""

    controller: Controller
    start: int

    @property
    def is_delta(self) -> bool:
        return self.controller.is_delta

    def displacement(self, command_Nd: Array, clip: Clip) -> Array:
        return self.controller.displacement(command_Nd, self.start, clip)

    def command(self, displacement_Nd: Array) -> Array:
        return self.controller.command(displacement_Nd, self.start)


def check_displacement(command_N3: Array, pose: Array, as_targets: Sequence[str]) -> None:
    """Refused if they are absolute targets; `pose` is the arm's position [N, 3] or rotation [N, 3, 3].

    `as_targets` are the overrides that read them so.
    """
    pose_N3 = pose if pose.ndim == 2 else rotation.matrix_to_axis_angle(pose)
    if pose.ndim == 2:
        error_N, near = np.linalg.norm(command_N3 - pose_N3, axis=1), NEAR_M
    else:
        turned_N33 = rotation.axis_angle_to_matrix(command_N3) @ np.swapaxes(pose, -1, -2)
        error_N, near = np.linalg.norm(rotation.matrix_to_axis_angle(turned_N33), axis=1), NEAR_RAD
    # Near to a pose that is itself near zero, a displacement would be taken for a target.
    is_absolute_N = (error_N < near) & (np.linalg.norm(pose_N3, axis=1) > 3 * near)
    share = float(is_absolute_N.mean())
    if share >= ABSOLUTE_SHARE:
        raise Refused(
            f"its commands are where the arm is in {share:.0%} of the frames, so they are absolute targets, "
            f"and the settings of its controller say displacements: {set_options(as_targets)}"
        )


def controllers(
    episode: Mapping[str, Any], num_columns: int | None, num_arms: int = 1
) -> tuple[Controller, ...]:
    """The controller of each arm that env_args name; of `num_arms` where these do not say how many there are.

    `num_columns` are those of the actions. Refused if one of the controllers is not operational-space control
    with its limits.
    """
    stated = configurations(episode)
    parts = [_limits(settings) for settings in (stated if arms_of(episode) else stated * num_arms)]
    poses = sum(gains + controller.width for gains, controller in parts)
    spare = -1 if num_columns is None else num_columns - poses
    # What is left of the actions is the grippers'. Of one arm it does not matter.
    gripper = spare // len(parts) if spare >= 0 and spare % len(parts) == 0 else 1
    placed, column = [], 0
    for gains, controller in parts:
        placed.append(replace(controller, first=column + gains))
        column += gains + controller.width + gripper
    return tuple(placed)


def controller(episode: Mapping[str, Any], start: int, count: int, num_columns: int) -> Controller:
    """The controller of the arm that takes `count` columns of its pose from `start`. Refused if none does."""
    of_arms: tuple[Controller, ...] = ()
    # Where env_args do not say how many arms there are, the columns tell.
    for num_arms in range(1, len(TWO_ARMS) + 1):
        of_arms = controllers(episode, num_columns, num_arms)
        for arm in of_arms:
            if arm.first <= start and start + count <= arm.first + arm.width:
                return arm
    places = ", ".join(f"[{arm.first}, {arm.first + arm.width}]" for arm in of_arms)
    raise Refused(
        f"its controllers take poses in the columns {places}, and none in [{start}, {start + count}]"
    )


def configurations(episode: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings of the controller of each arm."""
    num_robots, num_arms = max(len(robots_of(episode)), 1), max(len(arms_of(episode)), 1)
    stated = env_kwargs(episode).get("controller_configs")
    for_robots = stated if isinstance(stated, list) else [stated] * num_robots
    if len(for_robots) != num_robots:
        raise Refused(f"its controller_configs are {len(for_robots)} for {num_robots} robots")
    arms = TWO_ARMS if num_arms > num_robots else ONE_ARM
    return [_of_arm(settings, arm, episode, num_arms) for settings in for_robots for arm in arms]


def _of_arm(stated: Any, arm: str, episode: Mapping[str, Any], num_arms: int) -> Mapping[str, Any]:
    """The settings of an arm's controller, which robosuite 1.5 has in those of the whole body."""
    if not isinstance(stated, Mapping):
        raise Refused(_why_no_settings(stated, episode))
    parts = nested(stated, "body_parts")
    if parts is None or stated.get("type") != "BASIC":
        _ref_frame(stated)
        return stated
    settings = nested(parts, "arms", arm) or nested(parts, arm)
    if settings is None:
        raise Refused(f"its controller_configs have no arm '{arm}' (they have {', '.join(map(str, parts))})")
    if _ref_frame(settings) == "base" and not _is_unturned(episode, num_arms, settings):
        raise Refused(
            "its commands are in the frame of the robot's base (input_ref_frame), and nothing tells how that "
            "stands in the world, in which its poses are"
        )
    return settings


def _why_no_settings(stated: Any, episode: Mapping[str, Any]) -> str:
    """Which step on the way to the settings of a controller is there and no section, or that none is."""
    arguments = episode["environment"].get("env_args")
    settings = arguments.get("env_kwargs") if isinstance(arguments, Mapping) else None
    steps = (("env_args", arguments), ("env_kwargs", settings), ("controller_configs", stated))
    for name, value in steps:
        if value is not None and not isinstance(value, Mapping):
            return f"its {name} are {example(value)}, which is no JSON object, and `from: osc` needs one"
    return "its env_args have no controller_configs, which `from: osc` needs"


def _ref_frame(configuration: Mapping[str, Any]) -> str:
    stated = configuration.get("input_ref_frame")
    if stated is None:
        return "base"
    if not isinstance(stated, str) or stated not in REF_FRAMES:
        raise Refused(
            f"the input_ref_frame of its controller is {stated!r} (frames: {', '.join(REF_FRAMES)})"
        )
    return stated


def _is_unturned(episode: Mapping[str, Any], num_arms: int, configuration: Mapping[str, Any]) -> bool:
    """Whether displacements in the frame of the base are those in the world."""
    name = str(episode["environment"].get("env_name"))
    if num_arms > 1:
        stands = env_kwargs(episode).get("env_configuration") in SIDE_BY_SIDE and name in TWO_ROBOTS
    else:
        for variant in VARIANTS:
            name = name.removesuffix(variant)
        stands = name in UNTURNED
    return stands and configuration.get("input_type") != "absolute"


def _limits(configuration: Mapping[str, Any]) -> tuple[int, Controller]:
    """The number of gains before the pose, and the limits of the pose."""
    kind = configuration.get("type")
    if not isinstance(kind, str) or kind not in WIDTHS:
        raise Refused(f"its controller is {kind!r} and not OSC_POSE, which `from: osc` needs")
    mode = configuration.get("impedance_mode", "fixed")
    if not isinstance(mode, str) or mode not in GAINS:
        raise Refused(f"the impedance_mode of its controller is {mode!r} (modes: {', '.join(GAINS)})")
    width = WIDTHS[kind]
    limits = {}
    for name, default in (("input_min", -1), ("input_max", 1), ("output_min", None), ("output_max", None)):
        stated = configuration.get(name, default)
        limits[name] = _six(stated, width, f"the {name} of its controller is {stated!r}")
        if not np.isfinite(limits[name][:width]).all():
            if stated is None:
                raise Refused(f"its controller has no {name}")
            raise Refused(f"the {name} of its controller is {stated!r}, which is not finite")
    if (limits["input_max"] <= limits["input_min"]).any():
        raise Refused("the input_max of its controller is not above input_min")
    is_delta = _is_delta(configuration)
    return GAINS[mode], Controller(
        limits["input_min"],
        limits["input_max"],
        limits["output_min"],
        limits["output_max"],
        is_delta,
        width=width,
    )


def _is_delta(configuration: Mapping[str, Any]) -> bool:
    """Whether commands displace: by `control_delta` of 1.0 to 1.4, else by `input_type`, else they do.

    Null says nothing. UnreadMode for anything else that is no boolean, or none of the two types.
    """
    control_delta, input_type = configuration.get("control_delta"), configuration.get("input_type")
    if control_delta is not None and not isinstance(control_delta, bool):
        raise UnreadMode(
            f"the control_delta of its controller is {control_delta!r}, which is not true or false"
        )
    if input_type is not None and (not isinstance(input_type, str) or input_type not in INPUT_TYPES):
        raise UnreadMode(
            f"the input_type of its controller is {input_type!r} (types: {', '.join(INPUT_TYPES)})"
        )
    return input_type != "absolute" if control_delta is None else control_delta


def _six(stated: Any, width: int, problem: str) -> Array:
    """The numbers of the pose columns, or one for all; NaN behind them."""
    try:
        limits = np.broadcast_to(np.asarray(stated, np.float64), width)
        return np.concatenate([limits, np.full(POSE_COLUMNS - width, np.nan)])
    except (TypeError, ValueError, OverflowError):
        raise Refused(problem) from None
