"""From an episode's untouched source arrays to its canonical rows: float64 inside, float32 out.

Legend: N frames, d columns of one quantity, D dims of the state or of a stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.robot.absence.notes import Notes
from robot_foundry.ingest.robot.conversions import MAJORS, Array, Clip, Given
from robot_foundry.ingest.robot.dims import dims_of
from robot_foundry.ingest.robot.forms import form_of
from robot_foundry.ingest.robot.labels import annotations_of, success_of
from robot_foundry.ingest.robot.robosuite.osc import PlacedCommands, check_displacement, controller
from robot_foundry.ingest.robot.spec.quantities import (
    GRIPPER,
    OWN,
    POSITION,
    ROTATION,
    quantity_kind,
)
from robot_foundry.ingest.robot.spec.spec import Field, MappingSpec
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.normalization import rotation
from robot_foundry.normalization.space import ActionSpace


@dataclass(frozen=True)
class Canonical:
    """The rows of one episode. Rows that are flagged invalid hold zeros.

    `state_ND` and `streams` (action stream -> [N, D]) are float32 in the schema's order of dims, `flags_N`
    uint32, `timestamp_N` float64 seconds. `annotations` are (start, end, kind, text, source). `notes` are of
    what could not be read, and of numbers beyond their limits.
    """

    state_ND: NDArray[np.float32]
    streams: Mapping[str, NDArray[np.float32]]
    flags_N: NDArray[np.uint32]
    timestamp_N: Array
    success: bool | None
    annotations: tuple[tuple[int, int, str, str, str], ...]
    notes: Notes


def canonical(
    mapping: MappingSpec, schema: Schema, episode: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Canonical:
    """Canonical rows of the episode with this episode.json and these source arrays; pure.

    Refused if no row of it is valid, or if the mapping does not fit (`ingest.robot.resolve` finds it before).
    """
    # A hostile or broken number becomes a row that is not finite, and is flagged.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _canonical(mapping, schema, episode, arrays)


def _canonical(
    mapping: MappingSpec, schema: Schema, episode: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Canonical:
    num_frames, notes = int(episode["num_frames"]), Notes()

    def absolute(where: str, fields: Mapping[str, Field], state: Mapping[str, Array] | None) -> Any:
        return {
            name: _absolute(
                field, name, episode, arrays, state,
                partial(notes.clipped, f"{where} {name}"), _as_targets(where, fields, name),
            )
            for name, field in fields.items()
        }  # fmt: skip

    # With the row after the last frame, where the source has one, for that is what `next_state` of the last
    # frame reaches; then of the frames alone.
    reached = absolute("state", mapping.state, None)
    actions = {
        stream: absolute(f"action.{stream}", fields, reached) for stream, fields in mapping.actions.items()
    }
    state = {name: values[:num_frames] for name, values in reached.items()}
    # Commands displace the tool that the source has, so only what they ask for moves to the canonical one.
    moved = {stream: _at_tool(mapping, values, state) for stream, values in actions.items()}
    state, actions = _at_tool(mapping, state, state), moved
    state_ND, state_valid_N = _rows(state, mapping.state, ActionSpace(schema.state), num_frames)
    flags_N = np.zeros(num_frames, np.uint32)
    flags_N[-1] |= np.uint32(Flag.TERMINAL)
    flags_N[~state_valid_N] |= np.uint32(Flag.INVALID_STATE)
    # One flag for all streams: a frame counts with every target or with none.
    streams, action_valid_N = {}, np.ones(num_frames, bool)
    for stream, values in actions.items():
        fields, space = mapping.actions[stream], ActionSpace(schema.streams[stream])
        streams[stream], valid_N = _rows(values, fields, space, num_frames)
        action_valid_N &= valid_N
    action_valid_N &= ~_flagged("invalid_action", mapping.invalid_action, episode, arrays, notes)
    flags_N[~action_valid_N] |= np.uint32(Flag.INVALID_ACTION)
    if not (state_valid_N & action_valid_N).any():
        raise Refused(f"no frame of it has a finite state and action{_transposed(mapping, arrays)}")
    idle_N = _idle(state, actions, mapping, np.asarray(arrays["timestamp"], np.float64))
    flags_N[idle_N] |= np.uint32(Flag.NOOP)
    intervened_N = _flagged("intervention", mapping.intervention, episode, arrays, notes)
    flags_N[intervened_N] |= np.uint32(Flag.INTERVENTION)
    state_ND[~state_valid_N] = 0.0
    for values_ND in streams.values():
        values_ND[~action_valid_N] = 0.0
    return Canonical(
        state_ND,
        streams,
        flags_N,
        np.asarray(arrays["timestamp"], np.float64),
        success_of(mapping, episode, arrays, notes),
        annotations_of(mapping, episode, arrays, notes),
        notes,
    )


def _transposed(mapping: MappingSpec, arrays: Mapping[str, NDArray[Any]]) -> str:
    """': …' of a pose of the state that is one with the other numbers of its matrix side by side, else
    nothing."""
    for name, field in mapping.state.items():
        major = field.parameters.get("major")
        if field.key is None or major is None:
            continue
        values_Nd = columns(field, arrays[field.key]).astype(np.float64)
        other = next(each for each in MAJORS if each != major)
        read = form_of(name, field).to_canonical(values_Nd, Given({**field.parameters, "major": other}))
        if np.isfinite(read).all(axis=(1, 2)).any():
            return (
                f": {name} is read rows for columns, and its matrices are poses only with "
                f"mapping.state.{name}.major={other}"
            )
    return ""


def state_rows(
    mapping: MappingSpec, space: ActionSpace, arrays: Mapping[str, NDArray[Any]]
) -> NDArray[np.float32]:
    """The canonical state [N, D] of N moments from the source's arrays; NaN where these are not known."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        episode = {"num_frames": len(next(iter(arrays.values())))}
        state = {
            name: _absolute(field, name, episode, arrays, None, np.clip)
            for name, field in mapping.state.items()
        }
        return _rows(_at_tool(mapping, state, state), mapping.state, space, episode["num_frames"])[0]


