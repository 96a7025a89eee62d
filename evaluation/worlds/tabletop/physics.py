"""Kinematic contact rules: arms go where they are told within limits, objects follow by geometry alone.

Rules: a finger or a carried object coming from above rests on what is below it; coming from the side it
pushes it; closing fingers hold the object between them; a released object drops straight onto what is
below; a pushed object pushes its neighbours and carries what stands on it.

Tool frame: origin between the fingertips, z the approach direction, x the direction the fingers open.
Shape suffixes: N solids, 3 = (x, y, z), 33 rotation matrix. Metres, radians, table frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from robot_foundry.evaluation.worlds.tabletop.objects import SHAPES, TABLE_HALF, Scene

HOME_ROTATION_33 = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
MAX_STEP = 0.03
MAX_TURN = 0.25
MAX_GRIP = 0.25
MAX_WIDTH = 0.10
FINGER_RADIUS = 0.009
FINGER_LENGTH = 0.06
REACH_LOW_3 = np.array([-0.38, -0.38, 0.008])
REACH_HIGH_3 = np.array([0.38, 0.38, 0.45])
SUBSTEPS = 4
GRASP_DEPTH = 0.024
# A pushed object sticks to the finger while the push lies within the friction cone (rubber tips: mu = 1.3).
STICK_COSINE = 0.6
NOTHING = -1


@dataclass(frozen=True)
class Target:
    """Where one arm is told to go: position (3,), rotation (3, 3), gripper opening 0 closed … 1 open."""

    position_3: np.ndarray
    rotation_33: np.ndarray
    opening: float


@dataclass
class Arm:
    """One arm's state, all of it that a robot would measure, and what it holds."""

    name: str
    position_3: np.ndarray
    rotation_33: np.ndarray
    opening: float
    held: int = NOTHING
    grip_position_3: np.ndarray = field(default_factory=lambda: np.zeros(3))
    grip_rotation_33: np.ndarray = field(default_factory=lambda: np.eye(3))

    def fingers(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (3,) of the two fingertip centres."""
        side_3 = self.rotation_33[:, 0] * (self.opening * MAX_WIDTH / 2 + FINGER_RADIUS)
        return self.position_3 - side_3, self.position_3 + side_3


def turn(axis_3: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix (3, 3) about a unit axis (Rodrigues)."""
    x, y, z = axis_3
    c, s = math.cos(angle), math.sin(angle)
    t = 1.0 - c
    return np.array(
        [
            [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
        ]
    )


def angle_between(a_33: np.ndarray, b_33: np.ndarray) -> float:
    """Angle in radians of the rotation that takes `a_33` to `b_33`."""
    cosine = (float((a_33 * b_33).sum()) - 1.0) / 2.0
    return math.acos(min(1.0, max(-1.0, cosine)))


def turned_towards(current_33: np.ndarray, target_33: np.ndarray, limit: float) -> np.ndarray:
    """`current_33` rotated towards `target_33` by at most `limit` radians."""
    angle = angle_between(current_33, target_33)
    if angle <= limit:
        return target_33
    relative = target_33 @ current_33.T
    axis_3 = np.array(
        [relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0], relative[1, 0] - relative[0, 1]]
    )
    norm = math.sqrt(float(axis_3 @ axis_3))
    if norm < 1e-6:  # half a turn: every axis of the symmetric part is as good, take the largest column
        column = relative + np.eye(3)
        axis_3 = column[:, int(np.argmax(np.abs(np.diagonal(column))))]
        norm = math.sqrt(float(axis_3 @ axis_3))
    return turn(axis_3 / norm, limit) @ current_33


class Physics:
    """The state of the table and the rules that change it."""

    def __init__(self, scene: Scene, arms: Sequence[Arm]) -> None:
        self.scene = scene
        self.arms = list(arms)
        solids = scene.solids
        self.centre_N3 = np.array([[s.x, s.y, s.half_height] for s in solids], dtype=np.float64)
        self.rotation_N33 = np.stack([turn(np.array([0.0, 0.0, 1.0]), s.yaw) for s in solids])
        self.radius = [s.contact_radius for s in solids]
        self.half_height = [s.half_height for s in solids]
        self.support = [NOTHING] * len(solids)
        self.holders: list[list[int]] = [[] for _ in solids]
        self.grasps: list[list[int]] = [[] for _ in solids]  # the arms that took hold of it, in order

    # -- questions -----------------------------------------------------------------------------------

    def top(self, i: int) -> float:
        return float(self.centre_N3[i, 2]) + self.half_height[i]

    def touch_point(self, i: int) -> np.ndarray:
        """The middle of solid i's upper end, (3,)."""
        return self.centre_N3[i] + np.array([0.0, 0.0, self.half_height[i]])

    def planar(self, i: int, x: float, y: float) -> float:
        return math.hypot(self.centre_N3[i, 0] - x, self.centre_N3[i, 1] - y)

    # -- one step ------------------------------------------------------------------------------------

    def step(self, targets: Sequence[Target]) -> None:
        """Move every arm towards its target, at most 3 cm, 0.25 rad and a quarter of the gripper's range."""
        for index, target in enumerate(targets):
            arm = self.arms[index]
            arm.rotation_33 = turned_towards(arm.rotation_33, target.rotation_33, MAX_TURN)
            goal_3 = np.minimum(np.maximum(target.position_3, REACH_LOW_3), REACH_HIGH_3)
            delta_3 = goal_3 - arm.position_3
            length = math.sqrt(float(delta_3 @ delta_3))
            if length > MAX_STEP:
                delta_3 = delta_3 * (MAX_STEP / length)
            self._translate(index, delta_3)
            self._grip(index, float(target.opening))

    def _translate(self, index: int, delta_3: np.ndarray) -> None:
        arm = self.arms[index]
        if arm.held == NOTHING and self._in_the_clear(arm, float(delta_3[2])):
            arm.position_3 = arm.position_3 + delta_3
            return
        part_3 = delta_3 / SUBSTEPS
        for _ in range(SUBSTEPS):
            before_3 = arm.position_3
            moved_3 = before_3 + part_3
            moved_3[2] = max(moved_3[2], self._floor(arm, moved_3))
            arm.position_3 = moved_3
            self._carry(index)
            self._push_all(arm, moved_3 - before_3)

    def _in_the_clear(self, arm: Arm, dz: float) -> bool:
        drop = abs(float(arm.rotation_33[2, 0])) * (arm.opening * MAX_WIDTH / 2 + FINGER_RADIUS)
        lowest = float(arm.position_3[2]) + min(0.0, dz) - drop
        return all(lowest > self.top(i) for i in range(len(self.radius)) if not self.holders[i])

    def _floor(self, arm: Arm, moved_3: np.ndarray) -> float:
        """The lowest tip height at `moved_3` (3,) that keeps fingers and load above what lies below."""
        floor = float(REACH_LOW_3[2])
        shift_3 = moved_3 - arm.position_3
        probes = [(finger, 0.0) for finger in arm.fingers()]
        if arm.held != NOTHING:
            load_3 = self.centre_N3[arm.held]
            bottom = float(arm.position_3[2] - load_3[2]) + self.half_height[arm.held]
            floor = max(floor, bottom)
            probes.append((load_3 - [0.0, 0.0, self.half_height[arm.held]], 0.8 * self.radius[arm.held]))
        for i in range(len(self.radius)):
            if self.holders[i]:
                continue
            top = self.top(i)
            for probe_3, reach in probes:
                over = self.planar(i, probe_3[0] + shift_3[0], probe_3[1] + shift_3[1])
                if over < self.radius[i] + reach and probe_3[2] >= top - 1e-3:
                    floor = max(floor, top + float(arm.position_3[2] - probe_3[2]))
        return floor

    def _carry(self, index: int) -> None:
        arm = self.arms[index]
        if arm.held != NOTHING and self.holders[arm.held][0] == index:
            self.centre_N3[arm.held] = arm.position_3 + arm.rotation_33 @ arm.grip_position_3
            self.rotation_N33[arm.held] = arm.rotation_33 @ arm.grip_rotation_33

    # -- pushing -------------------------------------------------------------------------------------

    def _push_all(self, arm: Arm, motion_3: np.ndarray) -> None:
        pushers = [(finger, FINGER_RADIUS, finger[2]) for finger in arm.fingers()]
        if arm.held != NOTHING:
            load_3 = self.centre_N3[arm.held]
            pushers.append((load_3, self.radius[arm.held], load_3[2] - self.half_height[arm.held]))
        for point_3, radius, bottom in pushers:
            for i in range(len(self.radius)):
                if self.holders[i] or bottom >= self.top(i) - 1e-3:
                    continue
                if point_3[2] + FINGER_LENGTH < self.centre_N3[i, 2] - self.half_height[i]:
                    continue
                self._push(i, point_3, radius, motion_3)

    def _push(self, i: int, point_3: np.ndarray, radius: float, motion_3: np.ndarray) -> None:
        """Move solid i out of a disc at `point_3`: along the motion if that sticks, else along the normal."""
        contact = self.radius[i] + radius
        vx, vy = float(self.centre_N3[i, 0] - point_3[0]), float(self.centre_N3[i, 1] - point_3[1])
        distance = math.hypot(vx, vy)
        if distance >= contact:
            return
        nx, ny = (vx / distance, vy / distance) if distance > 1e-9 else (1.0, 0.0)
        dx, dy = nx * (contact - distance), ny * (contact - distance)
        speed = math.hypot(motion_3[0], motion_3[1])
        if speed > 1e-9:
            mx, my = float(motion_3[0]) / speed, float(motion_3[1]) / speed
            if mx * nx + my * ny > STICK_COSINE:
                along = vx * mx + vy * my
                slide = -along + math.sqrt(along * along - distance * distance + contact * contact)
                dx, dy = mx * slide, my * slide
        self._shift(i, dx, dy, frozenset((i,)))

    def _shift(self, i: int, dx: float, dy: float, pushing: frozenset[int]) -> None:
        x, y = self._on_table(i, float(self.centre_N3[i, 0]) + dx, float(self.centre_N3[i, 1]) + dy)
        moved = (x - float(self.centre_N3[i, 0]), y - float(self.centre_N3[i, 1]))
        self.centre_N3[i, 0], self.centre_N3[i, 1] = x, y
        for j in range(len(self.radius)):
            if j in pushing or self.holders[j]:
                continue
            if self.support[j] == i:
                self._shift(j, *moved, pushing | {j})
            elif (
                abs(self.centre_N3[i, 2] - self.centre_N3[j, 2])
                < self.half_height[i] + self.half_height[j] - 1e-3
            ):
                vx, vy = float(self.centre_N3[j, 0]) - x, float(self.centre_N3[j, 1]) - y
                distance, contact = math.hypot(vx, vy), self.radius[i] + self.radius[j]
                if 1e-9 < distance < contact:
                    scale = (contact - distance) / distance
                    self._shift(j, vx * scale, vy * scale, pushing | {j})

    def _on_table(self, i: int, x: float, y: float) -> tuple[float, float]:
        """The nearest place on the table: a rim keeps objects from falling off it."""
        limit = TABLE_HALF - self.radius[i] * 0.5
        return min(limit, max(-limit, x)), min(limit, max(-limit, y))

    # -- grasping ------------------------------------------------------------------------------------

    def _grip(self, index: int, opening: float) -> None:
        arm = self.arms[index]
        wanted = arm.opening + min(MAX_GRIP, max(-MAX_GRIP, min(1.0, max(0.0, opening)) - arm.opening))
        if arm.held != NOTHING:
            if wanted > arm.opening + 0.05:
                self._release(index)
                arm.opening = wanted
            return
        if wanted < arm.opening:
            i = self._between_fingers(arm)
            if i != NOTHING and wanted * MAX_WIDTH <= 2 * self.radius[i]:
                arm.opening = 2 * self.radius[i] / MAX_WIDTH
                self._hold(index, i)
                return
        arm.opening = wanted
        self._push_all(arm, np.zeros(3))

    def _between_fingers(self, arm: Arm) -> int:
        gap = arm.opening * MAX_WIDTH / 2
        for i in range(len(self.radius)):
            shape = SHAPES[self.scene.solids[i].shape]
            if not shape.graspable or gap < self.radius[i] - 1e-3:
                continue
            offset_3 = arm.rotation_33.T @ (self.centre_N3[i] - arm.position_3)
            inside = abs(offset_3[0]) <= gap - self.radius[i] + 0.004 and abs(offset_3[1]) <= GRASP_DEPTH
            if inside and abs(offset_3[2]) <= self.half_height[i]:
                return i
        return NOTHING

    def _hold(self, index: int, i: int) -> None:
        arm = self.arms[index]
        arm.held = i
        if not self.holders[i]:
            self._centre_between(arm, i)
        self.holders[i].append(index)
        self.grasps[i].append(index)
        self.support[i] = NOTHING
        self._attach(arm, i)
        for j in range(len(self.radius)):
            if self.support[j] == i:
                self.support[j] = NOTHING
                self._settle(j)

    def _centre_between(self, arm: Arm, i: int) -> None:
        """Closing fingers move the object to the middle between them and turn it to face them."""
        side_3 = arm.rotation_33[:, 0]
        self.centre_N3[i] -= side_3 * float(side_3 @ (self.centre_N3[i] - arm.position_3))
        heading = math.atan2(side_3[1], side_3[0])
        yaw = math.atan2(self.rotation_N33[i, 1, 0], self.rotation_N33[i, 0, 0])
        quarter = math.pi / 2
        faced = heading + quarter * round((yaw - heading) / quarter)
        self.rotation_N33[i] = turn(np.array([0.0, 0.0, 1.0]), faced)

    def _attach(self, arm: Arm, i: int) -> None:
        arm.grip_position_3 = arm.rotation_33.T @ (self.centre_N3[i] - arm.position_3)
        arm.grip_rotation_33 = arm.rotation_33.T @ self.rotation_N33[i]

    def _release(self, index: int) -> None:
        arm = self.arms[index]
        i, arm.held = arm.held, NOTHING
        self.holders[i].remove(index)
        if self.holders[i]:
            self._attach(self.arms[self.holders[i][0]], i)
        else:
            self._settle(i)

    def _settle(self, i: int) -> None:
        """Drop solid i straight down, upright, onto a flat top under its centre or onto the table."""
        yaw = math.atan2(self.rotation_N33[i, 1, 0], self.rotation_N33[i, 0, 0])
        self.rotation_N33[i] = turn(np.array([0.0, 0.0, 1.0]), yaw)
        x, y, z = (float(v) for v in self.centre_N3[i])
        bottom = z - self.half_height[i]
        below = [
            j
            for j in range(len(self.radius))
            if j != i
            and not self.holders[j]
            and SHAPES[self.scene.solids[j].shape].flat_top
            and self.planar(j, x, y) < 0.75 * self.radius[j]
            and self.top(j) <= bottom + 0.01
        ]
        if below and SHAPES[self.scene.solids[i].shape].flat_top:
            self.support[i] = max(below, key=self.top)
            self.centre_N3[i, 2] = self.top(self.support[i]) + self.half_height[i]
            return
        self.centre_N3[i] = (*self._on_table(i, x, y), self.half_height[i])
        for j in range(len(self.radius)):
            if j != i and not self.holders[j] and self.support[j] == NOTHING:
                self._push(i, self.centre_N3[j], self.radius[j], np.zeros(3))
