"""The forms in which a source may hold a quantity: settings, columns, the way to canonical numbers and back.

A form is declared here and nowhere else: the reader of specs takes its keys from it, the mapping its way
there, and a policy's answer to a robot its way back. The ways themselves are in `conversions`.

Legend: N frames, d columns of one field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from robot_foundry.ingest.robot import conversions
from robot_foundry.ingest.robot.conversions import AXIS_ANGLE, Array, Given
from robot_foundry.ingest.robot.spec.quantities import (
    GRIPPER,
    JOINT,
    NUMBERS,
    OWN,
    POSITION,
    ROTATION,
    num_components,
    quantity_kind,
)
from robot_foundry.ingest.robot.spec.spec import Field
from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.section import REQUIRED
from robot_foundry.normalization.rotation import QUATERNION_ORDERS

EULER = re.compile(r"[xyz]|[xyz]{3}|[XYZ]{3}")

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

    `width` is the number of columns that it needs (None: any); where settings decide, `width_by` tells it
    from them. `to_canonical` makes canonical numbers of the
    columns [N, d], float64 with NaN for what is not finite; of a form without a key, of the state itself with
    the row that follows. `to_source` is the way back: what a form lost comes back as the number of the same
    effect; None where no robot is sent such numbers. `is_of_state` says that only the state may have it.
    `problem` finds settings that contradict each other, as (key, what is wrong). `as_target` is the form of
    the same columns where they are absolute targets.
    """

    width: int | None
    settings: Mapping[str, Setting]
    to_canonical: Way
    to_source: Way | None
    needs_state: bool = False
    needs_key: bool = True
    needs_controller: bool = False
    is_of_state: bool = False
    is_default: bool = False
    as_target: str | None = None
    width_by: Callable[[Mapping[str, Any]], int] | None = None
    problem: Callable[[Mapping[str, Any]], tuple[str, str] | None] = field(default=_no_problem)

    @property
    def displaces(self) -> bool:
        """Whether its numbers are, or may be, displacements of the state."""
        return self.needs_state and self.needs_key


def form_of(quantity: str, field: Field) -> Form:
    """The form of a field, which the reader of specs has checked."""
    return FORMS[str(quantity_kind(quantity))][field.kind]


def default_form(kind: str) -> str | None:
    """The form of a field that names none; None where each must name its own."""
    return next((name for name, form in FORMS[kind].items() if form.is_default), None)


def width_of(quantity: str, form: Form, settings: Mapping[str, Any]) -> int | None:
    """The number of columns that the quantity needs in this form, None where the robot decides."""
    if form.width_by is not None:
        return form.width_by(settings)
    if form.width is None and quantity_kind(quantity) == NUMBERS:
        return num_components(quantity)
    return form.width


def _numbers(value: Any) -> float | tuple[float, ...]:
    return tuple(checks.number(item) for item in value) if isinstance(value, list) else checks.number(value)


def _euler(value: Any) -> str:
    if not isinstance(value, str) or not EULER.fullmatch(value):
        raise ValueError(
            f"expected three axes such as xyz (extrinsic) or XYZ (intrinsic), or one such as z, got {value!r}"
        )
    return value


def _turn(value: Any) -> str:
    """How a turn is written: a rotation vector, a quaternion of that order, or Euler angles."""
    if value == AXIS_ANGLE or value in QUATERNION_ORDERS:
        return str(value)
    try:
        return _euler(value)
    except ValueError as error:
        words = ", ".join((AXIS_ANGLE, *QUATERNION_ORDERS))
        raise ValueError(f"expected {words}, or {str(error).removeprefix('expected ')}") from None


def _width_of_turn(settings: Mapping[str, Any]) -> int:
    return conversions.width_of_turn(settings["rotation"])


def _num_angles(settings: Mapping[str, Any]) -> int:
    return len(settings["sequence"])


