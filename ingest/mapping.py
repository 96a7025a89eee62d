"""From an episode's untouched source arrays to its canonical rows: float64 inside, float32 out.

Legend: N frames, d columns of one quantity, D dims of the state or of a stream.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.schema import Schema
from robot_foundry.catalog.tables import Flag
from robot_foundry.ingest.osc import target
from robot_foundry.ingest.quantities import GRIPPER, POSITION, ROTATION, canonical_name, kind_of
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.spec import Field, Mapping, Noop
from robot_foundry.normalization import rotation
from robot_foundry.normalization.space import ActionSpace, dims_for

Array = NDArray[np.float64]
# A stored rotation matrix further than this from orthonormal is no rotation.
ORTHONORMAL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Canonical:
    """The rows of one episode. Rows that are flagged invalid hold zeros.

    `state_ND` and `streams` (action stream -> [N, D]) are float32 in the schema's order of dims, `flags_N`
    uint32, `timestamp_N` float64 seconds. `annotations` are (start, end, kind, text, source).
    """

    state_ND: NDArray[np.float32]
    streams: MappingABC[str, NDArray[np.float32]]
    flags_N: NDArray[np.uint32]
    timestamp_N: Array
    success: bool | None
    annotations: tuple[tuple[int, int, str, str, str], ...]


def canonical(
    mapping: Mapping, schema: Schema, episode: MappingABC[str, Any], arrays: MappingABC[str, NDArray[Any]]
) -> Canonical:
    """Canonical rows of the episode with this episode.json and these source arrays; pure.

    Refused if no row of it is valid, or if the mapping does not fit (ingest/resolve.py finds that before).
    """
    # A hostile or broken number becomes a row that is not finite, and is flagged.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _canonical(mapping, schema, episode, arrays)


def _canonical(
    mapping: Mapping, schema: Schema, episode: MappingABC[str, Any], arrays: MappingABC[str, NDArray[Any]]
) -> Canonical:
    num_frames = int(episode["num_frames"])
    state = {name: _absolute(field, name, episode, arrays, None) for name, field in mapping.state.items()}
    actions = {
        stream: {name: _absolute(field, name, episode, arrays, state) for name, field in fields.items()}
        for stream, fields in mapping.actions.items()
    }
    moved = {stream: _at_tool(mapping, values, state) for stream, values in actions.items()}
    state, actions = _at_tool(mapping, state, state), moved
    state_ND, state_valid_N = _rows(state, ActionSpace(schema.state), num_frames)
    flags_N = np.zeros(num_frames, np.uint32)
    flags_N[-1] |= np.uint32(Flag.TERMINAL)
    flags_N[~state_valid_N] |= np.uint32(Flag.INVALID_STATE)
    streams, action_valid_N = {}, np.ones(num_frames, bool)
    for stream, values in actions.items():
        streams[stream], valid_N = _rows(values, ActionSpace(schema.streams[stream]), num_frames)
        action_valid_N &= valid_N
    action_valid_N &= ~_flagged("invalid_action", mapping.invalid_action, arrays, num_frames)
    flags_N[~action_valid_N] |= np.uint32(Flag.INVALID_ACTION)
    if not (state_valid_N & action_valid_N).any():
        raise Refused("no frame of it has a finite state and action")
    flags_N[_idle(state, actions, np.asarray(arrays["timestamp"], np.float64), mapping.noop)] |= np.uint32(
        Flag.NOOP
    )
    intervened_N = _flagged("intervention", mapping.intervention, arrays, num_frames)
    flags_N[intervened_N] |= np.uint32(Flag.INTERVENTION)
    state_ND[~state_valid_N] = 0.0
    for values_ND in streams.values():
        values_ND[~action_valid_N] = 0.0
    return Canonical(
        state_ND,
        streams,
        flags_N,
        np.asarray(arrays["timestamp"], np.float64),
        _success(mapping, episode, arrays),
        _annotations(mapping, episode, num_frames),
    )


def _at_tool(
    mapping: Mapping, values: MappingABC[str, Array], state: MappingABC[str, Array]
) -> dict[str, Array]:
    """Positions and rotations of the canonical tools; a stream without rotations keeps those of the state."""
    moved = dict(values)
    for quantity in values:
        part, _, name = quantity.partition(".")
        frame = mapping.tool_frame_of(part)
        if frame is None:
            continue
        turned_N33 = values.get(f"{part}.ee_rotation", state.get(f"{part}.ee_rotation"))
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
    episode: MappingABC[str, Any],
    arrays: MappingABC[str, NDArray[Any]],
    state: MappingABC[str, Array] | None,
) -> Array:
    """The quantity in absolute terms: position [N, 3], rotation [N, 3, 3], gripper [N, 1], joints [N, d]."""
    kind = kind_of(quantity)
    start = None if state is None else state.get(quantity)
    if field.kind == "next_state":
        assert start is not None
        return np.concatenate([start[1:], start[-1:]])
    assert field.key is not None
    values_Nd = columns(field, arrays[field.key]).astype(np.float64)
    settings = field.parameters
    if field.kind in ("osc", "delta"):
        assert start is not None
        if field.kind == "osc":
            num_columns = arrays[field.key][0].size
            values_Nd, is_delta = target(episode, values_Nd, field.columns, num_columns, start)
            if not is_delta:
                return rotation.axis_angle_to_matrix(values_Nd) if kind == ROTATION else values_Nd
        else:
            clip = settings["clip"]
            values_Nd = values_Nd if clip is None else np.clip(values_Nd, -clip, clip)
            values_Nd = values_Nd * np.asarray(settings["scale"])
            if kind == ROTATION and settings["rotation"] != "axis_angle":
                return rotation.euler_to_matrix(values_Nd, settings["rotation"]) @ start
        # In base axes: robosuite's goal_pos = pos + dpos and goal_rot = R(drot) @ rot.
        return rotation.axis_angle_to_matrix(values_Nd) @ start if kind == ROTATION else start + values_Nd
    if kind == ROTATION:
        return _rotation(field, values_Nd)
    if kind == GRIPPER:
        if field.kind == "fingers":
            values_Nd = values_Nd[:, :1] - values_Nd[:, 1:]
        closed, opened = settings["closed"], settings["open"]
        return np.clip((values_Nd - closed) / (opened - closed), 0.0, 1.0)
    return values_Nd * np.asarray(settings["scale"])


def _rotation(field: Field, values_Nd: Array) -> Array:
    """Rotation matrices [N, 3, 3]; NaN where the source holds no rotation."""
    settings = field.parameters
    if field.kind == "quaternion":
        return rotation.quaternion_to_matrix(values_Nd, order=settings["order"])
    if field.kind == "axis_angle":
        return rotation.axis_angle_to_matrix(values_Nd)
    if field.kind == "euler":
        angles_Nd = np.deg2rad(values_Nd) if settings["degrees"] else values_Nd
        return rotation.euler_to_matrix(angles_Nd, settings["sequence"])
    if field.kind == "rot6d_columns":
        return rotation.rot6d_to_matrix(values_Nd)
    if field.kind == "rot6d_rows":
        return np.swapaxes(rotation.rot6d_to_matrix(values_Nd), -1, -2)
    matrix_N33 = values_Nd.reshape(-1, 3, 3)
    error_N = np.abs(matrix_N33 @ np.swapaxes(matrix_N33, -1, -2) - np.eye(3)).max(axis=(1, 2))
    is_rotation_N = (error_N < ORTHONORMAL_TOLERANCE) & (np.linalg.det(matrix_N33) > 0)
    return np.where(is_rotation_N[:, None, None], matrix_N33, np.nan)


def _rows(
    values: MappingABC[str, Array], space: ActionSpace, num_frames: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows [N, D] of the space, and which of them are finite [N]."""
    rows_ND = np.zeros((num_frames, len(space)), np.float32)
    for quantity, values_Nd in values.items():
        flat_Nd = rotation.matrix_to_rot6d(values_Nd) if kind_of(quantity) == ROTATION else values_Nd
        at = ActionSpace(dims_for(canonical_name(quantity), count=flat_Nd.shape[1])).indices_in(space)
        rows_ND[:, at] = flat_Nd
    return rows_ND, np.asarray(np.isfinite(rows_ND).all(axis=1))


