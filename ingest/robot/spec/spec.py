"""What a spec of robot data says beside the source: `content`, what goes into the tars, and `mapping`, how
canonical tables follow. docs/specs.md lists every key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from robot_foundry.ingest.spec.about import About
from robot_foundry.normalization.tool_frame import UNKNOWN, ToolFrame
from robot_foundry.shards.robot.names import CAMERA

# (start, stop) or (start, stop, step) as in a Python slice.
Columns = tuple[int, int | None] | tuple[int, int | None, int]
# The key of an option of cameras that is for all that have none of their own.
ALL_CAMERAS = "*"


@dataclass(frozen=True)
class Encoding:
    """How frames that are not compressed in the source are stored; `quality` is JPEG's 1…100."""

    format: str = "jpeg"
    quality: int = 95


class LayoutOptions(Protocol):
    """What one layout alone understands of a spec, in the section of its name (`section`) of `content`."""

    section: ClassVar[str]

    @property
    def arrays(self) -> frozenset[str]:
        """Names of the arrays that they read, beside those of the mapping."""
        ...

    @property
    def image_patterns(self) -> tuple[tuple[str, str], ...]:
        """Shell patterns of image arrays, each with the key of the spec that has it."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Every key of the section with its value."""
        ...


@dataclass(frozen=True)
class PixelSetting:
    """What an array of pictures holds where its header and numbers do not tell, or tell wrongly.

    `axes` are HWC, CHW or HW; None: by the shape. `black_white` are the numbers of black and of white.
    """

    axes: str | None = None
    black_white: tuple[float, float] | None = None


@dataclass(frozen=True)
class Content:
    """What goes into the tars.

    `cameras` are source camera names, None for all. `resize` is (height, width) in px. `flip` (none,
    vertical, horizontal, both) and `channel_order` (rgb, bgr) of the source's pixels are by source camera
    name, `rename` gives those names that are stored. `pixels` are by shell pattern of arrays. `skip` are
    shell patterns of arrays to leave out. `extra_row` says what the last row of an array with one more than
    frames is (next_state); None: such arrays are refused. `options` are those of the layout alone. `fps`
    overrides the source's rate in Hz; `default_fps` is used where the source has none. `shard_bytes` is the
    size that the planner aims at.
    """

    cameras: tuple[str, ...] | None = None
    encoding: Encoding = Encoding()
    resize: tuple[int, int] | None = None
    flip: Mapping[str, str] = field(default_factory=dict)
    channel_order: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    pixels: Mapping[str, PixelSetting] = field(default_factory=dict)
    extra_row: str | None = None
    options: LayoutOptions | None = None
    skip: tuple[str, ...] = ()
    fps: float | None = None
    default_fps: float = 20.0
    shard_bytes: int = 256 * 1024 * 1024

    @property
    def changes_pixels(self) -> bool:
        """Whether images of any camera are changed, and so encoded anew."""
        is_flipped = any(flip != "none" for flip in self.flip.values())
        return self.resize is not None or is_flipped or "bgr" in self.channel_order.values()


@dataclass(frozen=True)
class Field:
    """Where the numbers of one quantity are and what they mean.

    `kind` is the YAML key `from`; `columns` are a slice of the array's columns;
    `unit` is that of a joint's numbers once they are scaled, or of each, None that of joints that turn.
    `names` are those of the components of a quantity beyond the scheme, None for one of the scheme.
    The other values belong to some kinds only (ingest/robot/forms.py says which).
    """

    kind: str
    key: str | None = None
    columns: Columns | None = None
    optional: bool = False
    unit: str | tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def columns_of(self, num_columns: int) -> range:
        """The columns that it takes of an array of so many."""
        return range(num_columns)[slice(*(self.columns or (0, None)))]


@dataclass(frozen=True)
class Noop:
    """A frame is idle when the next state is nearer than all of these (m, rad, 0…1, rad)."""

    position: float = 1e-4
    rotation: float = 1e-3
    gripper: float = 1e-3
    joint: float = 1e-3


@dataclass(frozen=True)
class MappingSpec:
    """How canonical tables follow from the source arrays.

    `embodiment` may name an attribute of the episode (`embodiment_attr`) that overrides it. `tool_frame` is a
    name, or says where the canonical tool lies in the source's, for all parts or by part: then poses are
    moved to it. `cameras` maps names to roles. `instruction` and `success` are rules, of which the first that
    applies counts; an action is invalid where any of the rules `invalid_action` applies, and a person
    intervened where any of `intervention` does. `state` maps quantities such as `right.ee_position` to
    fields, `actions` streams to such maps. `others` (named) says that columns of which the source tells names
    and no field takes are quantities of these names; None: they stay in the source arrays.
    """

    embodiment: str
    embodiment_attr: str | None = None
    tool_frame: str | ToolFrame | Mapping[str, ToolFrame] = UNKNOWN
    cameras: Mapping[str, str] = field(default_factory=dict)
    instruction: tuple[Mapping[str, Any], ...] = ()
    success: tuple[Mapping[str, Any], ...] = ()
    invalid_action: tuple[Mapping[str, Any], ...] = ()
    intervention: tuple[Mapping[str, Any], ...] = ()
    state: Mapping[str, Field] = field(default_factory=dict)
    actions: Mapping[str, Mapping[str, Field]] = field(default_factory=dict)
    others: str | None = None
    noop: Noop = Noop()

    def tool_frame_of(self, part: str) -> ToolFrame | None:
        """Where the canonical tool of a part lies in the source's; None where its poses stay as they are."""
        if isinstance(self.tool_frame, Mapping):
            return self.tool_frame.get(part)
        return self.tool_frame if isinstance(self.tool_frame, ToolFrame) else None


