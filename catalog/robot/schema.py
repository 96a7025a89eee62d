"""What the columns of a version mean: named dims of state and action streams, cameras, rate.

The names are those of docs/actions.md; what breaks the scheme is refused here, before it is written or mixed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.normalization.space import ActionSpace, Dim, check_embodiment
from robot_foundry.normalization.tool_frame import check_tool_frame
from robot_foundry.runtime.canonical import check_keys
from robot_foundry.runtime.errors import FoundryError, nearest

# Roles that recipes know; another one is a name of its own, in lower-case letters, digits and _.
CAMERA_ROLES = ("primary", "secondary", "tertiary", "wrist_right", "wrist_left", "head", "base")
_WORD = re.compile(r"[a-z0-9][a-z0-9_]*")


@dataclass(frozen=True)
class Camera:
    """`name` is the source's own, `role` (primary, wrist_right, …) is what recipes ask for; sizes in px."""

    name: str
    role: str
    height: int
    width: int
    encoding: str


@dataclass(frozen=True)
class Schema:
    """The dims of `state` and of each action stream, in column order, and what else a robot version holds.

    `fps` is the nominal rate in Hz (None where episodes differ or nobody knows); `tool_frame` names the frame
    of the tool that poses are of: 'canonical', 'unknown', or one of the dataset's own.
    """

    state: tuple[Dim, ...]
    streams: Mapping[str, tuple[Dim, ...]]
    cameras: tuple[Camera, ...] = ()
    embodiment: str = "unknown"
    fps: float | None = None
    tool_frame: str = "unknown"

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", tuple(self.state))
        streams = {name: tuple(self.streams[name]) for name in sorted(self.streams)}
        object.__setattr__(self, "streams", streams)
        object.__setattr__(self, "cameras", tuple(self.cameras))
        roles = [camera.role for camera in self.cameras]
        twice = sorted({role for role in roles if roles.count(role) > 1})
        if twice:
            raise FoundryError(f"two cameras have the role {', '.join(repr(role) for role in twice)}")
        for name in streams:
            if name == "state" or not _WORD.fullmatch(name):
                raise FoundryError(f"'{name}' is no name of an action stream, such as command or next_state")
        for camera in self.cameras:
            if not _WORD.fullmatch(camera.role):
                raise FoundryError(
                    f"camera '{camera.name}': '{camera.role}' is no role such as primary"
                    f"{nearest(camera.role, CAMERA_ROLES)}",
                    hint=f"mapping.cameras of a spec gives it one: {camera.name}: primary",
                )
        check_embodiment(self.embodiment)
        check_tool_frame(self.tool_frame)

    def state_space(self) -> ActionSpace:
        return ActionSpace(self.state)

    @property
    def has_poses(self) -> bool:
        """Whether any pose of a tool is in it, which its tool frame is of."""
        columns = (self.state, *self.streams.values())
        return any(dim.quantity in ("ee_position", "ee_rot6d") for dims in columns for dim in dims)

    def space(self, stream: str) -> ActionSpace:
        """The space of `stream` ('state' or an action stream); an unknown name raises FoundryError."""
        if stream == "state":
            return self.state_space()
        if stream not in self.streams:
            streams = sorted(self.streams)
            raise FoundryError(
                f"there is no action stream '{stream}'{nearest(stream, streams)} "
                f"(streams: {', '.join(streams) or 'none'})"
            )
        return ActionSpace(self.streams[stream])

    def to_json(self) -> dict[str, Any]:
        return {
            "state": ActionSpace(self.state).to_json(),
            "streams": {name: ActionSpace(dims).to_json() for name, dims in self.streams.items()},
            "cameras": [asdict(camera) for camera in self.cameras],
            "embodiment": self.embodiment,
            "fps": None if self.fps is None else float(self.fps),
            "tool_frame": self.tool_frame,
        }

    @classmethod
    def from_json(cls, obj: Mapping[str, Any], where: str = "schema") -> Schema:
        check_keys(obj, ("state", "streams", "cameras", "embodiment", "fps", "tool_frame"), where)
        cameras = []
        for entry in obj["cameras"]:
            check_keys(entry, ("name", "role", "height", "width", "encoding"), f"a camera of {where}")
            cameras.append(Camera(**entry))
        return cls(
            state=tuple(ActionSpace.from_json(obj["state"]).dims),
            streams={name: tuple(ActionSpace.from_json(dims).dims) for name, dims in obj["streams"].items()},
            cameras=tuple(cameras),
            embodiment=obj["embodiment"],
            fps=obj["fps"],
            tool_frame=obj["tool_frame"],
        )


def schema_of(manifest: Manifest) -> Schema:
    """What the columns of a robot version mean; FoundryError if it is a mixture, or of another kind."""
    if isinstance(manifest.schema, Schema):
        return manifest.schema
    is_mixture = manifest.mixture is not None
    what = "is a mixture" if is_mixture else f"holds {manifest.holds.samples}, not robot data"
    raise FoundryError(
        f"'{manifest.dataset}' {what}",
        hint="ask for its components" if is_mixture else f"foundry-data show {manifest.dataset}",
    )
