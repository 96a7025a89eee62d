"""Action representations: absolute targets to and from what a policy predicts.

Targets are absolute: poses in the robot base frame (m, rot6d), joint positions (rad), gripper opening.
The reference is the state at the anchor step, the same for every step of the chunk:

    relative_tool   inv(T_state) @ T_target: seen from the tool itself. A moved base frame changes nothing.
    relative_base   p_target - p_state and R_target @ R_state^T: along and about the axes of the base.
    delta           inv(T_previous) @ T_target, where previous is the step before, and first the state. It is
                    where the stored steps lead: the rounding of one step is made good by the next.
    absolute        as it is.

A pose is `ee_position` with `ee_rot6d` of one part. A part of which the action space has only one of the
two keeps the other as it is in the state; a part with neither is left alone. A part that has no rotation at
all has no axes of a tool: `relative_tool`, the default, is relative_base for it. Joints are absolute unless
the representation says relative joints; then their difference to the state is taken (for `delta`, to the
step before). Gripper, velocities, base and everything else stay absolute.

Shape suffixes: B = any batch axes, T = steps, S = dims of the state, A = dims of the action.
Computed in float64; the result has the floating dtype of the actions given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization import pose
from robot_foundry.normalization.rotation import matrix_to_rot6d, multiply, rot6d_to_matrix
from robot_foundry.normalization.space import QUANTITIES, ActionSpace, Dim
from robot_foundry.runtime.errors import FoundryError, nearest

Array = NDArray[Any]
RelativeKinds = Literal["relative_tool", "relative_base", "absolute", "delta"]
KINDS: tuple[RelativeKinds, ...] = ("relative_tool", "relative_base", "absolute", "delta")
_RELATIVE_JOINTS = "relative_joints"


@dataclass(frozen=True)
class Representation:
    """How poses and joints are represented; written `relative_tool` or `relative_tool+relative_joints`."""

    poses: RelativeKinds = "relative_tool"
    relative_joints: bool = False

    @classmethod
    def parse(cls, text: str | Representation) -> Representation:
        if isinstance(text, Representation):
            return text
        poses, plus, joints = text.partition("+")
        names = [*KINDS, *(f"{kind}+{_RELATIVE_JOINTS}" for kind in KINDS)]
        for kind in KINDS:
            if poses == kind and (not plus or joints == _RELATIVE_JOINTS):
                return cls(kind, bool(plus))
        raise FoundryError(
            f"no action representation '{text}'{nearest(text, names)}",
            hint=f"one of {', '.join(KINDS)}, each with or without +{_RELATIVE_JOINTS}",
        )

    def __str__(self) -> str:
        return f"{self.poses}+{_RELATIVE_JOINTS}" if self.relative_joints else self.poses


def represented(
    action_space: ActionSpace,
    representation: str | Representation,
    state_space: ActionSpace | None = None,
) -> ActionSpace:
    """The action space with each dimension's representation set to what encode() makes of it. Without the
    state's space every part counts as one that has a rotation."""
    wanted = Representation.parse(representation)
    without = () if state_space is None else parts_in_base_axes(state_space, action_space, wanted)

    def of(dim: Dim) -> str:
        if dim.quantity in ("ee_position", "ee_rot6d"):
            return "relative_base" if dim.part in without else wanted.poses
        if dim.quantity == "joint_position" and wanted.relative_joints:
            return "delta" if wanted.poses == "delta" else "relative"
        return "absolute"

    return ActionSpace(replace(dim, representation=of(dim)) for dim in action_space)


def parts_in_base_axes(
    state_space: ActionSpace, action_space: ActionSpace, representation: str | Representation
) -> tuple[str, ...]:
    """Parts of which there is a position and nowhere a rotation, where `relative_tool` is relative_base."""
    if Representation.parse(representation).poses != "relative_tool":
        return ()
    turning = {
        dim.part for space in (state_space, action_space) for dim in space if dim.quantity == "ee_rot6d"
    }
    posed = dict.fromkeys(dim.part for dim in action_space if dim.quantity == "ee_position")
    return tuple(part for part in posed if part not in turning)


def base_axes_note(
    dataset: str,
    state_space: ActionSpace,
    action_space: ActionSpace,
    representation: str | Representation,
) -> list[str]:
    """A line for the user where parts of a dataset have no rotation that `relative_tool` could go by."""
    parts = parts_in_base_axes(state_space, action_space, representation)
    if not parts:
        return []
    return [f"{dataset} has no rotation of {', '.join(parts)}: relative_tool is relative_base there"]


def references(
    state_space: ActionSpace, action_space: ActionSpace, representation: str | Representation
) -> tuple[str, ...]:
    """The dims of the state that actions are relative to: all that encode and decode read of it."""
    wanted = Representation.parse(representation)
    of_parts = [
        columns
        for part in _posed_parts(state_space, action_space, wanted)
        for columns in (part.state_position, part.state_rot6d)
        if columns is not None
    ]
    names = [state_space.names[i] for columns in of_parts for i in columns]
    if wanted.relative_joints:
        names += [dim.name for dim in action_space if dim.quantity == "joint_position"]
    return tuple(names)


