"""Measures of clocks, and of readings and cameras that were not updated; see measures.py.

Shape suffixes: N = frames, M = N - 1 intervals, d = dims of one quantity.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.evidence import Array, EpisodeRows, Tally

Measured = Iterator[tuple[str, str, str, Tally]]  # measure, column, target, tally

# Force sensors and torque loops are recorded at 1 kHz; keyframes may be a second apart. Times in ms, read as
# s, or the other way, are beyond from 1 and 5 Hz on: robots are recorded faster than both.
SLOWEST_HZ, FASTEST_HZ = 0.5, 2000.0
# Clocks of recorders agree with their nominal rate far better than 5 %.
RATE_ERROR = 0.05
# The median of fewer intervals may be jitter.
FEWEST_INTERVALS = 10
# A frame is missing where the next comes later than one and a half periods.
GAP_PERIODS = 1.5
# One frame in a hundred missing is a few a minute, which recorders under load do; more is a fault.
MISSING_SHARE = 0.01
LONG_GAP_S = 1.0
# Half a period of jitter in one interval of twenty: the order of images and states is no longer certain.
JITTER_PERIODS = 0.5

# Real sensors have noise, so a second (and ten frames) of equal bits is a stream that was not updated.
FROZEN_S, FROZEN_FRAMES = 1.0, 10
# What counts as motion over a frozen stretch: clearly more than noise, and than a command that is rounded.
MOVED = {"ee_position": 0.02, "ee_rot6d": 0.1, "joint_position": 0.1}
# A camera of few pixels may miss small motions.
MOVED_BEFORE_CAMERA = {"ee_position": 0.05, "joint_position": 0.2}
GRIPPER_MOVED = 0.2


def clock(rows: EpisodeRows) -> Measured:
    """`backward` (earlier, equal), `rate`, `frequency`, `gaps` (intervals, missing) and `jitter` of times."""
    dt_M = np.diff(rows.timestamp_N)
    if not len(dt_M):
        return
    backward, equal = np.count_nonzero(dt_M < 0), np.count_nonzero(dt_M == 0)
    wrong = float(backward + equal) if backward or equal else None
    yield "backward", "timestamp", "", Tally.of((backward, equal), wrong=wrong, key=rows.key)
    period = float(np.median(dt_M))
    if period <= 0:  # no rate
        return
    rate = 1.0 / period
    error = abs(rate / rows.fps - 1.0)
    wrong = error if error > RATE_ERROR and len(dt_M) >= FEWEST_INTERVALS else None
    yield "rate", "timestamp", "", Tally.of((1.0, rows.fps), low=rate, high=rate, wrong=wrong, key=rows.key)
    unlikely = max(rate / FASTEST_HZ, SLOWEST_HZ / rate)
    wrong = unlikely if unlikely > 1 and len(dt_M) >= FEWEST_INTERVALS else None
    yield "frequency", "timestamp", "", Tally.of((1.0,), low=rate, high=rate, wrong=wrong, key=rows.key)
    late_M = dt_M > GAP_PERIODS * period
    missing = float((np.round(dt_M[late_M] / period) - 1).sum())
    longest = float(dt_M.max())
    long_gap = longest > max(LONG_GAP_S, GAP_PERIODS * period)
    wrong = missing if long_gap or missing > MISSING_SHARE * len(rows.timestamp_N) else None
    sums = (len(dt_M), missing)
    yield "gaps", "timestamp", "", Tally.of(sums, high=longest, wrong=wrong, key=rows.key)
    jitter = float(np.percentile(np.abs(dt_M[~late_M] - period), 95)) / period
    wrong = jitter if jitter > JITTER_PERIODS else None
    yield "jitter", "timestamp", "", Tally.of(high=jitter, wrong=wrong, key=rows.key)


def frozen(rows: EpisodeRows) -> Measured:
    """`frozen`: seconds for which a quantity of the state keeps its bits while its target, or the other
    account of the same arm, moves. `still`: a joint that keeps them all episode while others move."""
    state = rows.columns["state"]
    for quantity in ("ee_position", "joint_position"):
        for part in state.parts(quantity):
            yield from _frozen_quantity(rows, part, quantity)
    for part in state.parts("joint_position"):
        yield from _still_joints(rows, part)


def _frozen_quantity(rows: EpisodeRows, part: str, quantity: str) -> Measured:
    state = rows.columns["state"]
    readings_Nd = state.of(part, quantity)
    if quantity == "ee_position" and part in state.parts("ee_rot6d"):
        readings_Nd = np.concatenate([readings_Nd, state.of(part, "ee_rot6d")], axis=1)
    # Its targets, and what the other sensors of the arm say.
    joints, poses = ("joint_position",), ("ee_position", "ee_rot6d")
    targets, others = (joints, poses) if quantity == "joint_position" else (poses, joints)
    witnesses = [
        (column.of(part, witness), MOVED[witness])
        for name, column in rows.columns.items()
        for witness in (others if name == "state" else targets)
        if part in column.parts(witness)
    ]
    longest = _longest(_runs((readings_Nd[1:] == readings_Nd[:-1]).all(axis=1)), rows, witnesses)
    yield "frozen", "state", f"{part}.{quantity}", Tally.of((1.0,), wrong=longest, key=rows.key)
    if quantity != "joint_position":
        return
    for j in range(readings_Nd.shape[1]):
        commands = [
            (column.of(part, quantity)[:, j : j + 1], MOVED[quantity])
            for name, column in rows.columns.items()
            if name != "state" and column.of(part, quantity).shape == readings_Nd.shape
        ]
        longest = _longest(_runs(readings_Nd[1:, j] == readings_Nd[:-1, j]), rows, commands)
        yield "frozen", "state", f"{part}.{quantity}.{j}", Tally.of((1.0,), wrong=longest, key=rows.key)


def _still_joints(rows: EpisodeRows, part: str) -> Measured:
    joints_Nd = rows.columns["state"].of(part, "joint_position")
    if joints_Nd.shape[1] < 2 or not _long_enough(0, len(joints_Nd) - 1, rows):
        return
    span_d = np.array([_span(joints_Nd[:, j : j + 1]) for j in range(joints_Nd.shape[1])])
    for j in range(joints_Nd.shape[1]):
        others_move = np.count_nonzero(np.delete(span_d, j) > MOVED["joint_position"]) * 2 >= len(span_d) - 1
        wrong = 1.0 if span_d[j] == 0 and others_move else None
        target = f"{part}.joint_position.{j}"
        yield "still", "state", target, Tally.of((1.0,), wrong=wrong, key=rows.key)


def stuck_grippers(rows: EpisodeRows) -> Measured:
    """`stuck`: by how much an action moves a gripper whose opening is constant in the episode."""
    state = rows.columns["state"]
    for name, column in rows.columns.items():
        for dim in column.space:
            if name == "state" or dim.quantity != "gripper_opening" or dim.name not in state.space:
                continue
            opening_N = state.dim(dim.name)
            constant = _span(opening_N[:, None]) == 0 and _long_enough(0, len(opening_N) - 1, rows)
            asked = _span(column.dim(dim.name)[:, None])
            wrong = asked if constant and asked > GRIPPER_MOVED else None
            yield "stuck", name, dim.name, Tally.of((1.0,), wrong=wrong, key=rows.key)


def cameras(rows: EpisodeRows) -> Measured:
    """`camera`: seconds for which a camera gives equal bytes while an arm moves."""
    state = rows.columns["state"]
    witnesses = [
        (state.of(part, quantity), moved)
        for quantity, moved in MOVED_BEFORE_CAMERA.items()
        for part in state.parts(quantity)
    ]
    for camera, image_N in rows.images.items():
        equal_M = (image_N[1:] == image_N[:-1]) & (image_N[1:] >= 0)
        longest = _longest(_runs(equal_M), rows, witnesses)
        yield "camera", "images", camera, Tally.of((1.0,), wrong=longest, key=rows.key)


def _longest(
    runs: list[tuple[int, int]], rows: EpisodeRows, witnesses: list[tuple[Array, float]]
) -> float | None:
    """Seconds of the longest run of frames (first, last) over which a witness moves; None without one."""
    longest = None
    for first, last in runs:
        if not _long_enough(first, last, rows):
            continue
        # The last frame of a run and of the witness may belong to the motion after it.
        spans = (_span(values_Nd[first:last]) / moved for values_Nd, moved in witnesses)
        if max(spans, default=0.0) > 1:
            longest = max(longest or 0.0, float(rows.timestamp_N[last] - rows.timestamp_N[first]))
    return longest


def _long_enough(first: int, last: int, rows: EpisodeRows) -> bool:
    return last - first >= FROZEN_FRAMES and rows.timestamp_N[last] - rows.timestamp_N[first] >= FROZEN_S


def _runs(equal_M: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, last) frame of every stretch in which each frame equals the one before."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], equal_M, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _span(values_Nd: Array) -> float:
    kept = values_Nd[np.isfinite(values_Nd).all(axis=1)]
    return float(np.ptp(kept, axis=0).max()) if len(kept) else 0.0
