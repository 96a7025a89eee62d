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

from robot_foundry.ingest.robot.conversions import Array, Given
from robot_foundry.ingest.robot.dims import places_in
from robot_foundry.ingest.robot.forms import form_of
from robot_foundry.ingest.robot.interface import Interface
from robot_foundry.ingest.robot.robosuite.osc import PlacedCommands
from robot_foundry.ingest.robot.spec.quantities import ROTATION, quantity_kind
from robot_foundry.ingest.robot.spec.spec import Field, MappingSpec
from robot_foundry.normalization import rotation
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError, nearest


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
    targets = {
        quantity: _values(quantity, field, target_TA, action, "the actions have")
        for quantity, field in fields.items()
    }
    start = {
        quantity: _values(quantity, field, state_TD, state, "the state has")
        for quantity, field in interface.mapping.state.items()
    }
    targets, start = _off_tool(interface.mapping, targets, start), _off_tool(interface.mapping, start, start)
    keys = dict.fromkeys(str(field.key) for field in fields.values())
    arrays = {key: _blank(interface, key, len(target_TA)) for key in keys}
    for quantity, field in fields.items():
        given = _given(interface, stream, quantity, field, start.get(quantity))
        values_Td = _source_values(quantity, field, targets[quantity], given)
        if not np.isfinite(values_Td).all():
            raise FoundryError(_unknown(quantity, field, targets[quantity]))
        assert field.key is not None
        _put(arrays[field.key], field, quantity, values_Td)
    return {key: _filled(interface, stream, key, values_TW, rest) for key, values_TW in arrays.items()}


def _fields(interface: Interface, stream: str) -> Mapping[str, Field]:
    """The fields of a stream. FoundryError if it is not there, or holds what no command of the robot is."""
    streams = interface.mapping.actions
    if stream not in streams:
        names = ", ".join(streams)
        raise FoundryError(
            f"the spec has no action stream '{stream}'{nearest(stream, streams)} (streams: {names})"
        )
    follows = [quantity for quantity, field in streams[stream].items() if field.key is None]
    if follows:
        others = [name for name, fields in streams.items() if all(f.key for f in fields.values())]
        raise FoundryError(
            f"{', '.join(follows)} of '{stream}' is the state that follows, which no robot is sent",
            hint=f"say it in the form of another stream: stream={' or '.join(map(repr, others))}"
            if others
            else "add a stream to the spec that says what the robot is sent, and remap",
        )
    return streams[stream]


def _values(
    quantity: str, field: Field, values_TD: NDArray[np.floating], space: ActionSpace, who: str
) -> Array:
    """The numbers [T, d] of a quantity, rotations as matrices [T, 3, 3]."""
    at = places_in(space, quantity, field)
    if not at:
        raise FoundryError(f"{who} no {quantity} ({', '.join(space.names)})")
    values_Td = np.asarray(values_TD, np.float64)[:, at]
    return rotation.rot6d_to_matrix(values_Td) if quantity_kind(quantity) == ROTATION else values_Td


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
        # tool = flange @ pose, so the flange turns back by its transpose, and is the tool's position less the
        # offset as the flange is turned.
        back_33 = frame.pose[:3, :3].T
        tool_T33 = values.get(f"{part}.ee_rotation", state.get(f"{part}.ee_rotation"))
        if name == "ee_rotation":
            moved[quantity] = values[quantity] @ back_33
        elif name == "ee_position" and tool_T33 is not None:
            moved[quantity] = values[quantity] - (tool_T33 @ back_33) @ frame.pose[:3, 3]
    return moved


def _given(interface: Interface, stream: str, quantity: str, field: Field, start: Array | None) -> Given:
    """What the form of a field leans on; `start` is the state's quantity, if it has it."""
    commands = None
    if form_of(quantity, field).needs_controller:
        controller = interface.controller(stream, quantity)
        first = field.columns_of(prod(interface.row_shape(str(field.key)))).start
        commands = PlacedCommands(controller, first)
    return Given(field.parameters, start, controller=commands)


def _source_values(quantity: str, field: Field, target: Array, given: Given) -> Array:
    """The columns [T, d] of the field."""
    if not np.asarray(field.parameters.get("scale", 1.0)).all():
        raise FoundryError(f"{quantity} has a scale of 0, which lost what '{field.key}' says")
    to_source = form_of(quantity, field).to_source
    assert to_source is not None  # `_fields` refuses what no robot is sent
    return to_source(target, given)


def _unknown(quantity: str, field: Field, target: Array) -> str:
    lacks = "state" if np.isfinite(target).all() else "actions"
    return f"{quantity} of the {lacks} is not known, so neither is what to send as '{field.key}'"


def _blank(interface: Interface, key: str, steps: int) -> Array:
    return np.full((steps, prod(interface.row_shape(key))), np.nan)


def _put(array_TW: Array, field: Field, quantity: str, values_Td: Array) -> None:
    """The columns of a field into its array. FoundryError where another field gave them other numbers."""
    place_Td = array_TW[:, slice(*field.columns)] if field.columns is not None else array_TW
    # NaN where no field wrote yet; two that ask for the same number agree up to rounding.
    if (np.isfinite(place_Td) & (np.abs(place_Td - values_Td) > 1e-6)).any():
        raise FoundryError(
            f"{quantity} and another quantity are the same columns of '{field.key}', and their targets differ"
        )
    place_Td[:] = values_Td


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