def _flagged(
    name: str,
    rules: Sequence[MappingABC[str, Any]],
    arrays: MappingABC[str, NDArray[Any]],
    num_frames: int,
) -> NDArray[np.bool_]:
    """Frames [N] to which any of the rules applies; an array that is not there says nothing."""
    flagged_N = np.zeros(num_frames, bool)
    for rule in rules:
        values = arrays.get(rule["key"])
        if values is None:
            continue
        if values.size != num_frames:
            raise Refused(f"names '{rule['key']}' in {name}, which has {values.shape} numbers")
        flagged_N |= (values.reshape(-1) != 0) == rule["is"]
    return flagged_N


def _idle(
    state: MappingABC[str, Array],
    actions: MappingABC[str, MappingABC[str, Array]],
    timestamp_N: Array,
    noop: Noop,
) -> NDArray[np.bool_]:
    """Frames [N] after which nothing moves and at which no gripper command changes.

    Of velocities only those of a base count, which may have no pose; forces do not.
    """
    limits = {POSITION: noop.position, ROTATION: noop.rotation, GRIPPER: noop.gripper}
    num_frames = len(next(iter(state.values())))
    idle_N = np.ones(num_frames, bool)
    idle_N[-1] = False
    for quantity, values in state.items():
        kind, dim = kind_of(quantity), dims_for(canonical_name(quantity), count=1)[0]
        is_twist = dim.kind == "base" and dim.unit.endswith("/s")
        if dim.kind in ("velocity", "other"):
            continue
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
            if kind_of(quantity) == GRIPPER:
                idle_N[1:] &= np.abs(np.diff(values[:, 0])) < noop.gripper
    return idle_N


