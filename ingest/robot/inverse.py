"""From canonical targets back to what the source's robot takes: the inverse of a spec's action stream.

Commands of the forms `osc` and `delta` say how far to go from where the robot is, so they need the state at
each step. What a form lost comes back as the number that has the same effect: quaternions with w >= 0,
rotation vectors of at most half a turn, Euler angles of the usual range, `fingers` opened by half the gap
each. What was clipped comes back at the limit. Computed in float64.

Legend: T steps, D dims of the state, A dims of the action, d columns of one quantity, W columns of an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.interface import Interface, columns_of
from robot_foundry.ingest.robot.osc import Controller
from robot_foundry.ingest.spec.quantities import GRIPPER, ROTATION, kind_of
from robot_foundry.ingest.spec.spec import Field, MappingSpec
from robot_foundry.normalization import rotation
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError, nearest

Array = NDArray[np.float64]


def source_actions(
    interface: Interface,
    stream: str,
    target_TA: NDArray[np.floating],
    state_TD: NDArray[np.floating],
    action: ActionSpace,
    state: ActionSpace,
    *,
    rest: float | None = None,
) -> dict[str, Array]:
    """The source's arrays [T, …] by key that ask for these absolute targets from these states, a row each.

    `action` and `state` name the columns; the stream may have fewer dims than `action`. `rest` is the number
    for columns of the arrays that the stream's fields do not name. FoundryError, in one sentence, where the
    stream says of no array what it takes, a number that is needed is not known, or `rest` would be.
    """
    fields = _fields(interface, stream)
    targets = {quantity: _values(quantity, target_TA, action, "the actions have") for quantity in fields}
    start = {
        quantity: _values(quantity, state_TD, state, "the state has") for quantity in interface.mapping.state
    }
    targets, start = _off_tool(interface.mapping, targets, start), _off_tool(interface.mapping, start, start)
    keys = dict.fromkeys(str(field.key) for field in fields.values())
    arrays = {key: _blank(interface, key, len(target_TA)) for key in keys}
    for quantity, field in fields.items():
        controller = interface.controller(stream, quantity) if field.kind == "osc" else None
        first = field.columns_of(prod(interface.row_shape(str(field.key)))).start
        values_Td = _source_values(quantity, field, targets[quantity], start.get(quantity), controller, first)
        if not np.isfinite(values_Td).all():
            raise FoundryError(_unknown(quantity, field, targets[quantity]))
        assert field.key is not None
        _put(arrays[field.key], field, quantity, values_Td)
    return {key: _filled(interface, stream, key, values_TW, rest) for key, values_TW in arrays.items()}


def _fields(interface: Interface, stream: str) -> Mapping[str, Field]:
    """The fields of a stream. FoundryError if it is not there, or holds what no command of the robot is."""
    known = interface.mapping.actions
    if stream not in known:
        raise FoundryError(
            f"the spec has no action stream '{stream}'{nearest(stream, known)} (streams: {', '.join(known)})"
        )
    follows = [quantity for quantity, field in known[stream].items() if field.key is None]
    if follows:
        others = [name for name, fields in known.items() if all(f.key for f in fields.values())]
        raise FoundryError(
            f"{', '.join(follows)} of '{stream}' is the state that follows, which no robot is sent",
            hint=f"say it in the form of another stream: stream={' or '.join(map(repr, others))}"
            if others
            else "add a stream to the spec that says what the robot is sent, and remap",
        )
    return known[stream]


def _values(quantity: str, values_TD: NDArray[np.floating], space: ActionSpace, who: str) -> Array:
    """The numbers [T, d] of a quantity, rotations as matrices [T, 3, 3]."""
    at = columns_of(quantity, space)
    if not at:
        raise FoundryError(f"{who} no {quantity} ({', '.join(space.names)})")
    values_Td = np.asarray(values_TD, np.float64)[:, at]
    return rotation.rot6d_to_matrix(values_Td) if kind_of(quantity) == ROTATION else values_Td


def _off_tool(
    mapping: MappingSpec, values: Mapping[str, Array], state: Mapping[str, Array]
) -> dict[str, Array]:
    """Poses of the canonical tools as those of the source's frames; `state` is canonical, too."""
    moved = dict(values)
    for quantity in values:
        part, _, name = quantity.partition(".")
        frame = mapping.tool_frame_of(part)
        if frame is None:
            continue
        back_33 = frame.pose[:3, :3].T
        tool_T33 = values.get(f"{part}.ee_rotation", state.get(f"{part}.ee_rotation"))
        if name == "ee_rotation":
            moved[quantity] = values[quantity] @ back_33
        elif name == "ee_position" and tool_T33 is not None:
            moved[quantity] = values[quantity] - (tool_T33 @ back_33) @ frame.pose[:3, 3]
    return moved


