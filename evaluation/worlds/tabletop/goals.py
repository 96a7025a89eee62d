"""The goals of the tasks: which scene is drawn, what is asked, when it is reached.

Success is geometry. `strict` judges with smaller tolerances: demonstrations are recorded until the strict
goal is met, so that a policy that imitates them aims at the middle of what an evaluation accepts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.tabletop.objects import (
    COLOURS,
    GRASPABLE,
    SHAPES,
    STACKABLE,
    Mark,
    Scene,
    Solid,
    place,
)
from robot_foundry.evaluation.worlds.tabletop.physics import NOTHING, Physics
from robot_foundry.runtime.errors import UsageError, nearest

SPREAD = 0.21
GAP = 0.05
ZONE_RADIUS = 0.06
PUSH_CLEARANCE = 0.12


@dataclass(frozen=True)
class Goal:
    """What is asked: `target` is a solid; `place` a mark (push, pick) or a solid (stack); arms by index."""

    kind: str
    target: int
    place: int = NOTHING
    giver: int = 0
    taker: int = NOTHING


@dataclass(frozen=True)
class Task:
    """A named task. `draw(rng)` gives a scene and its goal; `judge(physics, goal, strict)` its outcome."""

    name: str
    arms: tuple[str, ...]
    max_steps: int
    draw: Callable[[np.random.Generator], tuple[Scene, Goal]]
    judge: Callable[[Physics, Goal, bool], Outcome]


# -- drawing scenes ----------------------------------------------------------------------------------


def _looks(rng: np.random.Generator, shapes: list[tuple[str, ...]]) -> list[tuple[str, str, float, float]]:
    """(shape, colour, size, yaw) of one solid per entry of allowed shapes; colours are all different."""
    colours = rng.permutation(len(COLOURS))
    return [
        (
            str(rng.choice(allowed)),
            COLOURS[int(colours[i])],
            float(rng.uniform(0.027, 0.032)),
            float(rng.uniform(-math.pi, math.pi)),
        )
        for i, allowed in enumerate(shapes)
    ]


def _solids(
    looks: list[tuple[str, str, float, float]], points: list[tuple[float, float]]
) -> tuple[Solid, ...]:
    return tuple(
        Solid(shape, colour, size, x, y, yaw)
        for (shape, colour, size, yaw), (x, y) in zip(looks, points, strict=True)
    )


def _unused_colours(rng: np.random.Generator, looks: list[tuple[str, str, float, float]]) -> list[str]:
    used = {colour for _, colour, _, _ in looks}
    free = [colour for colour in COLOURS if colour not in used]
    return [free[int(i)] for i in rng.permutation(len(free))]


def _draw_reach(low: int, high: int) -> Callable[[np.random.Generator], tuple[Scene, Goal]]:
    def draw(rng: np.random.Generator) -> tuple[Scene, Goal]:
        count = int(rng.integers(low, high + 1))
        looks = _looks(rng, [tuple(SHAPES)] * count)
        points = place(rng, [0.03] * count, half=SPREAD, gap=0.08 if count < 4 else GAP)
        return Scene(_solids(looks, points)), Goal("reach", int(rng.integers(count)))

    return draw


def _draw_push(rng: np.random.Generator) -> tuple[Scene, Goal]:
    count = int(rng.integers(2, 4))
    looks = _looks(rng, [("cube", "can", "cone")] * count)

    def path_is_free(points: list[tuple[float, float]]) -> bool:
        (sx, sy), (zx, zy) = points[0], points[count]
        ux, uy = zx - sx, zy - sy
        length = math.hypot(ux, uy)
        if not 0.16 <= length <= 0.34:
            return False
        for x, y in points[1:count]:
            along = ((x - sx) * ux + (y - sy) * uy) / length
            along = min(length, max(-PUSH_CLEARANCE, along))
            if math.hypot(sx + along * ux / length - x, sy + along * uy / length - y) < PUSH_CLEARANCE:
                return False
        return True

    points = place(rng, [0.03] * count + [ZONE_RADIUS], half=0.19, gap=0.03, accept=path_is_free)
    zone = Mark("zone", _unused_colours(rng, looks)[0], ZONE_RADIUS, *points[count])
    return Scene(_solids(looks, points[:count]), (zone,)), Goal("push", 0, 0)


def _draw_pick_place(rng: np.random.Generator) -> tuple[Scene, Goal]:
    count = int(rng.integers(2, 4))
    looks = _looks(rng, [GRASPABLE] * count)
    points = place(rng, [0.03] * count + [ZONE_RADIUS] * 2, half=0.21, gap=0.03)
    colours = _unused_colours(rng, looks)
    plates = tuple(Mark("plate", colours[i], ZONE_RADIUS, *points[count + i]) for i in range(2))
    return Scene(_solids(looks, points[:count]), plates), Goal("pick_place", 0, int(rng.integers(2)))


def _draw_stack(rng: np.random.Generator) -> tuple[Scene, Goal]:
    count = int(rng.integers(3, 5))
    looks = _looks(rng, [STACKABLE, STACKABLE] + [tuple(SHAPES)] * (count - 2))
    points = place(rng, [0.03] * count, half=0.21, gap=GAP)
    return Scene(_solids(looks, points)), Goal("stack", 0, 1)


def _draw_handover(rng: np.random.Generator) -> tuple[Scene, Goal]:
    count = int(rng.integers(3, 5))
    giver = int(rng.integers(2))
    side = -1.0 if giver == 0 else 1.0
    looks = _looks(rng, [GRASPABLE] + [tuple(SHAPES)] * (count - 1))
    points = place(rng, [0.03] * count, half=0.21, gap=GAP, accept=lambda points: side * points[0][1] > 0.03)
    return Scene(_solids(looks, points)), Goal("handover", 0, giver=giver, taker=1 - giver)


# -- judging -----------------------------------------------------------------------------------------


def touch_distance(physics: Physics, i: int) -> float:
    """Distance in metres from the nearest tool tip to the middle of solid i's upper end."""
    point_3 = physics.touch_point(i)
    return min(math.dist(arm.position_3, point_3) for arm in physics.arms)


