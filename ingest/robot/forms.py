"""The forms in which a source may hold a quantity: settings, columns, the way to canonical numbers and back.

A form is declared here and nowhere else: the reader of specs takes its keys from it, the mapping its way
there, and a policy's answer to a robot its way back. Canonical are positions [N, 3] in m, rotations as
matrices [N, 3, 3], openings [N, 1] of 0 … 1, joints and other numbers [N, d].

Legend: N frames, d columns of one field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.quantities import (
    GRIPPER,
    JOINT,
    NUMBERS,
    POSITION,
    ROTATION,
    kind_of,
    num_components,
)
from robot_foundry.ingest.spec.section import REQUIRED
from robot_foundry.ingest.spec.spec import Field
from robot_foundry.normalization import rotation

Array = NDArray[np.float64]
# The values within two limits, noting which go beyond.
Clip = Callable[[Array, Any, Any], Array]
EULER = re.compile(r"[xyz]{3}|[XYZ]{3}")
# A stored rotation matrix further than this from orthonormal is no rotation.
ORTHONORMAL_TOLERANCE = 1e-3


class Commands(Protocol):
    """How the robot's own controller takes the columns of a field."""

    @property
    def is_delta(self) -> bool:
        """Whether they displace the pose that the arm has; else they are the pose."""
        ...

    def displacement(self, command_Nd: Array, clip: Clip) -> Array:
        """What a command that displaces asks for, in m or rad."""
        ...

    def command(self, displacement_Nd: Array) -> Array:
        """The command that asks for a displacement in m or rad, clipped."""
        ...


@dataclass(frozen=True)
class Given:
    """What a form leans on beside the numbers: the field's settings, and what only some forms need.

    `start` is the quantity of the state at the same moments, canonical; `clip` is used on the way there.
    """

    settings: Mapping[str, Any]
    start: Array | None = None
    clip: Clip = np.clip
    controller: Commands | None = None

    @property
    def state(self) -> Array:
        assert self.start is not None  # the reader of specs sees to it
        return self.start

    @property
    def commands(self) -> Commands:
        assert self.controller is not None
        return self.controller


Way = Callable[[Array, Given], Array]


@dataclass(frozen=True)
class Setting:
    """A key of a field. `read` checks a value, with ValueError saying what is expected."""

    read: Callable[[Any], Any]
    default: Any = REQUIRED