@dataclass(frozen=True)
class Spec:
    """`layout` names the reader of the source (ingest/sources).

    `forms` are other specs for the same dataset in another layout, by name or path; `locations` are where the
    dataset may lie, with `$NAME` for environment variables. `overrides` were applied and are for forms too.
    `about` is what is published of the dataset, and changes nothing of what is read.
    """

    name: str
    layout: str
    content: Content
    mapping: MappingSpec
    forms: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    overrides: tuple[str, ...] = field(default=(), compare=False)
    about: About | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Every key with its value; `read_spec` reads it back."""
        optional = {"forms": list(self.forms), "locations": list(self.locations)}
        return {
            "name": self.name,
            "layout": self.layout,
            **{name: entries for name, entries in optional.items() if entries},
            "content": content_json(self.content),
            "mapping": mapping_json(self.mapping),
        }


def content_json(content: Content) -> dict[str, Any]:
    """Every key with its value; options that came later only where they are used, so that keys last."""
    optional = {
        "flip": _by_camera_json(content.flip),
        "channel_order": _by_camera_json(content.channel_order),
        "rename": dict(content.rename),
        "pixels": {pattern: _pixels_json(setting) for pattern, setting in content.pixels.items()},
        "extra_row": content.extra_row,
        **({} if content.options is None else {content.options.section: content.options.to_json()}),
    }
    return {
        "cameras": "all" if content.cameras is None else list(content.cameras),
        "encoding": {"format": content.encoding.format, "quality": content.encoding.quality},
        "resize": None if content.resize is None else list(content.resize),
        "skip": list(content.skip),
        "fps": content.fps,
        "default_fps": content.default_fps,
        "shard_bytes": content.shard_bytes,
        **{name: value for name, value in optional.items() if value},
    }


def _by_camera_json(values: Mapping[str, str]) -> str | dict[str, str]:
    return values[ALL_CAMERAS] if set(values) == {ALL_CAMERAS} else dict(values)


def _pixels_json(setting: PixelSetting) -> dict[str, Any]:
    values = {} if setting.axes is None else {"axes": setting.axes}
    return values if setting.black_white is None else {**values, "range": list(setting.black_white)}


def mapping_json(mapping: MappingSpec) -> dict[str, Any]:
    embodiment: Any = mapping.embodiment
    if mapping.embodiment_attr is not None:
        embodiment = {"attr": mapping.embodiment_attr, "default": mapping.embodiment}
    noop = mapping.noop
    optional = {
        "invalid_action": [dict(rule) for rule in mapping.invalid_action],
        "intervention": [dict(rule) for rule in mapping.intervention],
        "others": mapping.others,
    }
    return {
        "embodiment": embodiment,
        "tool_frame": _tool_frame_json(mapping.tool_frame),
        "cameras": dict(mapping.cameras),
        "instruction": [dict(rule) for rule in mapping.instruction],
        "success": [dict(rule) for rule in mapping.success],
        **{name: value for name, value in optional.items() if value},
        "state": {name: _field_json(value) for name, value in mapping.state.items()},
        "actions": {
            stream: {name: _field_json(value) for name, value in fields.items()}
            for stream, fields in mapping.actions.items()
        },
        "noop": {
            "position": noop.position,
            "rotation": noop.rotation,
            "gripper": noop.gripper,
            "joint": noop.joint,
        },
    }


def _tool_frame_json(frame: str | ToolFrame | Mapping[str, ToolFrame]) -> Any:
    if isinstance(frame, Mapping):
        return {part: of_part.to_json() for part, of_part in frame.items()}
    return frame.to_json() if isinstance(frame, ToolFrame) else frame


def _field_json(value: Field) -> dict[str, Any]:
    entries: dict[str, Any] = {"from": value.kind}
    if value.key is not None:
        entries["key"] = value.key
    if value.columns is not None:
        entries["columns"] = list(value.columns)
    if value.optional:
        entries["optional"] = True
    if value.unit is not None:
        entries["unit"] = list(value.unit) if isinstance(value.unit, tuple) else value.unit
    if value.names is not None:
        entries["names"] = list(value.names)
    for name, parameter in value.parameters.items():
        entries[name] = list(parameter) if isinstance(parameter, tuple) else parameter
    return entries


def camera_name(value: Any) -> str:
    """A check for `ingest.spec.section.Section.take`: the name of a camera as tars have it."""
    if not isinstance(value, str) or not re.fullmatch(CAMERA, value):
        raise ValueError(f"{value!r} is not a camera name: use 1 to 40 of the characters a-z, 0-9 and '_'")
    return value
