"""What names of arrays, columns, cameras and texts say. It is a hint, told as one: people misname things."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Readings of an array of the whole: what its last part is called for.
POSITION, QUATERNION, EULER, AXIS_ANGLE, ROT6D, MATRIX = (
    "position", "quaternion", "euler", "axis_angle", "rot6d", "matrix",
)  # fmt: skip
ROTATION, GRIPPER, JOINT, POSE = "rotation", "gripper", "joint", "pose"
JOINT_VELOCITY, EFFORT, VELOCITY, OTHER = "joint_velocity", "effort", "velocity", "other"

_ACTION = {
    "action", "actions", "act", "command", "commands", "cmd", "target", "targets", "goal", "desired",
    "setpoint", "control", "ctrl", "leader", "teleop",
}  # fmt: skip
_NO_STATE = {
    "next", "reward", "rewards", "done", "dones", "discount", "success", "info", "object", "objects",
    "embedding", "language", "extrinsics", "intrinsics", "calibration", "index", "idx", "timestamp",
    "timestamps", "stamp", "time", "controller", "latency", "type", "first", "last", "terminal",
    "validity", "task", "keypoint", "keypoints", "contacts", "env", "scene", "id", "camera", "cameras",
    "len", "lengths", "messages", "values", "magic", "torques",
}  # fmt: skip
_TIME = {
    "time", "times", "timestamp", "timestamps", "stamp", "stamps", "clock", "t",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_TOOL = {
    "eef", "ee", "tcp", "tool", "hand", "wrist", "cartesian", "endeffector", "end", "gripper",
}  # fmt: skip
_LEFT, _RIGHT = {"left", "l"}, {"right", "r"}
LANGUAGE = {
    "instruction", "instructions", "language", "task", "tasks", "lang", "prompt", "caption",
    "description", "command",
}  # fmt: skip
_SEGMENTS = {
    "hand": {"hand", "pinky", "ring", "middle", "index", "thumb", "finger", "fingers"},
    "leg": {"leg", "hip", "knee", "ankle"},
    "head": {"head", "neck"},
    "torso": {"torso", "waist", "spine"},
    "arm": {"arm", "shoulder", "elbow", "wrist", "forearm", "joint", "joints", "joint1"},
}
_WRIST = {
    "wrist", "hand", "gripper", "eih",
}  # fmt: skip
_FIRST = {
    "top", "front", "agentview", "primary", "main", "exterior", "high", "third", "ego", "head",
    "overhead", "static", "base",
}  # fmt: skip


_FREE = ("primary", "secondary", "tertiary")


def words(name: str) -> list[str]:
    """The words of a name in lower case: `obs/robot0_eefPos` → obs, robot, 0, eef, pos."""
    return [word.lower() for word in _WORDS.findall(name)]


def is_of_action(name: str) -> bool:
    """Whether the path says that the array is asked for, and not measured."""
    return bool(_ACTION & set(words(name)))


def is_of_time(name: str) -> bool:
    return bool(_TIME & set(words(name)))


def is_no_state(name: str) -> bool:
    """Whether the path says that the array is neither of the robot's state nor of an action."""
    return bool(_NO_STATE & set(words(name)))


def hint_of(name: str) -> str | None:
    """What kind of numbers an array, or a column, holds by its name: the last part of its path that says it.

    None if none does.
    """
    hints = (_hint(piece) for piece in reversed(re.split(r"[/.]", name)))
    return next((hint for hint in hints if hint is not None), None)


