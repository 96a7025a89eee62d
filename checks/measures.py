"""What the checks measure on one episode, and whether it looks wrong by itself; rules.py judges a dataset.

Shape suffixes: N = frames, M = N - 1 steps, d = dims of one quantity.
"""

from __future__ import annotations

import numpy as np

from robot_foundry.checks.evidence import Array, EpisodeRows, Evidence, Tally, extremes
from robot_foundry.checks.meaning import measures as of_readings
from robot_foundry.checks.measures_scale import reached, scales, spikes, velocities
from robot_foundry.checks.measures_streams import Measured, cameras, clock, frozen, stuck_grippers
from robot_foundry.checks.series import finite_rows, minus, moments, shifted, turn
from robot_foundry.normalization.rotation import matrix_to_axis_angle, multiply, rot6d_to_matrix

# Lags in frames at which an action is compared with what the state did. 0 is the next frame: row t of an
# action against the state of row t + 1. A target is never late by more than a few frames, a robot can be.
LAGS = tuple(range(-5, 11))
# A gripper takes up to half a second to follow; four lags find the best one well enough for a sign.
GRIPPER_LAGS = (0, 3, 6, 10)

# float32 columns of a rotation are unit and orthogonal to 1e-6; a hundredth is beyond any rounding.
NOT_ORTHONORMAL = 0.01
# No arm turns its tool faster than about 360 degrees a second; 10 rad/s leaves room for noise of the clock.
TOOL_RAD_S = 10.0
# At high rates the noise of an orientation estimate is a larger share of a step.
LEAST_JUMP_RAD = 0.2
# At a few Hz a step may be large; three quarters of half a turn is told from the fastest motion.
GREATEST_JUMP_RAD = 2.4

# Beyond these no robot arm goes: 5 m of reach, two turns of a joint to either side, 100 rad/s, 20 m/s.
GREATEST = {"m": 5.0, "rad": 4 * np.pi, "rad/s": 100.0, "m/s": 20.0}
_PLAUSIBLE_KINDS = ("position", "joint", "velocity")


def measure(rows: EpisodeRows) -> Evidence:
    """The evidence of one episode."""
    tallies = {}
    of_pose = (_grippers, _rotations, _following, _plausible)
    of_scale = (reached, scales, velocities, spikes)
    of_meaning = (
        of_readings.displacements,
        of_readings.turns,
        of_readings.joints,
        of_readings.rests,
        of_readings.courses,
    )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for measured in (*of_pose, *of_scale, *of_meaning, clock, frozen, stuck_grippers, cameras):
            tallies.update({(name, column, target): tally for name, column, target, tally in measured(rows)})
    return Evidence(1, tallies)


def _grippers(rows: EpisodeRows) -> Measured:
    """`gripper`: sums of `moments` of command against opening for each of GRIPPER_LAGS."""
    state = rows.columns["state"]
    for name, column in rows.columns.items():
        for dim in (dim for dim in column.space if dim.quantity == "gripper_opening"):
            opening_N = column.dim(dim.name)
            finite_N = opening_N[np.isfinite(opening_N)]
            outside = np.count_nonzero((finite_N < 0) | (finite_N > 1))
            wrong = outside / len(finite_N) if outside else None
            low, high = extremes(finite_N)
            sums = (len(finite_N), outside)
            yield "opening", name, dim.name, Tally.of(sums, low=low, high=high, wrong=wrong, key=rows.key)
            if name != "state" and dim.name in state.space:
                reached_N = state.dim(dim.name)
                pairs = [moments(opening_N, shifted(reached_N, 1 + lag)) for lag in GRIPPER_LAGS]
                tally = Tally.of(np.concatenate(pairs), low=low, high=high)
                yield "gripper", name, dim.name, tally
            next_state = rows.columns.get("action.next_state")
            if name == "action.command" and next_state is not None and dim.name in next_state.space:
                other_N = next_state.dim(dim.name)
                yield "gripper_streams", name, dim.name, Tally.of(moments(opening_N, other_N))


def _rotations(rows: EpisodeRows) -> Measured:
    """`orthonormal` (frames, broken); `turns` (steps, jumps); `pose` (frames, sum of angles,
    sum of the nine entries of inv(target) @ reached) of an action against the next state."""
    state = rows.columns["state"]
    for name, column in rows.columns.items():
        for part in column.parts("ee_rot6d"):
            rot6d_N6 = column.of(part, "ee_rot6d")
            kept_N = finite_rows(rot6d_N6)
            broken_N = kept_N & (_orthonormality(rot6d_N6) > NOT_ORTHONORMAL)
            share = broken_N.sum() / max(kept_N.sum(), 1)
            sums = (kept_N.sum(), broken_N.sum())
            wrong = share if share else None
            yield "orthonormal", name, part, Tally.of(sums, wrong=wrong, key=rows.key)
            matrix_N33 = rot6d_to_matrix(rot6d_N6)
            yield "turns", name, part, _turns(matrix_N33, rows)
            if name != "state" and part in state.parts("ee_rot6d"):
                reached_N33 = rot6d_to_matrix(shifted(state.of(part, "ee_rot6d"), 1))
                apart_N33 = multiply(np.swapaxes(matrix_N33, -1, -2), reached_N33)
                angle_N = np.linalg.norm(matrix_to_axis_angle(apart_N33), axis=-1)
                seen_N = np.isfinite(angle_N)
                # Unlike rotations cancel in a sum, so its length tells one offset of all frames from many.
                entries_9 = apart_N33[seen_N].sum(axis=0).ravel()
                yield "pose", name, part, Tally.of([seen_N.sum(), angle_N[seen_N].sum(), *entries_9])


