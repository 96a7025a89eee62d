"""Measures of how else numbers could be meant: as displacements or as targets, by the other order of a
quaternion, as the transpose of a matrix, and in which units joints turn what they carry.

A reading changes canonical numbers in a way that can be undone, so that each other reading is measured
beside the one that the spec gives; readings.py judges which of them the motion contradicts.

Shape suffixes: N = frames, M = N - 1 steps, W = windows, n = joints, d = dims of one quantity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from robot_foundry.checks.evidence import Array, Column, EpisodeRows, Tally
from robot_foundry.checks.measures_scale import windowed
from robot_foundry.checks.measures_streams import Measured
from robot_foundry.checks.series import finite_rows, shifted, turn
from robot_foundry.normalization.rotation import (
    matrix_to_axis_angle,
    matrix_to_quaternion,
    multiply,
    quaternion_to_matrix,
    rot6d_to_matrix,
)

# What no reading of a position is tried of: openings and turns have readings of their own, and the rest
# is no place.
_NO_PLACE = ("gripper_opening", "ee_rot6d")
_RATES = ("velocity", "effort", "force", "torque")
# Steps over which the tool and its joints are compared: at high rates single ones are noise of the encoders.
STRIDE_S = 0.1
# Half a turn to the other side, read as degrees: the one step that angles near it then make.
WRAP, WRAP_NEAR = 2 * np.pi * np.pi / 180, 0.1
WHOLE_TURNS = np.array([WRAP, 2 * np.pi, 360.0])
# An arm has so many joints; hands and trunks have more, and a gripper less.
NUM_JOINTS = range(4, 8)


def displacements(rows: EpisodeRows) -> Measured:
    """`form` of what an action and the state both have, dims pooled: (Σ x·y, Σ x·x, Σ y·y) of target and next
    state about their means, the same of target and made step over windows of WINDOW_S, then Σ of squares of
    target - next state, of target - state - next state and of the made step, and the frames."""
    state = rows.columns["state"]
    for name, column in rows.columns.items():
        if name in ("state", "action.next_state"):
            continue
        for part, quantity in _places(column, state):
            target_Nd, state_Nd = column.of(part, quantity), state.of(part, quantity)
            if target_Nd.shape != state_Nd.shape or len(target_Nd) < 2:
                continue
            next_Nd = shifted(state_Nd, 1)
            kept_N = finite_rows(target_Nd) & finite_rows(state_Nd) & finite_rows(next_Nd)
            target_Nd, state_Nd, next_Nd = (values[kept_N] for values in (target_Nd, state_Nd, next_Nd))
            made_Nd = next_Nd - state_Nd
            asked_Wd, made_Wd = windowed(target_Nd, rows.fps), windowed(made_Nd, rows.fps)
            squares = [
                ((target_Nd - next_Nd) ** 2).sum(),
                ((target_Nd - state_Nd - next_Nd) ** 2).sum(),
                (made_Nd**2).sum(),
            ]
            sums = [*_together(target_Nd, next_Nd), *_together(asked_Wd, made_Wd), *squares, len(made_Nd)]
            yield "form", name, f"{part}.{quantity}", Tally.of(sums)


def turns(rows: EpisodeRows) -> Measured:
    """`turn_form` of an action's orientation with a state's: (Σ x·y, Σ x·x, Σ y·y) over windows of the turn
    that the target's own numbers are and of the made one, about the axes of the base, then of the tool;
    then Σ of angles to the next state of the target, of the target without the state (before it, then after
    it), and of the target with the state (likewise); then frames.

    `reading` for each of READINGS, at first of the state, then of the action: the same three products of the
    asked and the made turn in both frames, and Σ of the angle from the target to the next state; then
    frames."""
    state = rows.columns["state"]
    for name, column in rows.columns.items():
        if name in ("state", "action.next_state"):
            continue
        for part in sorted(set(column.parts("ee_rot6d")) & set(state.parts("ee_rot6d"))):
            target_N6, state_N6 = column.of(part, "ee_rot6d"), state.of(part, "ee_rot6d")
            kept_N = finite_rows(target_N6) & finite_rows(state_N6) & finite_rows(shifted(state_N6, 1))
            if np.count_nonzero(kept_N) < 2:
                continue
            target_N33, held_N33 = (rot6d_to_matrix(values[kept_N]) for values in (target_N6, state_N6))
            next_N33 = rot6d_to_matrix(shifted(state_N6, 1)[kept_N])
            yield "turn_form", name, part, Tally.of(_turn_forms(target_N33, held_N33, next_N33, rows.fps))
            yield "reading", name, part, Tally.of(_turn_readings(target_N33, held_N33, next_N33, rows.fps))


def joints(rows: EpisodeRows) -> Measured:
    """`carried` of the orientation of a part of the state by its n joints: the rows, then the upper
    triangles of the moments of two fits. Regressors are the steps of joints, with their products with the
    joints before each in the one fit and after each in the other; then come the turns about the axes of the
    base. `levers` of its position by velocities of joints alone: squares of its steps, of the joints', and
    the steps.

    In an arm a joint's axis is turned by the joints before it, so only the first fit can be near: in terms of
    an inverse, or of the other order of a quaternion (an inverse between two constant rotations), only the
    second. Targets lie ahead of the joints, which hides the difference.
    """
    state = rows.columns["state"]
    stride = max(round(STRIDE_S * rows.fps), 1)
    for part in sorted(set(state.parts("ee_rot6d")) & set(state.parts("joint_position"))):
        joints_Nn = state.of(part, "joint_position")[::stride]
        rot6d_N6 = state.of(part, "ee_rot6d")[::stride]
        if joints_Nn.shape[1] in NUM_JOINTS:
            kept_N = finite_rows(rot6d_N6) & finite_rows(joints_Nn)
            sums = _carried(rot6d_to_matrix(rot6d_N6[kept_N]), joints_Nn[kept_N])
            yield "carried", "state", part, Tally.of(sums)
    yield from _levers(rows, state)


def _levers(rows: EpisodeRows, state: Column) -> Measured:
    # Positions of joints are compared with velocities themselves, and a base that drives moves the tool too.
    with_positions, drives = state.parts("joint_position"), any(dim.part == "base" for dim in state.space)
    for part in sorted(set(state.parts("ee_position")) & set(state.parts("joint_velocity"))):
        if part not in with_positions and not drives:
            moved_Md = np.diff(state.of(part, "ee_position"), axis=0)
            turned_Mn = state.of(part, "joint_velocity")[:-1] * np.diff(rows.timestamp_N)[:, None]
            kept_M = finite_rows(moved_Md) & finite_rows(turned_Mn)
            squares = [float((values[kept_M] ** 2).sum()) for values in (moved_Md, turned_Mn)]
            sums = [*squares, float(np.count_nonzero(kept_M))]
            yield "levers", "state", f"{part}.joint_velocity", Tally.of(sums)


def rests(rows: EpisodeRows) -> Measured:
    """`leaning` of each orientation: frames, steps of WRAP, and steps of more than half of it; `high` is
    the greatest angle from no rotation. `coiled` of the joints of the state: frames, and Σ of squares of
    their steps; `high` is the furthest of any from 0."""
    for name, column in rows.columns.items():
        for part in column.parts("ee_rot6d") if name != "action.next_state" else ():
            rot6d_N6 = column.of(part, "ee_rot6d")
            matrix_N33 = rot6d_to_matrix(rot6d_N6[finite_rows(rot6d_N6)])
            angle_N = np.linalg.norm(matrix_to_axis_angle(matrix_N33), axis=-1)
            step_M = np.linalg.norm(turn(matrix_N33[1:], matrix_N33[:-1]), axis=-1)
            wraps = np.count_nonzero(np.abs(step_M / WRAP - 1) < WRAP_NEAR)
            sums = (len(angle_N), wraps, np.count_nonzero(step_M > WRAP / 2))
            yield "leaning", name, part, Tally.of(sums, high=float(angle_N.max(initial=0.0)))
    state = rows.columns["state"]
    for part in state.parts("joint_position"):
        joints_Nn = state.of(part, "joint_position")
        joints_Nn = joints_Nn[finite_rows(joints_Nn)]
        if joints_Nn.shape[1] in NUM_JOINTS:
            moved = float((np.diff(joints_Nn, axis=0) ** 2).sum())
            yield (
                "coiled",
                "state",
                part,
                Tally.of((len(joints_Nn), moved), high=float(np.abs(joints_Nn).max(initial=0.0))),
            )


def courses(rows: EpisodeRows) -> Measured:
    """`course` of what moves on wheels: (Σ x·y, Σ x·x, Σ y·y) of how its yaw and its course turn a step."""
    state = rows.columns["state"]
    for part in sorted(set(state.parts("yaw")) & set(state.parts("position"))):
        position_N2, yaw_N = state.of(part, "position")[:, :2], state.of(part, "yaw")[:, 0]
        if len(yaw_N) < 3 or position_N2.shape[1] < 2:
            continue
        step_M2 = np.diff(position_N2, axis=0)
        course_M = np.arctan2(step_M2[:, 1], step_M2[:, 0])
        turned, bent = np.diff(yaw_N)[:-1], _short(np.diff(course_M))
        # A yaw that passes half a turn steps by a whole one, in whichever unit it is read.
        whole = np.abs(np.abs(turned)[:, None] / WHOLE_TURNS - 1) < WRAP_NEAR
        kept = np.isfinite(turned) & np.isfinite(bent) & ~whole.any(axis=1)
        x, y = turned[kept], bent[kept]
        yield "course", "state", part, Tally.of(((x * y).sum(), (x * x).sum(), (y * y).sum(), len(x)))


def _short(angle_M: Array) -> Array:
    return (angle_M + np.pi) % (2 * np.pi) - np.pi


def _places(column: Column, state: Column) -> list[tuple[str, str]]:
    """(part, quantity) of what both have that is somewhere."""
    both = {(dim.part, dim.quantity) for dim in column.space} & {(d.part, d.quantity) for d in state.space}
    return sorted(
        (part, quantity)
        for part, quantity in both
        if quantity not in _NO_PLACE and not quantity.endswith(_RATES)
    )


def _together(x_Nd: Array, y_Nd: Array) -> Array:
    """(Σ x·y, Σ x·x, Σ y·y) about the means."""
    if not len(x_Nd):
        return np.zeros(3)
    x_Nd, y_Nd = x_Nd - x_Nd.mean(axis=0), y_Nd - y_Nd.mean(axis=0)
    return np.array([(x_Nd * y_Nd).sum(), (x_Nd * x_Nd).sum(), (y_Nd * y_Nd).sum()])


def _products(x_Md: Array, y_Md: Array, fps: float) -> Array:
    """(Σ x·y, Σ x·x, Σ y·y) over windows of WINDOW_S."""
    x_Wd, y_Wd = windowed(x_Md, fps), windowed(y_Md, fps)
    return np.array([(x_Wd * y_Wd).sum(), (x_Wd * x_Wd).sum(), (y_Wd * y_Wd).sum()])


def _back(matrix_N33: Array) -> Array:
    return np.swapaxes(matrix_N33, -1, -2)


def _in_tool(after_N33: Array, before_N33: Array) -> Array:
    """The rotation vector [N, 3] from one to the other, about the axes of the tool."""
    return matrix_to_axis_angle(multiply(_back(before_N33), after_N33))


def _angle(one_N33: Array, other_N33: Array) -> float:
    return float(np.linalg.norm(turn(one_N33, other_N33), axis=-1).sum())


def _turn_forms(target_N33: Array, held_N33: Array, next_N33: Array, fps: float) -> list[float]:
    own_N3 = matrix_to_axis_angle(target_N33)
    back_N33 = _back(held_N33)
    goals = (
        target_N33,
        multiply(target_N33, back_N33),
        multiply(back_N33, target_N33),
        multiply(target_N33, held_N33),
        multiply(held_N33, target_N33),
    )
    return [
        *_products(own_N3, turn(next_N33, held_N33), fps),
        *_products(own_N3, _in_tool(next_N33, held_N33), fps),
        *(_angle(goal_N33, next_N33) for goal_N33 in goals),
        len(target_N33),
    ]


def _as_read(matrix_N33: Array) -> Array:
    return matrix_N33


def _was_xyzw(matrix_N33: Array) -> Array:
    """What was xyzw and was read as wxyz."""
    return quaternion_to_matrix(matrix_to_quaternion(matrix_N33, order="wxyz"), order="xyzw")


def _was_wxyz(matrix_N33: Array) -> Array:
    """What was wxyz and was read as xyzw."""
    return quaternion_to_matrix(matrix_to_quaternion(matrix_N33, order="xyzw"), order="wxyz")


# By what a rotation was, if it was not what it was read as.
READINGS: Mapping[str, Callable[[Array], Array]] = {
    "": _as_read,
    "xyzw": _was_xyzw,
    "wxyz": _was_wxyz,
    "transposed": _back,
}


def _turn_readings(target_N33: Array, held_N33: Array, next_N33: Array, fps: float) -> list[float]:
    """Where targets are displacements, these start from a state of another reading as they do from this
    one."""
    base_N3, tool_N3 = turn(target_N33, held_N33), _in_tool(target_N33, held_N33)
    sums: list[float] = []
    for read in READINGS.values():
        start_N33, end_N33 = read(held_N33), read(next_N33)
        sums += [
            *_products(base_N3, turn(end_N33, start_N33), fps),
            *_products(tool_N3, _in_tool(end_N33, start_N33), fps),
            _angle(target_N33, end_N33),
        ]
    before_N33 = multiply(target_N33, _back(held_N33))
    after_N33 = multiply(_back(held_N33), target_N33)
    made_base_N3, made_tool_N3 = turn(next_N33, held_N33), _in_tool(next_N33, held_N33)
    for read in READINGS.values():
        sums += [
            *_products(matrix_to_axis_angle(read(before_N33)), made_base_N3, fps),
            *_products(matrix_to_axis_angle(read(after_N33)), made_tool_N3, fps),
            _angle(read(target_N33), next_N33),
        ]
    return [*sums, len(target_N33)]


def _carried(matrix_N33: Array, joints_Nn: Array) -> list[float]:
    turned_Mn, n = np.diff(joints_Nn, axis=0), joints_Nn.shape[1]
    middle_Mn = (joints_Nn[1:] + joints_Nn[:-1]) / 2
    turns_M3 = turn(matrix_N33[1:], matrix_N33[:-1]) if len(matrix_N33) > 1 else np.zeros((0, 3))
    sums = [float(len(turned_Mn))]
    for pairs in carried_pairs(n):
        products = [middle_Mn[:, by] * turned_Mn[:, joint] for joint, by in pairs]
        columns_Md = np.concatenate([turned_Mn, np.stack(products, axis=1), turns_M3], axis=1)
        moments_dd = columns_Md.T @ columns_Md
        sums += moments_dd[np.triu_indices(len(moments_dd))].tolist()
    return sums


def carried_pairs(n: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(joint, joint that turns its axis) of an arm of n joints, and of its inverse."""
    pairs = [(joint, by) for joint in range(n) for by in range(n)]
    return [(joint, by) for joint, by in pairs if by < joint], [(j, by) for j, by in pairs if by > j]