def _at_tool(
    mapping: MappingSpec, values: Mapping[str, Array], state: Mapping[str, Array]
) -> dict[str, Array]:
    """Positions and rotations of the canonical tools; a stream without rotations keeps those of the state."""
    moved = dict(values)
    for quantity in values:
        part, _, name = quantity.partition(".")
        frame = mapping.tool_frame_of(part)
        if frame is None:
            continue
        turned_N33 = values.get(f"{part}.ee_rotation", state.get(f"{part}.ee_rotation"))
        # tool = flange @ pose: the tool's offset is in the flange's axes, so the flange's rotation turns it.
        if name == "ee_rotation":
            moved[quantity] = values[quantity] @ frame.pose[:3, :3]
        elif name == "ee_position" and turned_N33 is not None:
            moved[quantity] = values[quantity] + turned_N33 @ frame.pose[:3, 3]
    return moved


def columns(field: Field, array: NDArray[Any]) -> NDArray[Any]:
    """The field's columns [N, d]; further axes of the array are flattened, row by row."""
    rows_ND = array.reshape(len(array), -1)
    return rows_ND if field.columns is None else rows_ND[:, slice(*field.columns)]


def _absolute(
    field: Field,
    quantity: str,
    episode: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    state: Mapping[str, Array] | None,
    clip: Clip,
    as_targets: Sequence[str] = (),
) -> Array:
    """The quantity in absolute terms: position [N, 3], rotation [N, 3, 3], gripper [N, 1], joints [N, d].

    Of the state (`state` None) one row more, [N + 1, …], where the source tells what came after.
    """
    form, num_frames = form_of(quantity, field), int(episode["num_frames"])
    start = None if state is None else state.get(quantity)
    if field.key is None:
        assert start is not None
        return form.to_canonical(start, Given(field.parameters))[:num_frames]
    values_Nd = columns(field, arrays[field.key]).astype(np.float64)
    if state is not None:
        values_Nd, start = values_Nd[:num_frames], None if start is None else start[:num_frames]
    # Infinity must not become a limit, nor the end of a rotation, in what follows.
    values_Nd = np.where(np.isfinite(values_Nd), values_Nd, np.nan)
    commands = None
    if form.needs_controller:
        num_columns = arrays[field.key][0].size
        first = field.columns_of(num_columns).start
        commands = PlacedCommands(controller(episode, first, values_Nd.shape[1], num_columns), first)
        if commands.is_delta:
            assert start is not None
            check_displacement(values_Nd, start, as_targets)
    return form.to_canonical(values_Nd, Given(field.parameters, start, clip, commands))