def encode(
    state_BS: Array,
    target_BTA: Array,
    state_space: ActionSpace,
    action_space: ActionSpace,
    representation: str | Representation,
) -> Array:
    """Absolute targets (..., T, A) -> actions (..., T, A) in the representation; the state is (..., S).

    Raises FoundryError where the state lacks the reference that a part or a joint needs.
    """
    wanted = Representation.parse(representation)
    action_BTA, target_BTA = _output_of(target_BTA), target_BTA.astype(np.float64, copy=False)
    for part in _posed_parts(state_space, action_space, wanted):
        anchor_B144 = part.anchor(state_BS)
        target_BT44 = part.read(target_BTA, anchor_B144)
        if part.poses == "relative_base":
            part.write(action_BTA, _minus_base(target_BT44, anchor_B144))
        elif part.poses == "delta":
            _write_steps(part, action_BTA, target_BT44, anchor_B144)
        else:
            part.write(action_BTA, pose.relative(anchor_B144, target_BT44))
    if wanted.relative_joints:
        at, reference_B1J = _joint_reference(state_BS, state_space, action_space)
        if wanted.poses == "delta":
            _write_joint_steps(action_BTA, target_BTA, at, reference_B1J)
        else:
            action_BTA[..., at] = target_BTA[..., at] - reference_B1J
    return action_BTA


def decode(
    state_BS: Array,
    action_BTA: Array,
    state_space: ActionSpace,
    action_space: ActionSpace,
    representation: str | Representation,
) -> Array:
    """Actions (..., T, A) in the representation -> absolute targets (..., T, A): the inverse of encode().

    Rotations are made orthonormal on the way (rot6d_to_matrix), so any network output gives a valid pose.
    """
    wanted = Representation.parse(representation)
    target_BTA, action_BTA = _output_of(action_BTA), action_BTA.astype(np.float64, copy=False)
    for part in _posed_parts(state_space, action_space, wanted):
        anchor_B144 = part.anchor(state_BS)
        encoded_BT44 = part.read(action_BTA, np.eye(4))
        if part.poses == "relative_base":
            decoded_BT44 = _plus_base(encoded_BT44, anchor_B144)
        elif part.poses == "delta":
            decoded_BT44 = _accumulate(encoded_BT44, anchor_B144)
        else:
            decoded_BT44 = pose.compose(anchor_B144, encoded_BT44)
        part.write(target_BTA, decoded_BT44)
    if wanted.relative_joints:
        at, reference_B1J = _joint_reference(state_BS, state_space, action_space)
        action_BTJ = action_BTA[..., at]
        if wanted.poses == "delta":
            action_BTJ = np.cumsum(action_BTJ, axis=-2)
        target_BTA[..., at] = action_BTJ + reference_B1J
    return target_BTA


@dataclass(frozen=True)
class _PosedPart:
    """Columns of the pose of one part in the action, and of what it is relative to in the state; `poses` is
    its representation."""

    poses: RelativeKinds
    action_position: NDArray[np.intp] | None
    action_rot6d: NDArray[np.intp] | None
    state_position: NDArray[np.intp] | None
    state_rot6d: NDArray[np.intp] | None

    def anchor(self, state_BS: Array) -> Array:
        state_B1S = state_BS[..., None, :].astype(np.float64, copy=False)
        return _read(state_B1S, self.state_position, self.state_rot6d, np.eye(4))

    def read(self, action_BTA: Array, otherwise_44: Array) -> Array:
        return _read(action_BTA, self.action_position, self.action_rot6d, otherwise_44)

    def write(self, action_BTA: Array, pose_BT44: Array) -> None:
        if self.action_position is not None:
            action_BTA[..., self.action_position] = pose.position(pose_BT44)
        if self.action_rot6d is not None:
            action_BTA[..., self.action_rot6d] = matrix_to_rot6d(pose.rotation(pose_BT44))


def _read(
    values_BTD: Array, position: NDArray[np.intp] | None, rot6d: NDArray[np.intp] | None, otherwise_44: Array
) -> Array:
    return pose.make(
        pose.position(otherwise_44) if position is None else values_BTD[..., position],
        pose.rotation(otherwise_44) if rot6d is None else rot6d_to_matrix(values_BTD[..., rot6d]),
    )


