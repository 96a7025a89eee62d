"""The contact rules of the tabletop."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.tabletop.goals import TASKS, Goal
from robot_foundry.evaluation.worlds.tabletop.objects import TABLE_HALF, Scene, Solid
from robot_foundry.evaluation.worlds.tabletop.physics import (
    FINGER_RADIUS,
    HOME_ROTATION_33,
    MAX_STEP,
    MAX_TURN,
    NOTHING,
    REACH_HIGH_3,
    REACH_LOW_3,
    Arm,
    Physics,
    Target,
    angle_between,
    turn,
    turned_towards,
)


def table(*solids: Solid, tip: tuple[float, float, float] = (0.0, 0.0, 0.2), opening: float = 0.0) -> Physics:
    return Physics(Scene(solids), [Arm("right", np.array(tip), HOME_ROTATION_33, opening)])


def go(physics: Physics, x: float, y: float, z: float, opening: float, steps: int = 40) -> None:
    for _ in range(steps):
        physics.step([Target(np.array([x, y, z]), HOME_ROTATION_33, opening)])


CUBE = Solid("cube", "red", 0.03, 0.0, 0.0, 0.4)


def test_one_step_is_limited() -> None:
    physics = table(CUBE)
    away = turn(np.array([0.0, 0.0, 1.0]), 2.0) @ HOME_ROTATION_33
    physics.step([Target(np.array([0.3, 0.3, 0.3]), away, 1.0)])
    arm = physics.arms[0]
    assert math.isclose(np.linalg.norm(arm.position_3 - [0.0, 0.0, 0.2]), MAX_STEP)
    assert math.isclose(angle_between(HOME_ROTATION_33, arm.rotation_33), MAX_TURN)
    assert arm.opening == 0.25


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_turning_matches_slerp(a: list[float], b: list[float]) -> None:
    """SciPy's Rotation as the second source: the geodesic, cut at the limit."""
    start, end = Rotation.from_rotvec(a), Rotation.from_rotvec(b)
    step = (end * start.inv()).as_rotvec()
    angle = float(np.linalg.norm(step))
    turned = turned_towards(start.as_matrix(), end.as_matrix(), MAX_TURN)
    if angle < math.pi - 1e-3:
        expected = Rotation.from_rotvec(step * min(1.0, MAX_TURN / max(angle, 1e-12))) * start
        np.testing.assert_allclose(turned, expected.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-9)
    assert angle_between(turned, start.as_matrix()) <= MAX_TURN + 1e-6


def test_from_above_a_finger_rests_on_the_object() -> None:
    physics = table(CUBE)
    go(physics, 0.0, 0.0, 0.0, 0.0)
    assert math.isclose(physics.arms[0].position_3[2], physics.top(0))
    np.testing.assert_array_equal(physics.centre_N3[0], [0.0, 0.0, 0.03])


def test_from_the_side_it_pushes_along_its_motion() -> None:
    physics = table(CUBE, tip=(-0.1, 0.004, 0.02))
    go(physics, 0.1, 0.004, 0.02, 0.0)
    x, y, _ = physics.centre_N3[0]
    assert abs(y) < 0.002
    assert math.isclose(x - 0.1, physics.radius[0] + FINGER_RADIUS, abs_tol=0.004)


def test_a_pushed_object_pushes_its_neighbour_and_carries_what_stands_on_it() -> None:
    rider = Solid("can", "blue", 0.028, 0.0, 0.0, 0.0)
    physics = table(CUBE, Solid("ball", "green", 0.03, 0.08, 0.0, 0.0), rider, tip=(-0.1, 0.0, 0.02))
    physics.centre_N3[2, 2] = physics.top(0) + physics.half_height[2]
    physics.support[2] = 0
    go(physics, 0.08, 0.0, 0.02, 0.0)
    assert physics.centre_N3[1, 0] > 0.15
    np.testing.assert_allclose(physics.centre_N3[2, :2], physics.centre_N3[0, :2], atol=1e-9)


def test_grasp_lift_and_let_go() -> None:
    physics = table(CUBE, opening=1.0)
    go(physics, 0.005, 0.004, 0.03, 1.0)
    assert physics.arms[0].held == NOTHING
    go(physics, 0.005, 0.004, 0.03, 0.0, steps=6)
    arm = physics.arms[0]
    assert arm.held == 0
    assert math.isclose(arm.opening * 0.10, 2 * physics.radius[0])  # held fingers stop at the object's width
    go(physics, 0.1, 0.1, 0.2, 0.0)
    np.testing.assert_allclose(physics.centre_N3[0, :2], [0.1, 0.1], atol=0.02)
    assert physics.centre_N3[0, 2] > 0.15
    go(physics, 0.1, 0.1, 0.2, 1.0, steps=3)
    assert arm.held == NOTHING
    assert math.isclose(physics.centre_N3[0, 2], physics.half_height[0])


def test_closing_beside_the_object_holds_nothing() -> None:
    physics = table(CUBE, tip=(0.08, 0.0, 0.03), opening=1.0)
    go(physics, 0.08, 0.0, 0.03, 0.0, steps=8)
    assert physics.arms[0].held == NOTHING and physics.arms[0].opening == 0.0


def test_a_cone_cannot_be_held() -> None:
    physics = table(Solid("cone", "red", 0.03, 0.0, 0.0, 0.0), tip=(0.0, 0.0, 0.03), opening=1.0)
    go(physics, 0.0, 0.0, 0.03, 0.0, steps=8)
    assert physics.arms[0].held == NOTHING


