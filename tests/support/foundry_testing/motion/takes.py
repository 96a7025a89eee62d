"""One recording of arms that pick and place: what each was asked, and what it then did.

An operator leads the tool from place to place, rests, closes the gripper on things and lets go of them; the
joints come a part of the way to what is asked in each frame, and no sensor is exact. No convention of any
dataset is known here.

Legend: T frames, n joints, W places.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from foundry_testing.motion.arms import PANDA, UR5, Arm, Array, Pose

# An arm goes the way with this time constant, in s, as robosuite's damper of 2 √150 on a spring of 150
# does, and a gripper closes in so many.
ANSWERS_S, CLOSES_S = 2 / 150**0.5, 0.6
TREMOR_RAD, ENCODER_RAD = 2e-3, 1e-4
# From place to place, in s, and how long a recording is, in s and frames.
LEG_S, TAKE_S, FEWEST, MOST = 1.6, 12.0, 45, 150


@dataclass(frozen=True)
class Motion:
    """Of one arm. `opening` is 0 closed … 1 open; `asked` and `asked_opening` are what the operator wants,
    and the state of the next frame is on the way there."""

    joints: Array
    asked: Array
    opening: Array
    asked_opening: Array
    arm: Arm
    fps: float

    @property
    def pose(self) -> Pose:
        return self.arm.pose(self.joints)

    @property
    def asked_pose(self) -> Pose:
        return self.arm.pose(self.asked)


@dataclass(frozen=True)
class Base:
    """Of a base on wheels: position [T, 2] in m, yaw [T] in rad of -π … π."""

    position: Array
    yaw: Array


@cache
def motion(seed: int, fps: float, num_joints: int) -> Motion:
    """The motion of an arm of 6 or 7 joints at so many frames a second."""
    rng = np.random.default_rng([seed, num_joints, round(fps * 100)])
    arm = PANDA if num_joints == 7 else UR5
    frames = int(np.clip(TAKE_S * fps, FEWEST, MOST))
    legs = max(round(frames / fps / LEG_S), 3)
    path_Tn = _path(arm.reach(*_places(arm, legs + 1, rng)), frames + 1, rng)
    share = 1 - np.exp(-1 / fps / ANSWERS_S)
    joints_Tn, asked_Tn = _led(path_Tn, share, rng)
    asked_T = _grasps(frames, rng)
    return Motion(joints_Tn, asked_Tn, _fingers(asked_T, fps, rng), asked_T, arm, fps)


@cache
def base(seed: int, fps: float) -> Base:
    """A drive with turns at a walking pace."""
    rng = np.random.default_rng([seed, 2])
    frames = int(np.clip(TAKE_S * fps, FEWEST, MOST))
    yaw_T = rng.uniform(-3, 3) + np.cumsum(_slow(rng, frames, 1)[:, 0] * 0.6) / fps
    speed_T = 0.8 + 0.3 * np.tanh(_slow(rng, frames, 1)[:, 0])
    step_T2 = speed_T[:, None] / fps * np.stack([np.cos(yaw_T), np.sin(yaw_T)], axis=1)
    position_T2 = rng.uniform(-1, 1, 2) + np.cumsum(step_T2, axis=0) - step_T2
    return Base(position_T2, (yaw_T + np.pi) % (2 * np.pi) - np.pi)


def _places(arm: Arm, count: int, rng: np.random.Generator) -> Pose:
    """Where the tool is led: over a table, pointing down but for a tilt, turned about the vertical."""
    home_13, pointing = arm.pose(np.array([arm.home]))
    position_W3 = home_13 + rng.uniform([-0.1, -0.22, -0.2], [0.1, 0.22, 0.1], (count, 3))
    tilt_W3 = np.concatenate([rng.normal(0, 0.2, (count, 2)), rng.uniform(-0.9, 0.9, (count, 1))], axis=1)
    return position_W3, Rotation.from_rotvec(tilt_W3) * pointing


def _path(places_Wn: Array, frames: int, rng: np.random.Generator) -> Array:
    """From place to place by least jerk (Flash and Hogan, 1985), with a rest at each."""
    ends = np.cumsum(np.r_[0.0, rng.uniform(0.7, 1.3, len(places_Wn) - 1)])
    at_T = np.linspace(0, ends[-1], frames)
    leg_T = np.clip(np.searchsorted(ends, at_T, side="right") - 1, 0, len(ends) - 2)
    share_T = np.clip((at_T - ends[leg_T]) / (ends[leg_T + 1] - ends[leg_T]) / 0.85, 0, 1)
    eased_T1 = (share_T**3 * (10 - 15 * share_T + 6 * share_T**2))[:, None]
    return np.asarray(places_Wn[leg_T] + eased_T1 * (places_Wn[leg_T + 1] - places_Wn[leg_T]))


def _led(path_Tn: Array, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Joints as they are read and as they are asked for, of which they go a `share` in a frame."""
    frames, width = len(path_Tn) - 1, path_Tn.shape[1]
    tremor_Tn = TREMOR_RAD * _slow(rng, frames, width, slowness=2)
    joints, asked, now = [], [], path_Tn[0]
    for t in range(frames):
        wanted = now + (path_Tn[t + 1] - now) / share + tremor_Tn[t]
        joints.append(now)
        asked.append(wanted)
        now = now + share * (wanted - now)
    read_Tn = np.array(joints) + rng.normal(0, ENCODER_RAD, (frames, width))
    return read_Tn, np.array(asked)


def _grasps(frames: int, rng: np.random.Generator) -> Array:
    """Open 1 or closed 0: one or two things are taken and let go."""
    asked_T = np.ones(frames)
    for number in range(count := int(rng.integers(1, 3))):
        start, stop = (number + rng.uniform([0.15, 0.6], [0.4, 0.85])) / count * frames
        asked_T[int(start) : int(stop)] = 0.0
    return asked_T


def _fingers(asked_T: Array, fps: float, rng: np.random.Generator) -> Array:
    """They go at one speed and stop at what they hold."""
    holds, step = rng.uniform(0.05, 0.5), 1 / fps / CLOSES_S
    now, opening = asked_T[0], []
    for asked in asked_T:
        opening.append(now)
        now += np.clip(max(asked, holds) - now, -step, step)
    return np.clip(np.array(opening) + rng.normal(0, 2e-3, len(asked_T)), 0, 1)


def _slow(rng: np.random.Generator, frames: int, width: int, slowness: int = 9) -> Array:
    """Noise of unit variance that lasts some frames."""
    kernel = np.ones(slowness) / np.sqrt(slowness)
    noise = rng.normal(size=(frames + slowness, width))
    return np.stack([np.convolve(column, kernel, "same")[:frames] for column in noise.T], axis=1)