def _hint(piece: str) -> str | None:
    parts = words(piece)
    held, joined = set(parts), "".join(parts)
    if held & {"vel", "velocity", "velocities", "qvel", "dq", "speed"}:
        return JOINT_VELOCITY if held & {"joint", "joints", "qvel", "dq", "arm"} else VELOCITY
    if held & {"effort", "efforts", "torque", "torques", "force", "wrench", "current", "ft"}:
        return EFFORT
    if held & {"quat", "quaternion", "orn"}:
        return QUATERNION
    if held & {"euler", "rpy", "roll", "pitch", "yaw"}:
        return EULER
    if held & {"axisangle", "rotvec", "aa"} or "axisangle" in joined or "rotvec" in joined:
        return AXIS_ANGLE
    if "rot6d" in joined or "r6" in joined or "6d" in joined:
        return ROT6D
    if "rotmat" in joined or "matrix" in held or "mat" in held:
        return MATRIX
    if held & {"gripper", "finger", "fingers", "grasp", "jaw"} and not held & {"pose", "quat", "xyz"}:
        return GRIPPER
    if held & {"joint", "joints", "qpos", "q", "jointpos"}:
        return JOINT
    if held & {"orientation", "ori", "rot", "rotation"}:
        return ROTATION
    if held & {"pose", "cartesian"}:
        return POSE
    if held & {"pos", "position", "xyz", "translation"} or (held & _TOOL and len(held) == 1):
        return POSITION
    return None


def part_of(name: str) -> tuple[str, bool]:
    """The part of the robot, and whether the name says it: `right` where it says nothing."""
    parts = words(name)
    if set(parts) & _LEFT:
        return "left", True
    if set(parts) & _RIGHT:
        return "right", True
    for robot, arm in (("0", "right"), ("1", "left")):
        if any(pair == ("robot", robot) for pair in zip(parts, parts[1:], strict=False)):
            return arm, True
    return "right", False


def opens_upwards(name: str) -> bool | None:
    """Whether greater numbers of a gripper are more open by its name; None where it does not say."""
    held = set(words(name))
    if held & {"open", "opening", "openness", "width", "aperture"}:
        return True
    return False if held & {"closed", "closedness", "closing", "closure"} else None


def segment_of(name: str) -> str | None:
    """The part of the body whose joint a column is by its name: `right`, `left_hand`, …; None if none."""
    held = set(words(name))
    side = part_of(name)[0]
    if hint_of(name) in (GRIPPER, VELOCITY, EFFORT):
        return None
    for segment, called in _SEGMENTS.items():
        if held & called:
            return {"arm": side, "hand": f"{side}_hand", "leg": f"{side}_leg"}.get(segment, segment)
    return None


def flag_of(name: str) -> tuple[str, bool] | None:
    """Which flag truths by frame are of by their name, and which of them sets it; None if of none."""
    held = set(words(name.rpartition("/")[2]))
    if held & {"intervention", "intervened", "takeover"}:
        return "intervention", True
    if "movement" in held and held & {"enabled", "allowed"}:
        return "invalid_action", False
    if held & {"action", "actions", "command"}:
        if held & {"invalid", "skip", "skipped", "ignored"}:
            return "invalid_action", True
        if "valid" in held:
            return "invalid_action", False
    return None


def is_language(name: str) -> bool:
    return bool(LANGUAGE & set(words(name)))


def roles_of(cameras: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(role, why) of each camera by its name; cameras that say nothing take what is left, in their order."""
    roles: dict[str, tuple[str, str]] = {}
    on_wrists = [name for name in cameras if set(words(name)) & _WRIST]
    for name in on_wrists:
        side = "wrist_left" if _is_left(name, alone=len(on_wrists) == 1) else "wrist_right"
        if side not in {role for role, _ in roles.values()}:
            roles[name] = (side, "medium: by its name")
    outside = [name for name in cameras if name not in roles]
    called = sorted(outside, key=lambda name: (not set(words(name)) & _FIRST, name))
    for name, role in zip(called, [*_FREE, *(f"camera_{n}" for n in range(4, 100))], strict=False):
        first = role == _FREE[0] and set(words(name)) & _FIRST
        roles[name] = (role, "medium: by its name" if first else "low: by its place in the list")
    return {name: roles[name] for name in cameras}


def _is_left(name: str, *, alone: bool) -> bool:
    """Whether a wrist is the left one. `wrist_image_left` alone is the left eye of a stereo camera."""
    parts = words(name)
    at = next(n for n, word in enumerate(parts) if word in _WRIST)
    return bool(set(parts[:at] if alone else parts) & _LEFT)