def stacked(base: str) -> Physics:
    physics = table(CUBE, Solid(base, "blue", 0.03, 0.15, 0.0, 0.0), opening=1.0)
    go(physics, 0.0, 0.0, 0.03, 1.0)
    go(physics, 0.0, 0.0, 0.03, 0.0, steps=5)
    go(physics, 0.0, 0.0, 0.15, 0.0)
    go(physics, 0.15, 0.0, 0.15, 0.0)
    go(physics, 0.15, 0.0, 0.05, 0.0)
    go(physics, 0.15, 0.0, 0.09, 1.0, steps=2)
    return physics


def test_released_over_a_flat_top_it_stays_there() -> None:
    physics = stacked("can")
    assert physics.support[0] == 1
    assert math.isclose(physics.centre_N3[0, 2] - physics.half_height[0], physics.top(1))


def test_released_over_a_ball_it_rolls_off() -> None:
    physics = stacked("ball")
    assert physics.support[0] == NOTHING
    assert math.isclose(physics.centre_N3[0, 2], physics.half_height[0])
    assert physics.planar(0, *physics.centre_N3[1, :2]) >= physics.radius[0] + physics.radius[1] - 1e-9


def test_a_load_is_not_pressed_through_what_is_below() -> None:
    physics = table(CUBE, Solid("can", "blue", 0.03, 0.15, 0.0, 0.0), opening=1.0)
    go(physics, 0.0, 0.0, 0.03, 1.0)
    go(physics, 0.0, 0.0, 0.03, 0.0, steps=5)
    go(physics, 0.0, 0.0, 0.16, 0.0)
    go(physics, 0.15, 0.0, 0.16, 0.0)
    go(physics, 0.15, 0.0, 0.0, 0.0)
    bottom = physics.centre_N3[0, 2] - physics.half_height[0]
    assert bottom >= physics.top(1) - 1e-9
    np.testing.assert_array_equal(physics.centre_N3[1, :2], [0.15, 0.0])


def test_a_handover_needs_both_hands() -> None:
    """The taker that picks the object from the table itself has not been handed anything."""
    task = TASKS["handover"]
    for picker, passed in ((1, Outcome.RUNNING), (0, Outcome.SUCCESS)):
        arms = [Arm(name, np.array([0.0, 0.2, 0.03]), HOME_ROTATION_33, 1.0) for name in task.arms]
        arms[picker].position_3 = np.array([0.0, 0.0, 0.03])
        physics = Physics(Scene((CUBE,)), arms)

        def both(x: float, z: float, openings: tuple[float, float], physics: Physics = physics) -> None:
            here = [Target(arm.position_3, HOME_ROTATION_33, 0.0) for arm in physics.arms]
            for _ in range(12):
                physics.step(
                    [
                        Target(np.array([x, 0.0, z]), HOME_ROTATION_33, opening) if opening >= 0 else stay
                        for opening, stay in zip(openings, here, strict=True)
                    ]
                )

        if picker == 0:
            both(0.0, 0.03, (0.0, -1.0))
            both(0.0, 0.2, (0.0, -1.0))
            arms[1].opening = 1.0
            both(0.0, 0.2, (0.0, 1.0))
            both(0.0, 0.2, (0.0, 0.0))
            both(0.0, 0.2, (1.0, 0.0))
            both(0.2, 0.3, (1.0, -1.0))
        else:
            both(0.0, 0.03, (-1.0, 0.0))
            both(0.0, 0.2, (-1.0, 0.0))
        assert physics.arms[1].held == 0 and physics.arms[0].held == NOTHING
        assert task.judge(physics, Goal("handover", 0, giver=0, taker=1), False) is passed


@settings(max_examples=25, deadline=None)
@given(task=st.sampled_from(sorted(TASKS)), seed=st.integers(0, 2**32))
def test_whatever_is_commanded_the_table_stays_a_table(task: str, seed: int) -> None:
    """Arms stay in reach; objects stay on the table, upright when free, and what is held is near its hand."""
    rng = np.random.default_rng(seed)
    scene, _ = TASKS[task].draw(rng)
    arms = [Arm(name, np.array([0.0, 0.0, 0.2]), HOME_ROTATION_33, 1.0) for name in TASKS[task].arms]
    physics = Physics(scene, arms)
    for _ in range(25):
        goals = [
            physics.centre_N3[rng.integers(len(scene.solids))] + rng.normal(0.0, 0.02, 3)
            if rng.random() < 0.7
            else rng.uniform(-0.5, 0.5, 3)
            for _ in arms
        ]
        opening = float(rng.integers(2))
        turned = turn(np.array([1.0, 0.0, 0.0]), float(rng.uniform(-0.5, 0.5))) @ HOME_ROTATION_33
        for _ in range(4):
            physics.step([Target(goal, turned, opening) for goal in goals])
        for arm in arms:
            assert (arm.position_3 >= REACH_LOW_3 - 1e-9).all()
            assert 0.0 <= arm.opening <= 1.0
            assert (arm.position_3 <= REACH_HIGH_3 + 1e-9).all()
            if arm.held != NOTHING:
                assert arms.index(arm) in physics.holders[arm.held]
        for i, holders in enumerate(physics.holders):
            if holders:
                continue
            assert np.abs(physics.centre_N3[i, :2]).max() <= TABLE_HALF
            level = 0.0 if physics.support[i] == NOTHING else physics.top(physics.support[i])
            assert math.isclose(physics.centre_N3[i, 2] - physics.half_height[i], level, abs_tol=1e-9)
            assert physics.rotation_N33[i, 2, 2] > 1 - 1e-9
        assert np.isfinite(physics.centre_N3).all()
