"""What datasets write of a motion, a word each: from what a robot did to the numbers of a feature.

The other way round than expressions.py, and as independent of the package.

Legend: T frames, d numbers of a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from foundry_testing.motion.arms import Array, Pose
from foundry_testing.motion.takes import Base, Motion, base, motion


@dataclass(frozen=True)
class Take:
    """One recording of a dataset: the motion of its right arm, the left one and its base, where a dataset
    writes them. `from_home` is whether its orientations are turns from that at home, `degrees` whether it
    writes angles so."""

    seed: int
    fps: float
    num_joints: int = 7
    from_home: bool = False
    degrees: bool = False

    @property
    def right(self) -> Motion:
        return motion(self.seed, self.fps, self.num_joints)

    @property
    def left(self) -> Motion:
        return motion(self.seed + 1000, self.fps, self.num_joints)

    @property
    def base(self) -> Base:
        return base(self.seed, self.fps)

    def angles(self, values_Td: Array) -> Array:
        """Radians as the dataset writes them."""
        return np.rad2deg(values_Td) if self.degrees else values_Td

    def framed(self, pose: Pose) -> Pose:
        position, rotation = pose
        arm = self.right.arm
        return position, rotation * arm.pose(np.array([arm.home]))[1][0].inv() if self.from_home else rotation


Word = Callable[[Take, Motion], Array]
# What a recorded displacement is of: what was asked of the controller, or what the state then did.
Steps = Callable[[Take, Motion], tuple[Array, Rotation, Rotation]]


def _asked(take: Take, motion: Motion) -> tuple[Array, Rotation, Rotation]:
    (start, held), (goal, wanted) = take.framed(motion.pose), take.framed(motion.asked_pose)
    return goal - start, held, wanted


def _made(take: Take, motion: Motion) -> tuple[Array, Rotation, Rotation]:
    position, rotation = take.framed(motion.pose)
    after = np.minimum(np.arange(len(position)) + 1, len(position) - 1)
    return position[after] - position, rotation, rotation[after]


def _base_turn(steps: Steps, form: str) -> Word:
    def word(take: Take, motion: Motion) -> Array:
        _, held, wanted = steps(take, motion)
        return _numbers(wanted * held.inv(), form, take)

    return word


def _tool_turn(steps: Steps, form: str) -> Word:
    def word(take: Take, motion: Motion) -> Array:
        _, held, wanted = steps(take, motion)
        return _numbers(held.inv() * wanted, form, take)

    return word


def _move(steps: Steps) -> Word:
    return lambda take, motion: steps(take, motion)[0]


def _numbers(rotation: Rotation, form: str, take: Take) -> Array:
    if form == "vector":
        return rotation.as_rotvec()  # a vector has a length, which no dataset writes in degrees
    if form in ("xyzw", "wxyz"):
        values_T4 = rotation.as_quat()
        return values_T4 if form == "xyzw" else values_T4[:, [3, 0, 1, 2]]
    return take.angles(rotation.as_euler({"rpy": "xyz"}.get(form, form)))


def _rotation(form: str, *, asked: bool = False) -> Word:
    def word(take: Take, motion: Motion) -> Array:
        return _numbers(take.framed(motion.asked_pose if asked else motion.pose)[1], form, take)

    return word


def _homogeneous(major: str) -> Word:
    def word(take: Take, motion: Motion) -> Array:
        position, rotation = take.framed(motion.pose)
        matrix = np.tile(np.eye(4), (len(position), 1, 1))
        matrix[:, :3, :3], matrix[:, :3, 3] = rotation.as_matrix(), position
        return (matrix if major == "rows" else matrix.transpose(0, 2, 1)).reshape(-1, 16)

    return word


def _slope(values_Td: Array, fps: float) -> Array:
    return np.asarray(np.gradient(values_Td, 1 / fps, axis=0))


def _turning(take: Take, motion: Motion) -> Array:
    _, held, after = _made(take, motion)
    return take.angles((after * held.inv()).as_rotvec() * take.fps)


def _joint_velocity(take: Take, motion: Motion) -> Array:
    return take.angles(_slope(motion.joints, take.fps))


def _joints_in_turn(take: Take, motion: Motion) -> Array:
    """Each joint's position with its velocity beside it."""
    pair = np.stack([take.angles(motion.joints), _joint_velocity(take, motion)], axis=-1)
    return pair.reshape(len(pair), -1)


