"""The robot's own side of a policy: observations from what it reports, commands from what is predicted.

Shapes: T steps, H moments, d dims of the dataset's state, A dims of its action, h × w pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.interface import Interface, observed_pixels, observed_state
from robot_foundry.ingest.robot.inverse import source_actions
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.actions import Actions
from robot_foundry.policy.observe import check_parts, latest_state, type_of
from robot_foundry.runtime.errors import FoundryError, nearest

FloatArray = NDArray[np.float64]
PARTS = ("images", "state")


@dataclass(frozen=True)
class RobotSide:
    """The side of a policy that is the robot's own: the one of dataset `name`.

    `made` says how the dataset was made of its source, None where the checkpoint does not; `state` and
    `action` are the dataset's dims, `stream` the actions that the policy learned, `roles` the cameras that it
    looks at.
    """

    name: str
    made: Mapping[str, Any] | None
    state: ActionSpace
    action: ActionSpace
    stream: str
    roles: Collection[str]

    @cached_property
    def interface(self) -> Interface:
        if self.made is None:
            raise FoundryError(
                f"the checkpoint does not say how '{self.name}' was made of its source",
                hint="its version is older, or its spec is not understood any more: ingest it again with a "
                "spec of this release and train on that version",
            )
        return Interface.from_json(self.made, f"of {self.name}")

    def observe(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """What `Policy.act` is shown, of {"images": {camera: pixels}, "state": {key: array}} of the source.

        Pictures of the robot's other cameras are not looked at.
        """
        interface = self.interface
        check_parts(raw)
        for name in raw:
            if name not in PARTS:
                raise FoundryError(
                    f"an observation has no '{name}'{nearest(name, PARTS)}, only {' and '.join(PARTS)}"
                )
        images = {}
        arrays = raw.get("state")
        if arrays is not None and not isinstance(arrays, Mapping):
            raise FoundryError(f"the state is {type_of(arrays)}, not arrays by key")
        for camera, pixels in (raw.get("images") or {}).items():
            role = interface.cameras.get(camera, camera)
            if role in self.roles or camera not in interface.cameras:  # a name that is unknown is refused
                images[role] = observed_pixels(interface, camera, pixels)
        return {"images": images, "state": observed_state(interface, arrays or {}, self.state)}

    def command(
        self,
        actions: Actions | NDArray[np.floating],
        state: Any,
        *,
        stream: str | None = None,
        rest: float | None = None,
    ) -> FloatArray | dict[str, FloatArray]:
        """See `Policy.command`."""
        if isinstance(actions, Actions) and actions.space != self.action:
            raise FoundryError(
                f"the actions are not of '{self.name}': they are {', '.join(actions.space.names)}"
            )
        given = actions.values_TA if isinstance(actions, Actions) else np.asarray(actions, np.float64)
        target_TA = np.atleast_2d(given)
        if target_TA.ndim != 2 or target_TA.shape[1] != len(self.action):
            raise FoundryError(f"targets of shape {given.shape} do not have {len(self.action)} dims")
        state_d = latest_state(state, self.state).astype(np.float64)
        state_Td = estimated_states(state_d, target_TA, self.state, self.action)
        arrays = source_actions(
            self.interface, stream or self.stream, target_TA, state_Td, self.action, self.state, rest=rest
        )
        if given.ndim == 1:
            arrays = {key: values[0] for key, values in arrays.items()}
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
