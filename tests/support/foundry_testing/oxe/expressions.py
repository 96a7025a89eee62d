"""Expressions of an oracle: numbers of an episode and what they mean, computed by NumPy and SciPy alone.

Each takes the arrays of an episode by path and gives numbers [T, d], or a Rotation of T.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Arrays = Mapping[str, NDArray[Any]]
Expr = Callable[[Arrays], Any]
Table = dict[str, dict[str, Expr]]


def at(path: str, start: int = 0, stop: int | None = None, step: int = 1) -> Expr:
    return lambda arrays: arrays[path].astype(np.float64).reshape(len(arrays[path]), -1)[:, start:stop:step]


def xyzw(numbers: Expr) -> Expr:
    return lambda arrays: Rotation.from_quat(numbers(arrays))


def wxyz(numbers: Expr) -> Expr:
    return lambda arrays: Rotation.from_quat(numbers(arrays)[:, [1, 2, 3, 0]])


def rpy(numbers: Expr) -> Expr:
    """Roll, pitch, yaw: about the fixed x, then the fixed y, then the fixed z."""
    return lambda arrays: Rotation.from_euler("xyz", numbers(arrays))


def zxy(numbers: Expr) -> Expr:
    return lambda arrays: Rotation.from_euler("zxy", numbers(arrays))


def vector(numbers: Expr, scale: float = 1.0) -> Expr:
    return lambda arrays: Rotation.from_rotvec(scale * numbers(arrays))


def by_columns(numbers: Expr) -> tuple[Expr, Expr]:
    """Position and rotation of a homogeneous matrix whose columns lie one after another."""
    matrix = lambda arrays: numbers(arrays).reshape(-1, 4, 4).transpose(0, 2, 1)  # noqa: E731
    return lambda a: matrix(a)[:, :3, 3], lambda a: Rotation.from_matrix(matrix(a)[:, :3, :3])


def by_rows(numbers: Expr) -> tuple[Expr, Expr]:
    matrix = lambda arrays: numbers(arrays).reshape(-1, 4, 4)  # noqa: E731
    return lambda a: matrix(a)[:, :3, 3], lambda a: Rotation.from_matrix(matrix(a)[:, :3, :3])


def moved(start: Expr, by: Expr, scale: float = 1.0) -> Expr:
    return lambda arrays: start(arrays) + scale * by(arrays)


def about_base(start: Expr, turn: Expr) -> Expr:
    return lambda arrays: turn(arrays) * start(arrays)


def about_tool(start: Expr, turn: Expr) -> Expr:
    return lambda arrays: start(arrays) * turn(arrays)


def opening(numbers: Expr, *, closed: float, opened: float) -> Expr:
    """0 closed … 1 open, of numbers beyond the ends the end."""

    def value(arrays: Arrays) -> NDArray[np.float64]:
        return np.asarray(np.interp(numbers(arrays), *_rising(closed, opened)), np.float64)

    return value


def _rising(closed: float, opened: float) -> tuple[list[float], list[float]]:
    return ([closed, opened], [0.0, 1.0]) if closed < opened else ([opened, closed], [1.0, 0.0])


def lasting(numbers: Expr) -> Expr:
    """1 closes, -1 opens, and near 0 nothing changes; before the first the other of it."""

    def value(arrays: Arrays) -> NDArray[np.float64]:
        asked = [None if abs(v) <= 0.1 else float(v < 0) for v in numbers(arrays)[:, 0]]
        first = next((each for each in asked if each is not None), 0.0)
        now, openings = 1.0 - first, []
        for each in asked:
            now = now if each is None else each
            openings.append([now])
        return np.array(openings)

    return value


def so_far(numbers: Expr) -> Expr:
    """The sum of what came before."""

    def value(arrays: Arrays) -> NDArray[np.float64]:
        rows, total = [], np.zeros(3)
        for row in numbers(arrays):
            rows.append(total)
            total = total + row
        return np.array(rows)

    return value


def following(now: Expr) -> Expr:
    def value(arrays: Arrays) -> Any:
        values = now(arrays)
        order = [*range(1, len(values)), len(values) - 1]
        return values[order]

    return value


POSES = ("ee_position", "ee_rotation", "joint_position", "tip", "pose", "position", "yaw")


def _with_next(state: dict[str, Expr], streams: Table) -> Table:
    """And the stream of what follows: of poses and joints; grippers as they are commanded, if they are."""
    poses = {
        name: following(value)
        for name, value in state.items()
        if name.partition(".")[2] in POSES and not name.startswith("right_setpoint")
    }
    if not poses:
        return {"state": state, **streams}
    of_streams = streams.get("command", {})
    grippers = {name: value for name, value in of_streams.items() if name.endswith("gripper_opening")}
    rest = {
        name: following(value)
        for name, value in state.items()
        if name.endswith("gripper_opening") and name not in grippers
    }
    return {"state": state, **streams, "next_state": {**poses, **grippers, **rest}}


def arm(state: Mapping[str, Expr], command: Mapping[str, Expr] | None = None, **streams: Any) -> Table:
    """`a__b` is the part a's b; without a part it is of the right arm."""

    def named(values: Mapping[str, Expr]) -> dict[str, Expr]:
        return {
            (name.replace("__", ".") if "__" in name else f"right.{name}"): value
            for name, value in values.items()
        }

    given = {} if command is None else {"command": named(command)}
    return _with_next(named(state), {**given, **{name: named(values) for name, values in streams.items()}})
