"""Measures of scale: actions and velocities against what moves, and single frames that stand alone.

Shape suffixes: N = frames, M = N - 1 steps, W = windows, d = dims of one quantity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.evidence import Array, Column, EpisodeRows, Tally
from robot_foundry.checks.measures_streams import Measured
from robot_foundry.checks.series import about_means, finite_rows, minus, moments, shifted, turn
from robot_foundry.normalization.rotation import rot6d_to_matrix

# What is asked and what is made are compared over so long: a controller that answers over many frames has
# then answered, while a single step of it is a third of what follows.
WINDOW_S = 1.0
# What a velocity is of.
MOTIONS = {
    "joint_velocity": "joint_position",
    "ee_linear_velocity": "ee_position",
    "ee_angular_velocity": "ee_rot6d",
    "yaw_velocity": "yaw",
}
# A frame stands alone where the value goes there and back by ten of the episode's larger steps (all but one
# in fifty are smaller), and faster than arms move: m/s and rad/s, and at high rates m and rad of noise.
SPIKE_STEPS, SPIKE_PERCENT = 10.0, 98.0
SPIKE_SPEED = {"m": 2.0, "rad": 5.0}
LEAST_SPIKE = {"m": 0.02, "rad": 0.05}
# There and back: to within a third of the way.
SPIKE_RETURN = 1 / 3
FEWEST_STEPS = 10


def reached(rows: EpisodeRows) -> Measured:
    """`reach` of a pose or joints: (Σ x·y, Σ x·x, Σ y·y, windows) of the asked motion x and the made one y,
    each summed over windows of WINDOW_S; `high` is the greatest component of an asked step.

    The asked step is target[t] - state[t], the made one state[t + 1] - state[t]; rotations are rotation
    vectors about the axes of the base.
    """
    state = rows.columns["state"]
    for name, column in rows.columns.items():
        for quantity in ("ee_position", "ee_rot6d", "joint_position"):
            for part in sorted(set(column.parts(quantity)) & set(state.parts(quantity))):
                target, actual = column.of(part, quantity), state.of(part, quantity)
                if name == "state" or target.shape != actual.shape or len(target) < 2:
                    continue
                if quantity == "ee_rot6d":
                    target, actual = rot6d_to_matrix(target), rot6d_to_matrix(actual)
                difference = turn if quantity == "ee_rot6d" else minus
                asked_Md = difference(target[:-1], actual[:-1])
                made_Md = difference(actual[1:], actual[:-1])
                both_M = finite_rows(asked_Md) & finite_rows(made_Md)
                asked_Md, made_Md = asked_Md[both_M], made_Md[both_M]
                x_Wd, y_Wd = windowed(asked_Md, rows.fps), windowed(made_Md, rows.fps)
                sums = ((x_Wd * y_Wd).sum(), (x_Wd * x_Wd).sum(), (y_Wd * y_Wd).sum(), len(x_Wd))
                high = float(np.abs(asked_Md).max(initial=0.0))
                yield "reach", name, f"{part}.{quantity}", Tally.of(sums, high=high)


def scales(rows: EpisodeRows) -> Measured:
    """`scale` of each dim of an action against the next state: `moments` about the episode's own means."""
    state = rows.columns["state"]
    for name, column in rows.columns.items():
        for dim in column.space:
            is_level = dim.quantity in ("ee_position", "joint_position")
            if name != "state" and is_level and dim.name in state.space:
                reached_N = shifted(state.dim(dim.name), 1)
                yield "scale", name, dim.name, Tally.of(about_means(column.dim(dim.name), reached_N))


