"""The robot's own side of a policy: observations from what it reports, commands from what is predicted.

Shapes: T steps, H moments, d dims of the dataset's state, A dims of its action, h × w pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.interface import Interface, observed_pixels, observed_state
from robot_foundry.ingest.robot.inverse import source_actions
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.observe import check_parts, kind_of
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.trainer.build import DatasetSpaces

FloatArray = NDArray[np.float64]
PARTS = ("images", "state")


def observation(
    interface: Interface, own: DatasetSpaces, raw: Mapping[str, Any], roles: Collection[str]
) -> dict[str, Any]:
    """What `Policy.act` is shown, of {"images": {camera: pixels}, "state": {key: array}} of the source.

    Pictures of the robot's other cameras are not looked at.
    """
    check_parts(raw)
    for name in raw:
        if name not in PARTS:
            raise FoundryError(
                f"an observation has no '{name}'{nearest(name, PARTS)}, only {' and '.join(PARTS)}"
            )
    images = {}
    arrays = raw.get("state")
    if arrays is not None and not isinstance(arrays, Mapping):
        raise FoundryError(f"the state is {kind_of(arrays)}, not arrays by key")
    for camera, pixels in (raw.get("images") or {}).items():
        role = interface.cameras.get(camera, camera)
        if role in roles or camera not in interface.cameras:  # a name that is unknown is refused
            images[role] = observed_pixels(interface, camera, pixels)
    return {"images": images, "state": observed_state(interface, arrays or {}, own.state)}


def commands(
    interface: Interface,
    own: DatasetSpaces,
    stream: str,
    target_TA: FloatArray,
    state_d: FloatArray,
    rest: float | None,
) -> FloatArray | dict[str, FloatArray]:
    """The arrays of the source that ask for these targets; the one, where the stream is made of one."""
    state_Td = estimated_states(state_d, target_TA, own.state, own.action)
    arrays = source_actions(interface, stream, target_TA, state_Td, own.action, own.state, rest=rest)
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def estimated_states(
    state_d: FloatArray, target_TA: FloatArray, state: ActionSpace, action: ActionSpace
) -> FloatArray:
    """The states [T, d] at the steps of a chunk: first the one measured, then where the step before leads.

    Dims of the state that the action lacks stay as they were measured.
    """
    state_Td = np.repeat(state_d[None], len(target_TA), axis=0)
    for column, name in enumerate(action.names):
        if name in state:
            state_Td[1:, state.index(name)] = target_TA[:-1, column]
    return state_Td


def alike(robot: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two datasets were made of their sources in one way, as far as a robot is concerned."""
    return _decisive(robot) == _decisive(other)


def _decisive(robot: Mapping[str, Any] | None) -> Any:
    if robot is None:
        return None
    content, mapping = robot["spec"]["content"], robot["spec"]["mapping"]
    pixels = {name: content.get(name) for name in ("flip", "channel_order", "resize")}
    numbers = {name: mapping[name] for name in ("tool_frame", "state", "actions")}
    return {**{name: robot[name] for name in ("arrays", "controllers", "cameras")}, **pixels, **numbers}