def _ends_alike(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    return ("open", "equals closed") if settings["closed"] == settings["open"] is not None else None


SCALE = {"scale": Setting(_numbers, 1.0)}
CLIP = {"clip": Setting(checks.optional(checks.positive), None)}
TURNED_BY = {
    "rotation": Setting(_turn, AXIS_ANGLE),
    "frame": Setting(checks.choice(conversions.FRAMES), conversions.BASE),
}
ORDER = {"order": Setting(checks.choice(QUATERNION_ORDERS))}
MAJOR = {"major": Setting(checks.choice(conversions.MAJORS))}
ANGLES = {"sequence": Setting(_euler), "degrees": Setting(checks.boolean, False)}
ENDS = {"closed": Setting(checks.number), "open": Setting(checks.number)}
UNIT_ENDS = {"closed": Setting(checks.number, 0.0), "open": Setting(checks.number, 1.0)}
# Part of the way from rest to an end at which a command to close or open counts as one.
THRESHOLD = {"threshold": Setting(checks.positive, 0.1)}

_VALUE = Form(None, SCALE, conversions.scaled, conversions.unscaled, is_default=True)
_DELTA = Form(None, SCALE | CLIP, conversions.displaced, conversions.displacement, needs_state=True)
_NEXT_STATE = Form(None, {}, conversions.following_state, None, needs_state=True, needs_key=False)
_INTEGRATED = Form(None, SCALE, conversions.integrated, None, is_of_state=True)
_BETWEEN_ENDS = Form(1, ENDS, conversions.opening, conversions.between_ends, problem=_ends_alike)

FORMS: Mapping[str, Mapping[str, Form]] = {
    POSITION: {
        "value": replace(_VALUE, width=3),
        # robosuite's operational-space command, clipped and scaled as the controller in env_args says.
        "osc": Form(
            3,
            {},
            conversions.commanded_position,
            conversions.position_command,
            needs_state=True,
            needs_controller=True,
            as_target="value",
        ),
        "delta": replace(_DELTA, width=3),
        "next_state": _NEXT_STATE,
    },
    ROTATION: {
        "quaternion": Form(4, ORDER, conversions.of_quaternion, conversions.quaternion),
        "axis_angle": Form(3, {}, conversions.of_axis_angle, conversions.axis_angle),
        "euler": Form(None, ANGLES, conversions.of_euler, conversions.euler_angles, width_by=_num_angles),
        "rot6d_columns": Form(6, {}, conversions.of_columns, conversions.columns),
        "rot6d_exact": Form(6, {}, conversions.of_exact_columns, conversions.columns),
        "rot6d_rows": Form(6, {}, conversions.of_rows, conversions.rows),
        "matrix": Form(9, {}, conversions.of_matrix, conversions.matrix),
        # Of a pose as a homogeneous matrix of 4 x 4 numbers.
        "homogeneous": Form(16, MAJOR, conversions.of_homogeneous, None, is_of_state=True),
        "osc": Form(
            3,
            {},
            conversions.commanded_rotation,
            conversions.rotation_command,
            needs_state=True,
            needs_controller=True,
            as_target="axis_angle",
        ),
        "delta": Form(
            None,
            SCALE | CLIP | TURNED_BY,
            conversions.turned,
            conversions.turn,
            needs_state=True,
            width_by=_width_of_turn,
        ),
        "next_state": _NEXT_STATE,
    },
    GRIPPER: {
        "value": replace(_BETWEEN_ENDS, settings=UNIT_ENDS),
        "fingers": Form(2, ENDS, conversions.opening_of_fingers, conversions.fingers, problem=_ends_alike),
        "width": _BETWEEN_ENDS,
        "command": _BETWEEN_ENDS,
        "relative": replace(
            _BETWEEN_ENDS, settings=ENDS | THRESHOLD, to_canonical=conversions.opening_that_lasts
        ),
        "next_state": _NEXT_STATE,
    },
    JOINT: {"value": _VALUE, "delta": _DELTA, "next_state": _NEXT_STATE},
    NUMBERS: {"value": _VALUE, "next_state": _NEXT_STATE},
    OWN: {"value": _VALUE, "delta": _DELTA, "integrated": _INTEGRATED, "next_state": _NEXT_STATE},
}