def _turns(matrix_N33: Array, rows: EpisodeRows) -> Tally:
    turned_M33 = multiply(matrix_N33[1:], np.swapaxes(matrix_N33[:-1], -1, -2))
    angle_M = np.linalg.norm(matrix_to_axis_angle(turned_M33), axis=-1)
    # Where frames are missing the clock says so, and the tool had that much time to turn.
    elapsed_M = np.maximum(np.diff(rows.timestamp_N), 1.0 / rows.fps)
    allowed_M = np.clip(TOOL_RAD_S * elapsed_M, LEAST_JUMP_RAD, GREATEST_JUMP_RAD)
    jumps = np.count_nonzero(angle_M > allowed_M)
    high = extremes(angle_M[np.isfinite(angle_M)])[1]
    wrong = high if jumps else None
    return Tally.of((np.isfinite(angle_M).sum(), jumps), high=high, wrong=wrong, key=rows.key)


def _following(rows: EpisodeRows) -> Measured:
    """`follow` of an action after which the state moves: for each of LAGS the products (xy, xx, yy) of the
    increments of target and state, then of the asked and the made step, then frames and seconds.

    The asked step is target[t] - state[t], the made one state[t + 1] - state[t]: they agree where targets are
    displacements of the state (whose increments hold the state's own). Rotations are rotation vectors about
    the axes of the base.
    """
    state = rows.columns["state"]
    actions = [(name, column) for name, column in rows.columns.items() if name != "state"]
    for name, column in actions:
        for quantity in ("ee_position", "ee_rot6d", "joint_position"):
            for part in set(column.parts(quantity)) & set(state.parts(quantity)):
                target, reached = column.of(part, quantity), state.of(part, quantity)
                if target.shape == reached.shape:
                    seconds = float(rows.timestamp_N[-1] - rows.timestamp_N[0])
                    sums = [*_follow(target, reached, is_rotation=quantity == "ee_rot6d"), len(target) - 1]
                    yield "follow", name, f"{part}.{quantity}", Tally.of([*sums, seconds])


def _follow(target: Array, reached: Array, *, is_rotation: bool) -> Array:
    if is_rotation:
        target, reached = rot6d_to_matrix(target), rot6d_to_matrix(reached)
    difference = turn if is_rotation else minus
    made = difference(reached[1:], reached[:-1])
    commanded = difference(target[1:], target[:-1])
    asked = difference(target[:-1], reached[:-1])
    return np.concatenate([_products(commanded, made, 1), _products(asked, made, 0)])


def _plausible(rows: EpisodeRows) -> Measured:
    """`magnitude` of each dim: (frames, frames beyond what a robot does), and its extremes; the worst is
    `<key>#<frame>`."""
    for name, column in rows.columns.items():
        for d, dim in enumerate(column.space):
            limit = GREATEST.get(dim.unit)
            size_N = np.where(column.valid_N, np.abs(column.values_ND[:, d].astype(np.float64)), np.nan)
            finite_N = np.isfinite(size_N)
            if limit is None or dim.kind not in _PLAUSIBLE_KINDS or not finite_N.any():
                continue
            low, high = extremes(column.values_ND[finite_N, d])
            at, beyond = int(np.nanargmax(np.where(finite_N, size_N, np.nan))), size_N > limit
            wrong = size_N[at] / limit if size_N[at] > limit else None
            sums = (np.count_nonzero(finite_N), np.count_nonzero(beyond & finite_N))
            tally = Tally.of(sums, low=low, high=high, wrong=wrong, key=f"{rows.key}#{at}")
            yield "magnitude", name, dim.name, tally


def _orthonormality(rot6d_N6: Array) -> Array:
    """How far [N] two columns are from unit and orthogonal."""
    first_N3, second_N3 = rot6d_N6[:, :3], rot6d_N6[:, 3:]
    errors = [
        (first_N3**2).sum(axis=1) - 1,
        (second_N3**2).sum(axis=1) - 1,
        (first_N3 * second_N3).sum(axis=1),
    ]
    return np.abs(errors).max(axis=0)


def _products(x_Md: Array, y_Md: Array, ahead: int) -> Array:
    """(Σ x·y, Σ x·x, Σ y·y) of row t of x and row t + ahead + lag of y, where both are known, by lag."""
    # A row of which one side is not known must weigh in none of the three sums, or the correlation of short
    # overlaps would be less than it is.
    finite_x, finite_y = finite_rows(x_Md), finite_rows(y_Md)
    x, y = np.where(finite_x[:, None], x_Md, 0.0), np.where(finite_y[:, None], y_Md, 0.0)
    xx, yy, count = (x * x).sum(axis=1), (y * y).sum(axis=1), len(x)
    products = []
    for shift in (ahead + lag for lag in LAGS):
        of_x, of_y = slice(max(-shift, 0), count - max(shift, 0)), slice(max(shift, 0), count + min(shift, 0))
        if of_x.stop <= of_x.start:
            products += [0.0, 0.0, 0.0]
            continue
        products.append((x[of_x] * y[of_y]).sum())
        products += [(xx[of_x] * finite_y[of_y]).sum(), (finite_x[of_x] * yy[of_y]).sum()]
    return np.array(products)