def _annotations(
    mapping: Mapping, episode: MappingABC[str, Any], num_frames: int
) -> tuple[tuple[int, int, str, str, str], ...]:
    """What the source says of spans of frames; the rules are for an instruction where it says none."""
    told = tuple(
        (int(start), min(int(end), num_frames), str(kind), str(text), "steps")
        for start, end, kind, text in episode.get("annotations", ())
    )
    if any(kind == "instruction" for _, _, kind, _, _ in told):
        return told
    instructions = _instructions(mapping, episode, num_frames)
    used = {source for *_, source in instructions}
    return (*instructions, *(entry for entry in told if entry[2] not in used))


def _instructions(
    mapping: Mapping, episode: MappingABC[str, Any], num_frames: int
) -> tuple[tuple[int, int, str, str, str], ...]:
    """By the first rule that gives any: one text over the whole episode, or all that the spans say."""
    for rule in mapping.instruction:
        if "spans" in rule:
            spans = tuple(
                (int(start), min(int(end), num_frames), "instruction", str(text).strip(), str(kind))
                for start, end, kind, text in episode.get("annotations", ())
                if fnmatch.fnmatchcase(str(kind), rule["spans"])
            )
            if spans:
                return spans
            continue
        if "attr" in rule:
            text, source = episode["attributes"].get(rule["attr"]), f"attr:{rule['attr']}"
        elif "by_env" in rule:
            environment = episode["environment"].get("env_name")
            text, source = rule["by_env"].get(str(environment)), f"env:{environment}"
        else:
            text, source = rule["text"], "spec"
        if isinstance(text, str) and text.strip():
            return ((0, num_frames, "instruction", text.strip(), source),)
    return ()


def _success(
    mapping: Mapping, episode: MappingABC[str, Any], arrays: MappingABC[str, NDArray[Any]]
) -> bool | None:
    """By the first rule that the episode has data for; None if there is none."""
    for rule in mapping.success:
        if "attr" in rule:
            value = episode["attributes"].get(rule["attr"])
            if "failure" in rule:
                if isinstance(value, str) and (rule["success"] in value) != (rule["failure"] in value):
                    return rule["success"] in value
            elif isinstance(value, bool | int | float):
                return bool(value)
        elif rule["key"] in arrays and arrays[rule["key"]].size:
            return bool(np.nanmax(arrays[rule["key"]]) >= rule["at_least"])
    return None