def _posed_parts(
    state_space: ActionSpace, action_space: ActionSpace, wanted: Representation
) -> Iterator[_PosedPart]:
    if wanted.poses == "absolute":
        return
    without = parts_in_base_axes(state_space, action_space, wanted)
    for part in dict.fromkeys(dim.part for dim in action_space):
        action_position = _columns(action_space, part, "ee_position")
        action_rot6d = _columns(action_space, part, "ee_rot6d")
        if action_position is None and action_rot6d is None:
            continue
        state_position = _columns(state_space, part, "ee_position")
        state_rot6d = _columns(state_space, part, "ee_rot6d")
        poses: RelativeKinds = "relative_base" if part in without else wanted.poses
        rotation_needed = action_rot6d is not None or poses != "relative_base"
        for needed, columns, quantity in (
            (action_position is not None, state_position, "ee_position"),
            (rotation_needed, state_rot6d, "ee_rot6d"),
        ):
            if needed and columns is None:
                raise FoundryError(
                    f"'{part}' cannot be made {wanted.poses}: the state has no {part}.{quantity}",
                    hint="choose the representation absolute"
                    + ("" if action_rot6d is not None or quantity == "ee_position" else " or relative_base"),
                )
        yield _PosedPart(
            poses,
            action_position,
            action_rot6d,
            None if action_position is None else state_position,
            state_rot6d if rotation_needed else None,
        )


def _columns(space: ActionSpace, part: str, quantity: str) -> NDArray[np.intp] | None:
    names = [f"{part}.{quantity}.{component}" for component in QUANTITIES[quantity].components or ()]
    present = [name for name in names if name in space]
    if not present:
        return None
    if len(present) < len(names):
        missing = ", ".join(name for name in names if name not in space)
        raise FoundryError(
            f"the space has {', '.join(present)}, not {missing}: a pose needs all of {quantity}"
        )
    return np.array([space.index(name) for name in names], np.intp)


def _joint_reference(
    state_BS: Array, state_space: ActionSpace, action_space: ActionSpace
) -> tuple[list[int], Array]:
    at = [i for i, dim in enumerate(action_space) if dim.quantity == "joint_position"]
    missing = [action_space.dims[i].name for i in at if action_space.dims[i].name not in state_space]
    if missing:
        raise FoundryError(
            f"'{missing[0]}' cannot be made relative: the state has no such joint",
            hint=f"leave +{_RELATIVE_JOINTS} out of the representation",
        )
    columns = [state_space.index(action_space.dims[i].name) for i in at]
    return at, state_BS[..., None, columns].astype(np.float64, copy=False)


def _minus_base(target_BT44: Array, anchor_B144: Array) -> Array:
    """Displacement and turn apart: in a product of the poses the turn would move the position as well."""
    back_B133 = np.swapaxes(pose.rotation(anchor_B144), -1, -2)
    moved_BT3 = pose.position(target_BT44) - pose.position(anchor_B144)
    return pose.make(moved_BT3, multiply(pose.rotation(target_BT44), back_B133))


def _plus_base(encoded_BT44: Array, anchor_B144: Array) -> Array:
    """The inverse of `_minus_base`."""
    moved_BT3 = pose.position(encoded_BT44) + pose.position(anchor_B144)
    return pose.make(moved_BT3, multiply(pose.rotation(encoded_BT44), pose.rotation(anchor_B144)))


def _write_steps(part: _PosedPart, action_BTA: Array, target_BT44: Array, anchor_B144: Array) -> None:
    """Each step from where the steps before it lead as they are stored, so that rounding does not add up."""
    reached_B144 = anchor_B144
    for t in range(target_BT44.shape[-3]):
        step_B1A, target_B144 = action_BTA[..., t : t + 1, :], target_BT44[..., t : t + 1, :, :]
        part.write(step_B1A, pose.relative(reached_B144, target_B144))
        stored_B144 = pose.compose(reached_B144, part.read(step_B1A.astype(np.float64), np.eye(4)))
        is_known_B111 = np.isfinite(stored_B144).all(axis=(-2, -1), keepdims=True)
        reached_B144 = np.where(is_known_B111, stored_B144, target_B144)  # so that what is NaN ends there


def _write_joint_steps(action_BTA: Array, target_BTA: Array, at: list[int], reference_B1J: Array) -> None:
    """As `_write_steps`, of joints."""
    reached_BJ = reference_B1J[..., 0, :]
    for t in range(target_BTA.shape[-2]):
        target_BJ = target_BTA[..., t, at]
        action_BTA[..., t, at] = target_BJ - reached_BJ
        stored_BJ = reached_BJ + action_BTA[..., t, at].astype(np.float64)
        reached_BJ = np.where(np.isfinite(stored_BJ), stored_BJ, target_BJ)


def _accumulate(delta_BT44: Array, anchor_B144: Array) -> Array:
    decoded_BT44 = np.empty_like(delta_BT44)
    previous_B44 = anchor_B144[..., 0, :, :]
    for t in range(delta_BT44.shape[-3]):
        previous_B44 = pose.compose(previous_B44, delta_BT44[..., t, :, :])
        decoded_BT44[..., t, :, :] = previous_B44
    return decoded_BT44


def _output_of(values_BTA: Array) -> Array:
    dtype = values_BTA.dtype if np.issubdtype(values_BTA.dtype, np.floating) else np.dtype(np.float64)
    return values_BTA.astype(dtype, copy=True)
