"""What the columns of one array look like by their numbers, and by its name: runs of them, each a quantity.

Legend: M rows of all episodes, d columns of the array or of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, MEDIUM, TODO, Run
from robot_foundry.ingest.inspect.evidence.homogeneous import pose_in
from robot_foundry.ingest.inspect.survey import Series

Array = NDArray[np.float64]

# Float32 rotations keep lengths and right angles to 1e-6; recorders round to three decimals.
UNIT, RIGHT_ANGLE = 5e-3, 1e-2
# Rows that are needed before numbers say anything, and columns beyond which an array is no one arm's or
# two's.
FEWEST_ROWS, MOST_COLUMNS = 8, 64
# No arm of a table reaches farther, m; an angle goes a little beyond pi where it is rounded.
REACH, HALF_TURN = 1.5, 3.3
# Beyond this, in rad, no joint turns: then they are degrees (checks.measures.GREATEST).
TURNS = 4 * math.pi
# A jaw that opens wider, in m, is none of a usual gripper's; and less motion than this is none.
WIDEST, LEAST_WIDTH = 0.16, 0.004
# By how much of the widest two fingers may differ where they are farthest apart, and one pass the middle.
ASIDE = 0.25
DEGREES = math.pi / 180
# What numbers of grippers lie between; and ends of which nothing says yet which is which.
ENDS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 100.0))
OPEN_ENDS: Mapping[str, Any] = {"closed": TODO, "open": TODO}
# Widths of two arms side by side.
_TWO_ARMS = (12, 14, 16, 18, 20)


def runs_of(series: Series, *, of_action: bool = False) -> list[Run]:
    """The quantities among the columns; none where neither numbers nor names tell."""
    width, hint = series.width, names.hint_of(series.name)
    rows_Md = series.rows
    if not 0 < width <= MOST_COLUMNS or len(rows_Md) < FEWEST_ROWS:
        return []
    called = [name for name in series.columns if not name.isdigit()]
    if len(called) == width and not of_action:
        runs = _by_column_names(called, rows_Md)
        if any(run.kind == names.JOINT for run in runs):
            return runs
    whole = _whole(hint, rows_Md)
    if whole is not None:
        return whole
    if hint in (names.EFFORT, names.VELOCITY, names.OTHER):
        return []
    if pose := pose_in(rows_Md):
        start, stop = pose[-1].start, pose[-1].stop
        before = _arm(rows_Md[:, :start], hint) if start else []
        return [*pose, *before, *_hand(rows_Md[:, stop:], stop)]
    if width in _TWO_ARMS:
        half = width // 2
        first, second = _arm(rows_Md[:, :half], hint), _arm(rows_Md[:, half:], hint)
        if first and [run.kind for run in first] == [run.kind for run in second]:
            return [*first, *(run.moved(half) for run in second)]
    return _arm(rows_Md, hint)


def _whole(hint: str | None, rows_Md: Array) -> list[Run] | None:
    """The array as one quantity, where its name says so and its width allows it."""
    width = rows_Md.shape[1]
    if hint == names.JOINT_VELOCITY:
        return [Run(hint, 0, width, "value", {}, MEDIUM, ("a speed of joints by its name",))]
    if hint == names.GRIPPER and width <= 2:
        run = gripper(rows_Md, 0, named=True)
        return None if run is None else [run]
    if hint == names.JOINT and width not in _TWO_ARMS:
        last = gripper(rows_Md[:, -1:], width - 1) if width >= 7 else None
        return _joints_and(rows_Md, last, hint)
    if hint == names.POSITION and width == 3:
        return [_position(rows_Md, 0, "a position by its name")]
    if hint in (names.ROTATION, names.EULER, names.AXIS_ANGLE) and width == 3:
        return [_three_angles(rows_Md, 0, hint)]
    return None


def _by_column_names(called: Sequence[str], rows_Md: Array) -> list[Run]:
    """Runs of neighbours of which the names of columns say that they are joints of one part, or a gripper."""
    kinds = [
        (names.segment_of(name), names.hint_of(name) == names.GRIPPER, names.part_of(name)) for name in called
    ]
    runs: list[Run] = []
    start = 0
    for stop in range(1, len(called) + 1):
        if stop < len(called) and kinds[stop] == kinds[start]:
            continue
        rows, (segment, is_gripper, _) = rows_Md[:, start:stop], kinds[start]
        why = f"columns {called[start]} … {called[stop - 1]} by their names"
        if segment is not None:
            joints = _joints(rows, start)
            runs.append(replace(joints, confidence=MEDIUM, evidence=(why, *joints.evidence)))
        elif is_gripper and stop - start == 1:
            held = gripper(rows, start, named=True)
            runs += [] if held is None else [held]
        start = stop
    return runs


def _arm(rows_Md: Array, hint: str | None) -> list[Run]:
    """One arm: a pose with a rotation that numbers tell, else by its width; and what closes the hand."""
    found = structured(rows_Md)
    if found is not None:
        position = (
            [_position(rows_Md[:, : found.start], 0, "before the rotation")] if found.start == 3 else []
        )
        rest = _hand(rows_Md[:, found.stop :], found.stop)
        return [*position, found, *rest] if found.start in (0, 3) else [found, *rest]
    width = rows_Md.shape[1]
    if width == 1:
        run = gripper(rows_Md, 0)
        return [] if run is None else [run]
    last = gripper(rows_Md[:, -1:], width - 1)
    if hint == names.JOINT:
        return _joints_and(rows_Md, last if width >= 7 else None, hint)
    if width == 4 and last is not None:
        return [_position(rows_Md[:, :3], 0, "three numbers before a gripper's"), last]
    if width == 7:
        last = last or gripper(rows_Md[:, -1:], width - 1, loose=True)
        if last is not None:
            return [*_pose_or_joints(rows_Md[:, :6], hint), last]
    if width == 6:
        return _pose_or_joints(rows_Md, hint)
    if width in (7, 8, 9) and hint not in (names.POSE, names.POSITION):
        return _joints_and(rows_Md, last if width == 8 else None, hint)
    if width == 3:
        return [_position(rows_Md, 0, "three numbers")] if hint == names.POSITION else []
    return []


def _hand(rows_Md: Array, start: int) -> list[Run]:
    """What comes after a pose: one or two numbers of a gripper."""
    run = gripper(rows_Md, start) if 1 <= rows_Md.shape[1] <= 2 else None
    return [] if run is None else [run]


def structured(rows_Md: Array) -> Run | None:
    """The first columns that can only be a rotation: orthonormal, or of length one."""
    width = rows_Md.shape[1]
    for start in range(width):
        if start + 9 <= width and _is_matrix(rows_Md[:, start : start + 9]):
            why = "9 columns are a rotation matrix: orthonormal, determinant 1"
            return Run(names.ROTATION, start, start + 9, "matrix", {}, HIGH, (why,))
        if start + 6 <= width and _are_axes(rows_Md[:, start : start + 6]):
            why = "6 columns are two unit vectors at right angles: two columns of R, or two rows"
            return Run(names.ROTATION, start, start + 6, TODO, {}, HIGH, (why,))
        if start + 4 <= width and _is_unit(rows_Md[:, start : start + 4]):
            length = np.linalg.norm(rows_Md[:, start : start + 4], axis=1)
            why = f"4 columns of length {length.min():.4f} … {length.max():.4f}: a unit quaternion"
            return Run(names.ROTATION, start, start + 4, "quaternion", {"order": TODO}, HIGH, (why,))
    return None


def _is_unit(rows_Md: Array) -> bool:
    return bool(
        np.all(np.abs(np.linalg.norm(rows_Md, axis=1) - 1) < UNIT) and np.all(np.abs(rows_Md) <= 1 + UNIT)
    )


def _are_axes(rows_M6: Array) -> bool:
    first, second = rows_M6[:, :3], rows_M6[:, 3:]
    return (
        _is_unit(first) and _is_unit(second) and bool(np.all(np.abs((first * second).sum(1)) < RIGHT_ANGLE))
    )


def _is_matrix(rows_M9: Array) -> bool:
    matrix_M33 = rows_M9.reshape(-1, 3, 3)
    product = matrix_M33 @ np.swapaxes(matrix_M33, 1, 2)
    return bool(np.all(np.abs(product - np.eye(3)) < RIGHT_ANGLE) and np.all(np.linalg.det(matrix_M33) > 0))


def _pose_or_joints(rows_M6: Array, hint: str | None) -> list[Run]:
    """Six numbers without a structure: position and three angles, or six joints."""
    reach, turn = float(np.abs(rows_M6[:, :3]).max()), float(np.abs(rows_M6[:, 3:]).max())
    wraps = _wraps(rows_M6[:, 3:]) is not None
    spread = rows_M6[:, :3].std(axis=0).max() < rows_M6[:, 3:].std(axis=0).max() * 10
    if hint == names.JOINT or reach > REACH or (turn > HALF_TURN and turn < 3 * HALF_TURN):
        why = "joints by its name" if hint == names.JOINT else f"the first three columns go to {reach:.2f}"
        return [_joints(rows_M6, 0).with_evidence(why, MEDIUM if hint == names.JOINT else LOW)]
    said = hint in (names.POSE, names.POSITION)
    confidence = MEDIUM if said or wraps else LOW
    why = (
        "a pose by its name"
        if said
        else f"the first three columns stay within {reach:.2f}, as positions in m do"
    )
    if wraps:
        why += ", and an angle jumps by a whole turn"
    position = _position(rows_M6[:, :3], 0, why)
    angles = _three_angles(rows_M6[:, 3:], 3, None)
    if not spread:
        confidence = LOW
    return [replace(position, confidence=confidence), replace(angles, evidence=(why, *angles.evidence))]


def _position(rows_M3: Array, start: int, why: str) -> Run:
    """Three numbers as a position; millimetres by their size."""
    reach = float(np.abs(rows_M3).max())
    low, high = rows_M3.min(axis=0), rows_M3.max(axis=0)
    span = ", ".join(f"{a:.2f} … {b:.2f}" for a, b in zip(low, high, strict=True))
    confidence, settings = MEDIUM, dict[str, Any]()
    if reach > 20:
        settings = {"scale": 0.001}
        why = f"{why}; up to {reach:.0f}, so millimetres"
    elif reach > 5:
        settings, confidence = {"scale": TODO}, LOW
    return Run(names.POSITION, start, start + 3, "value", settings, confidence, (f"{why} ({span})",))


def _three_angles(rows_M3: Array, start: int, hint: str | None) -> Run:
    """Three numbers as a rotation: which reading, motion may tell later; here by size and jumps."""
    largest = float(np.abs(rows_M3).max())
    length = float(np.linalg.norm(rows_M3, axis=1).max())
    degrees = largest > 2 * math.pi
    evidence = [f"three angles up to {largest:.2f}"]
    if degrees:
        evidence.append("more than a turn in radians, so degrees")
    if hint == names.AXIS_ANGLE and not degrees:
        return Run(
            names.ROTATION,
            start,
            start + 3,
            "axis_angle",
            {},
            MEDIUM,
            (*evidence, "a rotation vector by its name"),
        )
    settings = {"sequence": TODO, "degrees": True} if degrees else {"sequence": TODO}
    jumps = _wraps(rows_M3)
    if jumps == "axis_angle" and not degrees and hint != names.EULER and length < math.pi * 1.01:
        why = "it turns round whole where its length is pi, as a rotation vector does"
        return Run(names.ROTATION, start, start + 3, "axis_angle", {}, MEDIUM, (*evidence, why))
    if hint == names.EULER or degrees or length > math.pi * 1.01 or jumps == "euler":
        why = f"its length reaches {length:.2f}, beyond pi, so it is no rotation vector"
        why = "Euler angles by its name" if hint == names.EULER else why
        why = (
            "one angle jumps by a whole turn while the others stay, as Euler angles do"
            if jumps == "euler"
            else why
        )
        return Run(names.ROTATION, start, start + 3, "euler", settings, MEDIUM, (*evidence, why))
    return Run(
        names.ROTATION, start, start + 3, TODO, {}, LOW, (*evidence, "Euler angles or a rotation vector")
    )


def _wraps(rows_M3: Array) -> str | None:
    """What jumps of a whole turn tell: Euler angles, of which one wraps while the others stay, or a rotation
    vector, which turns round whole. None where nothing jumps so, or both do as often.
    """
    turn = 360.0 if np.abs(rows_M3).max() > 2 * math.pi else 2 * math.pi
    before, after = rows_M3[:-1], rows_M3[1:]
    jumps = np.abs(after - before)
    wrapped = np.flatnonzero((np.abs(jumps - turn) < 0.2 * turn).sum(axis=1) == 1)
    votes = {"euler": 0, "axis_angle": 0}
    for row in wrapped:
        others = np.arange(3) != int(jumps[row].argmax())
        stays = np.abs(after[row] - before[row])[others].sum()
        turns_round = np.abs(after[row] + before[row])[others].sum()
        votes["euler" if stays < turns_round else "axis_angle"] += 1
    if votes["euler"] == votes["axis_angle"]:
        return None
    return max(votes, key=lambda form: votes[form])


def _joints(rows_Md: Array, start: int) -> Run:
    """Joints; degrees where they turn farther than any does in radians."""
    largest = float(np.abs(rows_Md).max())
    if largest > TURNS:
        why = f"up to {largest:.0f}, farther than a joint turns in rad, so degrees"
        return Run(
            names.JOINT, start, start + rows_Md.shape[1], "value", {"scale": round(DEGREES, 9)}, LOW, (why,)
        )
    why = f"up to {largest:.2f}, as joints in rad go"
    return Run(names.JOINT, start, start + rows_Md.shape[1], "value", {}, LOW, (why,))


def _joints_and(rows_Md: Array, last: Run | None, hint: str | None) -> list[Run]:
    joints = rows_Md if last is None else rows_Md[:, :-1]
    run = _joints(joints, 0)
    if hint == names.JOINT:
        run = run.with_evidence("joints by its name", MEDIUM)
    return [run, *([] if last is None else [last])]


def gripper(rows_Md: Array, start: int, *, named: bool = False, loose: bool = False) -> Run | None:
    """One number of a gripper, or two fingers, by its range; None if it looks like none.

    Which end is open only a width tells: else both are TODO. `named` says that its name is a gripper's,
    `loose` that its place is one's, so that it need not reach both ends.
    """
    if rows_Md.shape[1] == 2:
        return fingers(rows_Md, start)
    values = rows_Md[:, 0]
    low, high = float(values.min()), float(values.max())
    said = ("a gripper's by its name",) if named else ()
    span = f"{low:.3g} … {high:.3g}"

    def run(form: str, confidence: str, *why: str, **settings: Any) -> Run:
        return Run(names.GRIPPER, start, start + 1, form, settings, confidence, (*said, *why))

    if named and low >= -0.005 and LEAST_WIDTH < high <= WIDEST and high - low > LEAST_WIDTH:
        why = f"{span}: a width in m, which is widest where it is open"
        return run("width", MEDIUM, why, closed=0.0, open=_round(high))
    ends = next((pair for pair in ENDS if _spans(values, *pair)), None)
    if ends is not None and (named or ends[1] <= 1.0):
        form = "command" if ends[0] < 0 else "value"
        return run(form, MEDIUM, f"{span}: between {ends[0]:g} and {ends[1]:g}", ends=ends, **OPEN_ENDS)
    if (loose or named) and -0.05 <= low < high - 0.1 and high <= 1.1:
        place = () if named else ("behind six numbers of a pose",)
        return run("value", LOW, *place, f"{span}: within 0 … 1", ends=(0.0, 1.0), **OPEN_ENDS)
    if not named:
        return None
    if high - low <= LEAST_WIDTH:
        return run("value", LOW, f"{span}: it hardly moves", ends=None, **OPEN_ENDS)
    ends = _round(low), _round(high)
    return run("value", LOW, f"{span}, whose ends may not be reached", ends=ends, **OPEN_ENDS)


def _spans(values: Array, low: float, high: float) -> bool:
    """Whether the numbers stay between the two, near enough, and come near both."""
    room = 0.1 * (high - low)
    inside = bool(values.min() >= low - room and values.max() <= high + room)
    return inside and values.min() <= low + 3 * room and values.max() >= high - 3 * room


def fingers(rows_M2: Array, start: int) -> Run | None:
    """Two finger positions in m, of opposite signs; None if they are none."""
    apart_M, widest = rows_M2[:, 0] - rows_M2[:, 1], float(np.abs(rows_M2).max())
    at_widest = int(np.abs(apart_M).argmax())
    # Fingers that hold something aside are not as far out as each other, and none is beyond the middle.
    room, signs = ASIDE * max(widest, 1e-9), np.sign(rows_M2[at_widest])
    are_opposite = signs.sum() == 0 and abs(rows_M2[at_widest].sum()) < room
    if not are_opposite or not (rows_M2 * signs >= -room).all():
        return None
    if not LEAST_WIDTH / 2 < widest <= WIDEST or np.ptp(apart_M) < LEAST_WIDTH / 2:
        return None
    gap = float(apart_M[at_widest])
    why = (
        f"two numbers of opposite signs up to {widest:.3g}, as fingers in m have, {gap:.3g} apart where open"
    )
    ends = {"closed": 0.0, "open": float(f"{gap:.2g}")}
    return Run(names.GRIPPER, start, start + 2, "fingers", ends, MEDIUM, (why,))


def _round(value: float) -> float:
    return float(f"{value:.3g}")