def _judge_reach(physics: Physics, goal: Goal, strict: bool) -> Outcome:
    if touch_distance(physics, goal.target) <= (0.012 if strict else REACH_TOLERANCE):
        return Outcome.SUCCESS
    others = (i for i in range(len(physics.radius)) if i != goal.target)
    wrong = any(touch_distance(physics, i) <= REACH_TOLERANCE for i in others)
    return Outcome.FAILURE if wrong else Outcome.RUNNING


def _judge_push(physics: Physics, goal: Goal, strict: bool) -> Outcome:
    zone = physics.scene.marks[goal.place]
    if physics.holders[goal.target] or physics.support[goal.target] != NOTHING:
        return Outcome.RUNNING
    near = physics.planar(goal.target, zone.x, zone.y) <= (0.02 if strict else PLACE_TOLERANCE)
    return Outcome.SUCCESS if near else Outcome.RUNNING


def _judge_stack(physics: Physics, goal: Goal, strict: bool) -> Outcome:
    rests = physics.support[goal.target] == goal.place and not physics.holders[goal.target]
    if rests and strict:
        x, y, _ = physics.centre_N3[goal.place]
        rests = physics.planar(goal.target, x, y) < 0.012
    return Outcome.SUCCESS if rests else Outcome.RUNNING


def _judge_handover(physics: Physics, goal: Goal, strict: bool) -> Outcome:
    giver, taker = physics.arms[goal.giver], physics.arms[goal.taker]
    passed = taker.held == goal.target and giver.held == NOTHING
    passed = passed and goal.giver in physics.grasps[goal.target]  # taken from the arm, not from the table
    apart = math.dist(giver.position_3, taker.position_3) >= (0.14 if strict else 0.10)
    lifted = physics.centre_N3[goal.target, 2] > 0.08
    return Outcome.SUCCESS if passed and apart and lifted else Outcome.RUNNING


REACH_TOLERANCE = 0.04
PLACE_TOLERANCE = 0.045

_ONE = ("right",)
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task("reach_single", _ONE, 32, _draw_reach(1, 1), _judge_reach),
            Task("reach_pair", _ONE, 32, _draw_reach(2, 2), _judge_reach),
            Task("reach", _ONE, 32, _draw_reach(3, 5), _judge_reach),
            Task("push", _ONE, 80, _draw_push, _judge_push),
            Task("pick_place", _ONE, 96, _draw_pick_place, _judge_push),
            Task("stack", _ONE, 96, _draw_stack, _judge_stack),
            Task("handover", ("right", "left"), 96, _draw_handover, _judge_handover),
        )
    }
)


def get_task(name: str) -> Task:
    """The task called `name`; UsageError with the nearest name otherwise."""
    if name not in TASKS:
        raise UsageError(
            f"the tabletop has no task {name!r}{nearest(name, TASKS)}", hint=f"tasks: {', '.join(TASKS)}"
        )
    return TASKS[name]