def _closes_once(take: Take, motion: Motion) -> Array:
    """1 where it is asked to close, -1 where to open, for three frames, else 0."""
    change_T = np.diff(motion.asked_opening, prepend=1.0)
    return -np.clip(np.convolve(change_T, np.ones(3))[: len(change_T)], -1, 1)


def _onward(values_Td: Array) -> Array:
    """How far each goes from one frame to the next."""
    return np.diff(values_Td, axis=0, append=values_Td[-1:])


def _pose_step(take: Take, motion: Motion) -> Array:
    pose_T4 = numbers("position yaw_of_tool", take)
    return _onward(pose_T4)


def _load(take: Take, motion: Motion) -> Array:
    """What wrists and joints feel: a few newtons more while something is held."""
    rng = np.random.default_rng([take.seed, 7])
    held_T = 1 - motion.asked_opening
    return np.asarray(rng.normal(0, 0.3, (len(held_T), 7)) + 3 * held_T[:, None])


WORDS: Mapping[str, Word] = {
    "position": lambda take, m: m.pose[0],
    "xy": lambda take, m: m.pose[0][:, :2],
    "asked_xy": lambda take, m: m.asked_pose[0][:, :2],
    "asked_xy_step": lambda take, m: _onward(m.asked_pose[0][:, :2]),
    "made_pose_step": _pose_step,
    "rpy": _rotation("rpy"),
    "zxy": _rotation("zxy"),
    "xyzw": _rotation("xyzw"),
    "wxyz": _rotation("wxyz"),
    "vector": _rotation("vector"),
    "yaw_of_tool": lambda take, m: _rotation("rpy")(take, m)[:, 2:],
    "columns": _homogeneous("columns"),
    "rows": _homogeneous("rows"),
    "joints": lambda take, m: take.angles(m.joints),
    "joint_velocities": _joint_velocity,
    "joints_in_turn": _joints_in_turn,
    "linear_velocity": lambda take, m: _slope(m.pose[0], take.fps),
    "angular_velocity": _turning,
    "opening": lambda take, m: m.opening,
    "closedness": lambda take, m: 1 - m.opening,
    "closed_of_bcz": lambda take, m: 1 - 0.8 * m.opening,
    "load3": lambda take, m: _load(take, m)[:, :3],
    "load": _load,
    "asked_position": lambda take, m: m.asked_pose[0],
    "asked_rpy": _rotation("rpy", asked=True),
    "asked_zxy": _rotation("zxy", asked=True),
    "asked_xyzw": _rotation("xyzw", asked=True),
    "asked_joints": lambda take, m: take.angles(m.asked),
    "asked_joint_step": lambda take, m: take.angles(m.asked - m.joints),
    "asked_joint_velocity": lambda take, m: take.angles(take.fps * _onward(m.joints)),
    "opens": lambda take, m: m.asked_opening,
    "closes": lambda take, m: 1 - m.asked_opening,
    "closes_signed": lambda take, m: 1 - 2 * m.asked_opening,
    "opens_signed": lambda take, m: 2 * m.asked_opening - 1,
    "closes_once": _closes_once,
    **{f"{kind}_move": _move(steps) for kind, steps in (("asked", _asked), ("made", _made))},
    **{f"{kind}_turn_{form}": _base_turn(steps, form) for kind, steps in (("asked", _asked), ("made", _made))
       for form in ("rpy", "zxy", "vector")},
    **{f"{kind}_tool_turn_{form}": _tool_turn(steps, form)
       for kind, steps in (("asked", _asked), ("made", _made)) for form in ("rpy", "xyzw")},
    "base_position": lambda take, m: take.base.position,
    "base_yaw": lambda take, m: take.angles(take.base.yaw),
    "base_step": lambda take, m: _onward(take.base.position),
}  # fmt: skip


def numbers(text: str, take: Take) -> Array:
    """Of words one after another, the numbers [T, d] that they write. `0.08*opening` is scaled, `l.joints`
    of the left arm, and `0*3` stands for three zeros."""
    columns: list[Array] = []
    for word in text.split():
        factor, _, name = word.rpartition("*")
        if name.isdigit():
            columns.append(np.zeros((len(columns[0]) if columns else len(take.right.joints), int(name))))
            continue
        side, name = (take.left, name[2:]) if name.startswith("l.") else (take.right, name)
        # What is scaled is a share of something, whatever the unit of angles.
        values = WORDS[name](replace(take, degrees=False) if factor else take, side)
        columns.append((float(factor) if factor else 1.0) * values.reshape(len(values), -1))
    return np.concatenate(columns, axis=1)