def velocities(rows: EpisodeRows) -> Measured:
    """`velocity` of each velocity against the slope of what it is the velocity of: `moments`. Of the state
    from one frame to the next, about the episode's means; of an action, which is followed later, over windows
    of WINDOW_S. `next_state` says what the state says."""
    state, dt_M = rows.columns["state"], np.diff(rows.timestamp_N)
    if len(dt_M) < 2:
        return
    for name, column in rows.columns.items():
        if name == "action.next_state":
            continue
        for dim in (dim for dim in column.space if dim.quantity in MOTIONS):
            made_M = _increments(state, dim.part, MOTIONS[dim.quantity], dim.component)
            if made_M is None:
                continue
            velocity_N = column.dim(dim.name)
            if name == "state":
                # The slope on both sides of a frame: that on one side is of a moment half a step away.
                slope_M = (made_M[1:] + made_M[:-1]) / (dt_M[1:] + dt_M[:-1])
                yield "velocity", name, dim.name, Tally.of(about_means(velocity_N[1:-1], slope_M))
            else:
                asked_M = velocity_N[:-1] * dt_M
                both_M = np.isfinite(asked_M) & np.isfinite(made_M)
                pair = (windowed(x_M[both_M, None], rows.fps)[:, 0] for x_M in (asked_M, made_M))
                yield "velocity", name, dim.name, Tally.of(moments(*pair))


def spikes(rows: EpisodeRows) -> Measured:
    """`spike` of each position and joint: (frames, frames that stand alone); the worst is `<key>#<frame>`."""
    for name, column in rows.columns.items():
        for dim in column.space:
            if name == "action.next_state" or dim.kind not in ("position", "joint"):
                continue
            if dim.unit not in SPIKE_SPEED:
                continue
            values_N = column.dim(dim.name)
            size_N = _alone(values_N, SPIKE_SPEED[dim.unit] / rows.fps, LEAST_SPIKE[dim.unit])
            count, at = np.count_nonzero(size_N), int(size_N.argmax()) if len(size_N) else 0
            wrong = float(size_N[at]) if count else None
            tally = Tally.of((len(values_N), count), wrong=wrong, key=f"{rows.key}#{at}")
            yield "spike", name, dim.name, tally


def _alone(values_N: Array, furthest: float, least: float) -> Array:
    """By how much [N] a value differs from both its neighbours where it stands alone, else 0."""
    size_N = np.zeros(len(values_N))
    step_M = np.diff(values_N)
    if np.count_nonzero(np.isfinite(step_M)) < FEWEST_STEPS:
        return size_N
    # The two steps of one frame that stands alone do not make it usual.
    others = np.partition(np.abs(step_M[np.isfinite(step_M)]), -2)[:-2]
    usual = float(np.percentile(others, SPIKE_PERCENT))
    limit = max(SPIKE_STEPS * usual, furthest, least)
    to, back = np.abs(step_M[:-1]), np.abs(step_M[1:])
    returns = np.abs(step_M[:-1] + step_M[1:]) < SPIKE_RETURN * np.minimum(to, back)
    inner = np.minimum(to, back)
    size_N[1:-1] = np.where(returns & (inner > limit), inner, 0.0)
    # The first and the last frame have one neighbour.
    for end, step in ((0, step_M[0]), (-1, step_M[-1])):
        size_N[end] = abs(step) if abs(step) > limit and size_N[1 if end == 0 else -2] == 0 else 0.0
    return size_N


def windowed(values_Md: Array, fps: float) -> Array:
    """Sums [W, d] over windows of WINDOW_S, of which the last may be shorter."""
    frames = max(round(WINDOW_S * fps), 1)
    starts = np.arange(0, len(values_Md), frames)
    return np.add.reduceat(values_Md, starts, axis=0) if len(starts) else values_Md


def _increments(state: Column, part: str, quantity: str, component: str | None) -> NDArray[np.float64] | None:
    """How far [M] one component of a quantity moves each step, None where the state lacks it."""
    if quantity == "ee_rot6d":
        if part not in state.parts(quantity):
            return None
        matrix_N33 = rot6d_to_matrix(state.of(part, quantity))
        return turn(matrix_N33[1:], matrix_N33[:-1])[:, "xyz".index(component or "x")]
    name = ".".join(filter(None, (part, quantity, component)))
    if name not in state.space:
        return None
    step_M = np.diff(state.dim(name))
    # The short way round: a yaw that passes half a turn has not turned back a whole one.
    return (step_M + np.pi) % (2 * np.pi) - np.pi if quantity == "yaw" else step_M
