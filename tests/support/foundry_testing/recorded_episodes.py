"""Episodes that are right until a test spoils them, and what the data checks find.

Legend: N frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from foundry_testing.motion.takes import motion
from robot_foundry.checks.evidence import Column, EpisodeRows, Evidence
from robot_foundry.checks.finding import Finding
from robot_foundry.checks.measures import measure
from robot_foundry.checks.rules import findings
from robot_foundry.normalization.space import ActionSpace, dims_for

FPS = 20.0
Array = NDArray[np.float64]
POSE = ["right.ee_position", "right.ee_rot6d", "right.gripper_opening"]
STATE = ActionSpace(
    [*POSE, *dims_for("right.joint_position", count=6), *dims_for("right.joint_velocity", count=6)]
)
ACTION = ActionSpace([*POSE, *dims_for("right.joint_position", count=6)])


def rot6d(rotation: Rotation) -> Array:
    matrix_N33 = rotation.as_matrix()
    return np.concatenate([matrix_N33[:, :, 0], matrix_N33[:, :, 1]], axis=1)


def smooth(rng: np.random.Generator, n: int, width: int, scale: float, slowness: int = 12) -> Array:
    """Random motion of a few Hz: a walk, filtered twice."""
    kernel = np.ones(slowness) / slowness
    walk = rng.normal(size=(n + 4 * slowness, width))
    for _ in range(2):
        walk = np.stack([np.convolve(column, kernel, mode="same") for column in walk.T], axis=1)
    return scale * walk[2 * slowness : 2 * slowness + n] * math.sqrt(slowness)


class Episode:
    """A right recording whose parts a test may spoil before `rows()`; targets come `lag` frames early."""

    def __init__(self, seed: int, n: int = 240, lag: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.key = f"demo-{seed}"
        ahead = lag + 1
        total = n + ahead
        self.position = np.array([0.5, 0.0, 0.3]) + smooth(rng, total, 3, 0.1)
        self.rotation = Rotation.from_euler("xyz", [math.pi, 0.0, 0.4]) * Rotation.from_rotvec(
            smooth(rng, total, 3, 0.25)
        )
        self.joints = smooth(rng, total, 6, 0.5)
        self.velocity = np.gradient(self.joints, 1 / FPS, axis=0)
        asked = (np.arange(total) // 60) % 2 == 0
        self.asked = asked.astype(float)
        opening = np.empty(total)
        opening[0] = 1.0
        for t in range(1, total):  # 0.4 s for the whole way
            opening[t] = opening[t - 1] + np.clip(self.asked[t - 1] - opening[t - 1], -0.125, 0.125)
        self.opening = np.clip(opening + rng.normal(0, 1e-3, total), 0, 1)
        self.time = np.arange(n) / FPS
        self.images = {"front": rng.integers(1 << 40, size=n)}
        noise = rng.normal(0, 2e-4, (total, 3))
        self.command = {
            "ee_position": (self.position + noise)[ahead:],
            "ee_rot6d": rot6d(self.rotation)[ahead:],
            "gripper_opening": self.asked[:n, None],
            "joint_position": self.joints[ahead:].copy(),
        }
        for name in ("position", "joints", "velocity", "opening"):
            setattr(self, name, getattr(self, name)[:n].copy())
        self.rotation = self.rotation[:n]
        self.fps = FPS

    def rows(self, with_command: bool = True) -> EpisodeRows:
        pose = [self.position, rot6d(self.rotation), self.opening[:, None]]
        state = np.concatenate([*pose, self.joints, self.velocity], axis=1).astype(np.float32)
        following_state = np.concatenate([state[1:], state[-1:]])[:, : len(ACTION)]
        following_state[:, 9] = self.command["gripper_opening"][:, 0]
        valid = np.ones(len(state), bool)
        streams = {"action.next_state": following_state}
        if with_command:
            names = ("ee_position", "ee_rot6d", "gripper_opening", "joint_position")
            command = np.concatenate([self.command[name] for name in names], axis=1)
            streams["action.command"] = command.astype(np.float32)
        columns = {"state": Column(state, valid, STATE)}
        columns |= {name: Column(values, valid, ACTION) for name, values in streams.items()}
        return EpisodeRows(self.key, self.fps, self.time, columns, self.images)


def wheeled(seed: int = 0, n: int = 240, scale: float = 1.0) -> EpisodeRows:
    """A base that drives where it points, whose yaw is recorded `scale` times."""
    rng = np.random.default_rng(seed)
    yaw = np.cumsum(smooth(rng, n, 1, 0.05)[:, 0])
    step = 0.05 * np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    shown = scale * ((yaw + math.pi) % (2 * math.pi) - math.pi)
    values = np.concatenate([np.cumsum(step, axis=0) - step, shown[:, None]], axis=1)
    space = ActionSpace([*dims_for("base.position"), *dims_for("base.yaw")])
    column = Column(values.astype(np.float32), np.ones(n, bool), space)
    return EpisodeRows(f"drive-{seed}", FPS, np.arange(n) / FPS, {"state": column})


def spun(seed: int = 0, scale: float = 1.0) -> EpisodeRows:
    """An arm of which the tool's position and the velocities of joints are recorded, these `scale` times."""
    take = motion(seed, FPS, 7)
    velocity = scale * np.gradient(take.joints, 1 / FPS, axis=0)
    values = np.concatenate([take.pose[0], velocity], axis=1).astype(np.float32)
    space = ActionSpace(["right.ee_position", *dims_for("right.joint_velocity", count=7)])
    column = Column(values, np.ones(len(values), bool), space)
    return EpisodeRows(f"spin-{seed}", FPS, np.arange(len(values)) / FPS, {"state": column})


def judged(
    episodes: Sequence[Episode], mapping: Mapping[str, Any] | None = None, *, with_command: bool = True
) -> list[Finding]:
    evidence = Evidence.merge_all([measure(episode.rows(with_command)) for episode in episodes])
    return findings(evidence, {}, mapping)


def checks(found: Sequence[Finding]) -> set[str]:
    return {finding.check for finding in found}


def made(spoil: Callable[[Episode], object] | None = None, lag: int = 0, count: int = 4) -> list[Episode]:
    episodes = [Episode(seed, lag=lag) for seed in range(count)]
    for episode in episodes:
        if spoil is not None:
            spoil(episode)
    return episodes