def _as_targets(where: str, fields: Mapping[str, Field], quantity: str) -> list[str]:
    """The overrides that read the pose of this arm in this stream as absolute, if a controller takes it."""
    part, stream = quantity.partition(".")[0], where.removeprefix("action.")
    return [
        f"mapping.actions.{stream}.{name}.from={form_of(name, field).as_target}"
        for name, field in fields.items()
        if form_of(name, field).needs_controller and name.partition(".")[0] == part
    ]


def _rows(
    values: Mapping[str, Array], fields: Mapping[str, Field], space: ActionSpace, num_frames: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows [N, D] of the space, and which of them are finite [N]."""
    rows_ND = np.zeros((num_frames, len(space)), np.float32)
    for quantity, values_Nd in values.items():
        flat_Nd = rotation.matrix_to_rot6d(values_Nd) if quantity_kind(quantity) == ROTATION else values_Nd
        # By name, so that the order of a spec's fields makes no other rows.
        at = ActionSpace(dims_of(quantity, fields[quantity], flat_Nd.shape[1])).indices_in(space)
        rows_ND[:, at] = flat_Nd
    return rows_ND, np.asarray(np.isfinite(rows_ND).all(axis=1))


def _flagged(
    name: str,
    rules: Sequence[Mapping[str, Any]],
    episode: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    notes: Notes,
) -> NDArray[np.bool_]:
    """Frames [N] to which any of the rules applies; an array that is not there, or is NaN, says nothing."""
    num_frames = int(episode["num_frames"])
    flagged_N = np.zeros(num_frames, bool)
    for rule in rules:
        values = arrays.get(rule["key"])
        if values is None:
            continue
        if values.shape[:1] == (num_frames + 1,) and episode.get("extra_row"):
            values = values[:num_frames]
        if values.size != num_frames:
            raise Refused(f"names '{rule['key']}' in {name}, which has {values.shape} numbers")
        values_N = values.reshape(-1)
        is_number_N = ~np.isnan(values_N)
        if not is_number_N.all():
            notes.say(f"'{rule['key']}' in {name} holds NaN, which flags no frame")
        applies_N = values_N == rule["equals"] if "equals" in rule else (values_N != 0) == rule["is"]
        flagged_N |= is_number_N & applies_N
    return flagged_N


def _idle(
    state: Mapping[str, Array],
    actions: Mapping[str, Mapping[str, Array]],
    mapping: MappingSpec,
    timestamp_N: Array,
) -> NDArray[np.bool_]:
    """Frames [N] after which nothing moves and at which no gripper command changes.

    Of velocities only those of a base count, which may have no pose; forces do not. Where nobody says what
    numbers are, none of them may change at all.
    """
    noop = mapping.noop
    limits = {POSITION: noop.position, ROTATION: noop.rotation, GRIPPER: noop.gripper}
    num_frames = len(next(iter(state.values())))
    idle_N = np.ones(num_frames, bool)
    idle_N[-1] = False  # nothing tells what comes after it
    for quantity, values in state.items():
        kind, dim = quantity_kind(quantity), dims_of(quantity, mapping.state[quantity], 1)[0]
        is_twist = dim.kind == "base" and dim.unit.endswith("/s")
        if kind == OWN:
            idle_N[:-1] &= (np.diff(values, axis=0) == 0).all(axis=1)
            continue
        if dim.kind in ("velocity", "other"):
            continue
        # Compared with the next row; a base without a pose by how far its speed takes it until then.
        if is_twist:
            moved_N = np.abs(values[:-1]).max(axis=1) * np.diff(timestamp_N)
        elif kind == ROTATION:
            turned_N33 = values[1:] @ np.swapaxes(values[:-1], -1, -2)
            moved_N = np.linalg.norm(rotation.matrix_to_axis_angle(turned_N33), axis=-1)
        else:
            moved_N = np.abs(np.diff(values, axis=0)).max(axis=1)
        idle_N[:-1] &= moved_N < limits.get(str(kind), noop.joint)
    for values_by_quantity in actions.values():
        for quantity, values in values_by_quantity.items():
            if quantity_kind(quantity) == GRIPPER:
                idle_N[1:] &= np.abs(np.diff(values[:, 0])) < noop.gripper
            elif quantity_kind(quantity) == OWN:
                idle_N[1:] &= (np.diff(values, axis=0) == 0).all(axis=1)
    return idle_N