def _source_values(
    quantity: str,
    field: Field,
    target: Array,
    start: Array | None,
    controller: Controller | None,
    first: int,
) -> Array:
    """The columns [T, d] of the field, from column `first` on; `controller` is that of `osc`."""
    kind, settings = kind_of(quantity), field.parameters
    if field.kind in ("osc", "delta"):
        assert start is not None
        if controller is not None and not controller.is_delta:
            return rotation.matrix_to_axis_angle(target) if kind == ROTATION else target
        if kind == ROTATION:
            turn_T33 = rotation.multiply(target, np.swapaxes(start, -1, -2))
            moved_Td = _turned(turn_T33, settings.get("rotation", "axis_angle"))
        else:
            moved_Td = target - start
        if controller is not None:
            return controller.command(moved_Td, first)
        asked_Td, clip = _unscaled(quantity, field, moved_Td), settings["clip"]
        return asked_Td if clip is None else np.clip(asked_Td, -clip, clip)
    if kind == ROTATION:
        return _rotation(field, target)
    if kind == GRIPPER:
        gap_T1 = settings["closed"] + np.clip(target, 0.0, 1.0) * (settings["open"] - settings["closed"])
        return np.concatenate([gap_T1, -gap_T1], axis=1) / 2 if field.kind == "fingers" else gap_T1
    return _unscaled(quantity, field, target)


def _turned(turn_T33: Array, way: str) -> Array:
    """A turn as a rotation vector, or as Euler angles of a sequence."""
    if way == "axis_angle":
        return rotation.matrix_to_axis_angle(turn_T33)
    return rotation.matrix_to_euler(turn_T33, way)


def _unscaled(quantity: str, field: Field, values_Td: Array) -> Array:
    scale = np.asarray(field.parameters["scale"], np.float64)
    if not scale.all():
        raise FoundryError(f"{quantity} has a scale of 0, which lost what '{field.key}' says")
    return values_Td / scale


def _rotation(field: Field, matrix_T33: Array) -> Array:
    settings = field.parameters
    if field.kind == "quaternion":
        return rotation.matrix_to_quaternion(matrix_T33, order=settings["order"])
    if field.kind == "axis_angle":
        return rotation.matrix_to_axis_angle(matrix_T33)
    if field.kind == "euler":
        angles_T3 = rotation.matrix_to_euler(matrix_T33, settings["sequence"])
        return np.rad2deg(angles_T3) if settings["degrees"] else angles_T3
    if field.kind == "rot6d_columns":
        return rotation.matrix_to_rot6d(matrix_T33)
    if field.kind == "rot6d_rows":
        return rotation.matrix_to_rot6d(np.swapaxes(matrix_T33, -1, -2))
    assert field.kind == "matrix"
    return matrix_T33.reshape(-1, 9)


def _unknown(quantity: str, field: Field, target: Array) -> str:
    lacks = "state" if np.isfinite(target).all() else "actions"
    return f"{quantity} of the {lacks} is not known, so neither is what to send as '{field.key}'"


def _blank(interface: Interface, key: str, steps: int) -> Array:
    return np.full((steps, prod(interface.row_shape(key))), np.nan)


def _put(array_TW: Array, field: Field, quantity: str, values_Td: Array) -> None:
    """The columns of a field into its array. FoundryError where another field gave them other numbers."""
    own_Td = array_TW[:, slice(*field.columns)] if field.columns is not None else array_TW
    if (np.isfinite(own_Td) & (np.abs(own_Td - values_Td) > 1e-6)).any():
        raise FoundryError(
            f"{quantity} and another quantity are the same columns of '{field.key}', and their targets differ"
        )
    own_Td[:] = values_Td


def _filled(interface: Interface, stream: str, key: str, values_TW: Array, rest: float | None) -> Array:
    """In the shape of the source's rows. FoundryError for columns of which nothing is said."""
    (unsaid,) = np.nonzero(np.isnan(values_TW).any(axis=0))
    if unsaid.size and rest is None:
        raise FoundryError(
            f"no field of '{stream}' says the columns {', '.join(map(str, unsaid))} of '{key}'",
            hint="give rest=0.0, or what the robot shall get there, or name them in the spec",
        )
    values_TW[:, unsaid] = rest
    return values_TW.reshape(len(values_TW), *interface.row_shape(key))