def _no_problem(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    return None


@dataclass(frozen=True)
class Form:
    """One form of a quantity, as `from` of a field names it.

    `width` is the number of columns that it needs (None: any). `to_canonical` makes canonical numbers of the
    columns [N, d], float64 with NaN for what is not finite; of a form without a key, of the state itself with
    the row that follows. `to_source` is the way back: what a form lost comes back as the number of the same
    effect; None where no robot is sent such numbers. `problem` finds settings that contradict each other, as
    (key, what is wrong). `as_target` is the form of the same columns where they are absolute targets.
    """

    width: int | None
    settings: Mapping[str, Setting]
    to_canonical: Way
    to_source: Way | None
    needs_state: bool = False
    needs_key: bool = True
    needs_controller: bool = False
    is_default: bool = False
    as_target: str | None = None
    problem: Callable[[Mapping[str, Any]], tuple[str, str] | None] = field(default=_no_problem)

    @property
    def displaces(self) -> bool:
        """Whether its numbers are, or may be, displacements of the state."""
        return self.needs_state and self.needs_key


def form_of(quantity: str, field: Field) -> Form:
    """The form of a field, which the reader of specs has checked."""
    return FORMS[str(kind_of(quantity))][field.kind]


def default_form(kind: str) -> str | None:
    """The form of a field that names none; None where each must name its own."""
    return next((name for name, form in FORMS[kind].items() if form.is_default), None)


def width_of(quantity: str, form: Form) -> int | None:
    """The number of columns that the quantity needs in this form, None where the robot decides."""
    return num_components(quantity) if form.width is None and kind_of(quantity) == NUMBERS else form.width


# Settings.


def _numbers(value: Any) -> float | tuple[float, ...]:
    return tuple(checks.number(item) for item in value) if isinstance(value, list) else checks.number(value)


def _euler(value: Any) -> str:
    if not isinstance(value, str) or not EULER.fullmatch(value):
        raise ValueError(f"expected three axes such as xyz (extrinsic) or XYZ (intrinsic), got {value!r}")
    return value


def _axis_angle_or_euler(value: Any) -> str:
    if value == "axis_angle":
        return "axis_angle"
    try:
        return _euler(value)
    except ValueError as error:
        raise ValueError(f"expected axis_angle, or {str(error).removeprefix('expected ')}") from None


def _ends_alike(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    return ("open", "equals closed") if settings["closed"] == settings["open"] is not None else None


SCALE = {"scale": Setting(_numbers, 1.0)}
CLIP = {"clip": Setting(checks.optional(checks.positive), None)}
TURNED_BY = {"rotation": Setting(_axis_angle_or_euler, "axis_angle")}
ORDER = {"order": Setting(checks.choice(("xyzw", "wxyz")))}
ANGLES = {"sequence": Setting(_euler), "degrees": Setting(checks.boolean, False)}
ENDS = {"closed": Setting(checks.number), "open": Setting(checks.number)}
UNIT_ENDS = {"closed": Setting(checks.number, 0.0), "open": Setting(checks.number, 1.0)}


# Numbers that are scaled, and displacements.


def _scaled(values_Nd: Array, given: Given) -> Array:
    return values_Nd * np.asarray(given.settings["scale"])


def _unscaled(values_Nd: Array, given: Given) -> Array:
    return values_Nd / np.asarray(given.settings["scale"], np.float64)


def _asked(values_Nd: Array, given: Given) -> Array:
    """Displacements; limits are those of the source's own numbers, so they come before the scale."""
    limit = given.settings["clip"]
    values_Nd = values_Nd if limit is None else given.clip(values_Nd, -limit, limit)
    return _scaled(values_Nd, given)


def _unasked(displacement_Nd: Array, given: Given) -> Array:
    values_Nd, limit = _unscaled(displacement_Nd, given), given.settings["clip"]
    return values_Nd if limit is None else np.clip(values_Nd, -limit, limit)


def _displaced(values_Nd: Array, given: Given) -> Array:
    return given.state + _asked(values_Nd, given)


def _displacement(target_Nd: Array, given: Given) -> Array:
    return _unasked(target_Nd - given.state, given)


def _turned(values_Nd: Array, given: Given) -> Array:
    # From the left, so about the axes of the base: robosuite's goal_rot = R(drot) @ rot.
    return _matrix_of(_asked(values_Nd, given), given.settings["rotation"]) @ given.state


def _turn(target_N33: Array, given: Given) -> Array:
    return _unasked(_angles_of(_turn_from(given.state, target_N33), given.settings["rotation"]), given)


def _turn_from(start_N33: Array, target_N33: Array) -> Array:
    return rotation.multiply(target_N33, np.swapaxes(start_N33, -1, -2))


def _matrix_of(angles_N3: Array, way: str) -> Array:
    """Of a rotation vector, or of Euler angles of a sequence."""
    if way == "axis_angle":
        return rotation.axis_angle_to_matrix(angles_N3)
    return rotation.euler_to_matrix(angles_N3, way)


def _angles_of(matrix_N33: Array, way: str) -> Array:
    """The inverse of `_matrix_of`."""
    if way == "axis_angle":
        return rotation.matrix_to_axis_angle(matrix_N33)
    return rotation.matrix_to_euler(matrix_N33, way)


# Commands of a controller (robosuite's operational-space control).


def _commanded_position(command_Nd: Array, given: Given) -> Array:
    if not given.commands.is_delta:
        return command_Nd
    return given.state + given.commands.displacement(command_Nd, given.clip)


def _position_command(target_Nd: Array, given: Given) -> Array:
    return given.commands.command(target_Nd - given.state) if given.commands.is_delta else target_Nd


def _commanded_rotation(command_Nd: Array, given: Given) -> Array:
    if not given.commands.is_delta:
        return rotation.axis_angle_to_matrix(command_Nd)
    turn_Nd = given.commands.displacement(command_Nd, given.clip)
    return rotation.axis_angle_to_matrix(turn_Nd) @ given.state


def _rotation_command(target_N33: Array, given: Given) -> Array:
    if not given.commands.is_delta:
        return rotation.matrix_to_axis_angle(target_N33)
    turn_N33 = _turn_from(given.state, target_N33)
    return given.commands.command(rotation.matrix_to_axis_angle(turn_N33))


# The state that follows; the last row has none but itself.


def _following(state: Array, given: Given) -> Array:
    return np.concatenate([state[1:], state[-1:]])


# Rotations.


def _of_quaternion(values_N4: Array, given: Given) -> Array:
    return rotation.quaternion_to_matrix(values_N4, order=given.settings["order"])


def _quaternion(matrix_N33: Array, given: Given) -> Array:
    return rotation.matrix_to_quaternion(matrix_N33, order=given.settings["order"])


def _of_euler(values_N3: Array, given: Given) -> Array:
    angles_N3 = np.deg2rad(values_N3) if given.settings["degrees"] else values_N3
    return rotation.euler_to_matrix(angles_N3, given.settings["sequence"])


def _euler_angles(matrix_N33: Array, given: Given) -> Array:
    angles_N3 = rotation.matrix_to_euler(matrix_N33, given.settings["sequence"])
    return np.rad2deg(angles_N3) if given.settings["degrees"] else angles_N3


def _of_rows(values_N6: Array, given: Given) -> Array:
    # The rows of R are the columns of its transpose.
    return np.swapaxes(rotation.rot6d_to_matrix(values_N6), -1, -2)


def _rows(matrix_N33: Array, given: Given) -> Array:
    return rotation.matrix_to_rot6d(np.swapaxes(matrix_N33, -1, -2))


def _of_matrix(values_N9: Array, given: Given) -> Array:
    """NaN where the source holds no rotation: any nine numbers would be read else, mirrored ones too."""
    matrix_N33 = values_N9.reshape(-1, 3, 3)
    error_N = np.abs(matrix_N33 @ np.swapaxes(matrix_N33, -1, -2) - np.eye(3)).max(axis=(1, 2))
    is_rotation_N = (error_N < ORTHONORMAL_TOLERANCE) & (np.linalg.det(matrix_N33) > 0)
    return np.where(is_rotation_N[:, None, None], matrix_N33, np.nan)


# Grippers.


def _opening(values_N1: Array, given: Given) -> Array:
    closed, opened = given.settings["closed"], given.settings["open"]
    return given.clip((values_N1 - closed) / (opened - closed), 0.0, 1.0)


def _ends_at(opening_N1: Array, given: Given) -> Array:
    closed, opened = given.settings["closed"], given.settings["open"]
    return closed + np.clip(opening_N1, 0.0, 1.0) * (opened - closed)


def _opening_of_fingers(values_N2: Array, given: Given) -> Array:
    return _opening(values_N2[:, :1] - values_N2[:, 1:], given)


def _fingers(opening_N1: Array, given: Given) -> Array:
    # Only their gap is known, so each finger takes half of it.
    gap_N1 = _ends_at(opening_N1, given)
    return np.concatenate([gap_N1, -gap_N1], axis=1) / 2


_VALUE = Form(None, SCALE, _scaled, _unscaled, is_default=True)
_DELTA = Form(None, SCALE | CLIP, _displaced, _displacement, needs_state=True)
_NEXT_STATE = Form(None, {}, _following, None, needs_state=True, needs_key=False)
_BETWEEN_ENDS = Form(1, ENDS, _opening, _ends_at, problem=_ends_alike)

FORMS: Mapping[str, Mapping[str, Form]] = {
    POSITION: {
        "value": replace(_VALUE, width=3),
        # robosuite's operational-space command, clipped and scaled as the controller in env_args says.
        "osc": Form(
            3,
            {},
            _commanded_position,
            _position_command,
            needs_state=True,
            needs_controller=True,
            as_target="value",
        ),
        "delta": replace(_DELTA, width=3),
        "next_state": _NEXT_STATE,
    },
    ROTATION: {
        "quaternion": Form(4, ORDER, _of_quaternion, _quaternion),
        "axis_angle": Form(
            3,
            {},
            lambda values_N3, _: rotation.axis_angle_to_matrix(values_N3),
            lambda matrix_N33, _: rotation.matrix_to_axis_angle(matrix_N33),
        ),
        "euler": Form(3, ANGLES, _of_euler, _euler_angles),
        "rot6d_columns": Form(
            6,
            {},
            lambda values_N6, _: rotation.rot6d_to_matrix(values_N6),
            lambda matrix_N33, _: rotation.matrix_to_rot6d(matrix_N33),
        ),
        "rot6d_rows": Form(6, {}, _of_rows, _rows),
        "matrix": Form(9, {}, _of_matrix, lambda matrix_N33, _: matrix_N33.reshape(-1, 9)),
        "osc": Form(
            3,
            {},
            _commanded_rotation,
            _rotation_command,
            needs_state=True,
            needs_controller=True,
            as_target="axis_angle",
        ),
        "delta": Form(3, SCALE | CLIP | TURNED_BY, _turned, _turn, needs_state=True),
        "next_state": _NEXT_STATE,
    },
    GRIPPER: {
        "value": replace(_BETWEEN_ENDS, settings=UNIT_ENDS),
        "fingers": Form(2, ENDS, _opening_of_fingers, _fingers, problem=_ends_alike),
        "width": _BETWEEN_ENDS,
        "command": _BETWEEN_ENDS,
        "next_state": _NEXT_STATE,
    },
    JOINT: {"value": _VALUE, "delta": _DELTA, "next_state": _NEXT_STATE},
    NUMBERS: {"value": _VALUE, "next_state": _NEXT_STATE},
}
