"""Scripted experts: the next clean command as a function of the state, and the noise of a human hand.

Every expert is Markov: the phase is read off the state, there are no timers, so it recovers from any
disturbance and a policy can imitate it. What is recorded is the clean command; what is executed is that
command with noise on it, so demonstrations leave the rails and come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.tabletop.goals import Goal, Task
from robot_foundry.evaluation.worlds.tabletop.physics import (
    FINGER_RADIUS,
    HOME_ROTATION_33,
    MAX_WIDTH,
    NOTHING,
    Arm,
    Physics,
    Target,
    angle_between,
    turn,
)

HOVER = 0.055
FUNNEL = 0.09
CLEAR_HEIGHT = 0.10
CARRY_HEIGHT = 0.15
ALIGNED = 0.006
HANDOVER_3 = np.array([0.0, 0.0, 0.20])
LEAN = 0.55
GRIP_STEPS = 5
X_AXIS_3 = np.array([1.0, 0.0, 0.0])


def _toward(arm: Arm, waypoint_3: np.ndarray, speed: float) -> np.ndarray:
    delta_3 = waypoint_3 - arm.position_3
    length = math.sqrt(float(delta_3 @ delta_3))
    return waypoint_3 if length <= speed else arm.position_3 + delta_3 * (speed / length)


def _descend(arm: Arm, x: float, y: float, low: float, *, clear: float) -> np.ndarray:
    """Waypoint (3,) of a funnel over (x, y): rise first if below `clear`, cross above, sink near the axis."""
    away = math.hypot(arm.position_3[0] - x, arm.position_3[1] - y)
    if away > FUNNEL and arm.position_3[2] < clear - 0.02:
        return np.array([arm.position_3[0], arm.position_3[1], clear + 0.02])
    height = low + HOVER * min(1.0, max(0.0, away - ALIGNED) / FUNNEL)
    return np.array([x, y, max(height, clear) if away > FUNNEL else height])


@dataclass(frozen=True)
class Expert:
    """The scripted solution of one goal. `rotates` says whether the arms can turn; speed is m a step."""

    task: Task
    goal: Goal
    rotates: bool = True
    speed: float = 0.028

    def command(self, physics: Physics) -> tuple[Target, ...]:
        """The clean next command of every arm."""
        kind = self.goal.kind
        if kind == "reach":
            return (self._reach(physics),)
        if kind == "push":
            return (self._push(physics),)
        if kind == "handover":
            return self._handover(physics)
        return (self._carry(physics),)

    def done(self, physics: Physics) -> bool:
        return self.task.judge(physics, self.goal, True) is Outcome.SUCCESS

    def _target(self, arm: Arm, waypoint_3: np.ndarray, opening: float, lean: float = 0.0) -> Target:
        rotation_33 = arm.rotation_33
        if self.rotates:
            rotation_33 = turn(X_AXIS_3, lean) @ HOME_ROTATION_33
        return Target(_toward(arm, waypoint_3, self.speed), rotation_33, opening)

    # -- one arm -------------------------------------------------------------------------------------

    def _reach(self, physics: Physics) -> Target:
        arm = physics.arms[0]
        x, y, z = physics.touch_point(self.goal.target)
        return self._target(arm, _descend(arm, x, y, z + 0.003, clear=z + 0.025), 0.0)

    def _push(self, physics: Physics) -> Target:
        arm, i = physics.arms[0], self.goal.target
        zone = physics.scene.marks[self.goal.place]
        x, y, _ = physics.centre_N3[i]
        ux, uy = zone.x - x, zone.y - y
        left = math.hypot(ux, uy)
        if left < 0.012:
            return self._target(arm, arm.position_3 + [0.0, 0.0, 0.03], 0.0)
        ux, uy = ux / left, uy / left
        dx, dy = float(arm.position_3[0]) - x, float(arm.position_3[1]) - y
        behind = -(dx * ux + dy * uy)
        beside = abs(dx * uy - dy * ux)
        contact = physics.radius[i] + FINGER_RADIUS
        low = 0.022
        if arm.position_3[2] < low + 0.025 and contact * 0.8 < behind < contact + 0.05 and beside < 0.015:
            ahead = max(0.0, behind - contact) + min(left, self.speed)
            waypoint_3 = np.array([arm.position_3[0] + ux * ahead, arm.position_3[1] + uy * ahead, low])
            return self._target(arm, waypoint_3, 0.0)
        back = contact + 0.022
        return self._target(arm, _descend(arm, x - ux * back, y - uy * back, low, clear=CLEAR_HEIGHT), 0.0)

    def _pick(self, physics: Physics, arm: Arm, i: int) -> Target:
        x, y, z = physics.centre_N3[i]
        low = max(0.018, float(z))
        offset = math.hypot(arm.position_3[0] - x, arm.position_3[1] - y)
        upright = not self.rotates or angle_between(arm.rotation_33, HOME_ROTATION_33) < 0.12
        if offset < ALIGNED and arm.position_3[2] < low + 0.008 and upright:
            return self._target(arm, np.array([x, y, low]), 0.0)
        opened = arm.opening * MAX_WIDTH / 2 > physics.radius[i] + 0.008 and upright
        near = offset < FUNNEL and not opened and arm.position_3[2] < physics.top(i) + 0.03
        if near:  # closed fingers would land on the object: rise and open first
            return self._target(arm, arm.position_3 + [0.0, 0.0, 0.03], 1.0)
        ready = offset < 0.02 and opened
        depth = low if ready else max(low, physics.top(i) + 0.015)
        return self._target(arm, _descend(arm, x, y, depth, clear=physics.top(i) + 0.05), 1.0)

    def _carry(self, physics: Physics) -> Target:
        """Pick the target up and put it down on its place (a mark, or the top of another solid)."""
        arm, i, place = physics.arms[0], self.goal.target, self.goal.place
        if self.done(physics):
            return self._target(arm, arm.position_3 + [0.0, 0.0, 0.03], 1.0)
        if arm.held == NOTHING:
            return self._pick(physics, arm, i)
        if arm.held != i:
            return self._target(arm, arm.position_3, 1.0)
        if self.goal.kind == "stack":
            x, y, _ = (float(v) for v in physics.centre_N3[place])
            floor = physics.top(place)
        else:
            x, y, floor = physics.scene.marks[place].x, physics.scene.marks[place].y, 0.0
        shift_3 = arm.position_3 - physics.centre_N3[i]
        tip_x, tip_y = x + float(shift_3[0]), y + float(shift_3[1])
        low = floor + physics.half_height[i] + float(shift_3[2])
        away = math.hypot(arm.position_3[0] - tip_x, arm.position_3[1] - tip_y)
        if away < 0.008 and arm.position_3[2] < low + 0.006:
            return self._target(arm, arm.position_3, 1.0)
        # The funnel of a load is steeper: it must not sweep its own target place away.
        sink = min(1.0, max(0.0, away - ALIGNED) / 0.05)
        height = max(low + 0.04 * sink, CARRY_HEIGHT if away > 0.05 else 0.0)
        if away > 0.05 and arm.position_3[2] < CARRY_HEIGHT - 0.03:
            return self._target(arm, np.array([*arm.position_3[:2], CARRY_HEIGHT + 0.01]), 0.0)
        return self._target(arm, np.array([tip_x, tip_y, height]), 0.0)

    # -- two arms ------------------------------------------------------------------------------------

    def _handover(self, physics: Physics) -> tuple[Target, ...]:
        giver, taker = physics.arms[self.goal.giver], physics.arms[self.goal.taker]
        i = self.goal.target
        side = -1.0 if self.goal.giver == 0 else 1.0
        wait_3 = np.array([0.0, -side * 0.16, 0.22])
        # Both tools lean outwards, away from each other, where they meet.
        lean_giver, lean_taker = side * LEAN, -side * LEAN
        rest = self._target(taker, wait_3, 1.0, lean_taker)
        if giver.held == i and taker.held == i:
            give = self._target(giver, giver.position_3, 1.0, lean_giver)
            take = self._target(taker, taker.position_3, 0.0, lean_taker)
        elif taker.held == i:
            give = self._target(giver, np.array([-0.02, side * 0.20, 0.24]), 1.0, lean_giver)
            take = self._target(taker, np.array([-0.02, -side * 0.12, 0.22]), 0.0, lean_taker)
        elif giver.held == i:
            raised = giver.position_3[2] > CARRY_HEIGHT - 0.03
            waypoint_3 = HANDOVER_3 if raised else np.array([*giver.position_3[:2], CARRY_HEIGHT + 0.01])
            give = self._target(giver, waypoint_3, 0.0, lean_giver if raised else 0.0)
            there = math.dist(giver.position_3, HANDOVER_3) < 0.01
            take = self._take(physics, taker, i, lean_taker) if there else rest
        elif giver.held == NOTHING:
            give, take = self._pick(physics, giver, i), rest
        else:
            give, take = self._target(giver, giver.position_3, 1.0), rest
        return (give, take) if self.goal.giver == 0 else (take, give)

    def _take(self, physics: Physics, taker: Arm, i: int, lean: float) -> Target:
        near = math.dist(taker.position_3, physics.centre_N3[i]) < ALIGNED
        return self._target(taker, physics.centre_N3[i].copy(), 0.0 if near else 1.0, lean)


class HandNoise:
    """Noise on executed commands: a steady tremor and now and then a burst that drifts off one way.

    `rng` alone decides it. Bursts start with probability `burst` a step and last 2–4 steps; a hand that
    begins to close or open its gripper holds steady until that is done.
    """

    def __init__(
        self, rng: np.random.Generator, *, tremor: float = 0.0015, burst: float = 0.07, rotates: bool = True
    ) -> None:
        self._rng = rng
        self._tremor = tremor
        self._burst = burst
        self._rotates = rotates
        self._left = 0
        self._steady = 0
        self._openings: tuple[float, ...] | None = None
        self._drift_3 = np.zeros(3)
        self._twist_3 = np.zeros(3)

    def apply(self, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        openings = tuple(target.opening for target in targets)
        if self._openings not in (None, openings):
            self._left, self._steady = 0, GRIP_STEPS
        self._openings, self._steady = openings, max(0, self._steady - 1)
        if self._left == 0 and self._steady == 0 and self._rng.random() < self._burst:
            self._left = int(self._rng.integers(2, 5))
            self._drift_3 = self._rng.normal(0.0, 0.011, 3)
            self._twist_3 = self._rng.normal(0.0, 0.05, 3)
        bursting, self._left = self._left > 0, max(0, self._left - 1)
        return tuple(self._noisy(target, bursting) for target in targets)

    def _noisy(self, target: Target, bursting: bool) -> Target:
        position_3 = target.position_3 + self._rng.normal(0.0, self._tremor, 3)
        rotation_33 = target.rotation_33
        if bursting:
            position_3 = position_3 + self._drift_3
            angle = float(np.linalg.norm(self._twist_3))
            if self._rotates and angle > 1e-6:
                rotation_33 = turn(self._twist_3 / angle, angle) @ rotation_33
        return Target(position_3, rotation_33, target.opening)
