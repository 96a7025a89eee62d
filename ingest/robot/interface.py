"""What a robot itself takes and shows: how its own numbers and pictures became those of a dataset.

It follows from the manifest of a version and goes into checkpoints, so that a policy can be asked with what
the robot reports (`observed_state`, `observed_pixels`) and its answers be told to it: `ingest.robot.inverse`.

Legend: N moments, D dims of the state; H W pixels, C their colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.ingest.robot.content.pictures import pixel_options, resized, turned
from robot_foundry.ingest.robot.dims import places_in
from robot_foundry.ingest.robot.mapping import state_rows
from robot_foundry.ingest.robot.robosuite.osc import Controller
from robot_foundry.ingest.robot.spec.spec import Field, MappingSpec, Spec
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.normalization.tool_frame import UNKNOWN
from robot_foundry.runtime.errors import FoundryError, nearest

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Interface:
    """How one dataset was made of its source; `spec` names no quantities but those that its version has.

    `arrays` are the shapes of a row of each array that the spec names, and `controllers`, by
    "<stream> <quantity>", those of its fields `from: osc`: one each where all episodes agree. `cameras` maps
    the source's cameras to roles.
    """

    spec: Spec
    arrays: Mapping[str, tuple[Shape, ...]]
    controllers: Mapping[str, tuple[Controller, ...]]
    cameras: Mapping[str, str]

    @property
    def mapping(self) -> MappingSpec:
        return self.spec.mapping

    def row_shape(self, key: str) -> Shape:
        """The shape of one row of an array. FoundryError where the episodes have unlike ones."""
        shapes = self.arrays[key]
        if len(shapes) != 1:
            listed = " and ".join(map(str, map(list, shapes)))
            raise FoundryError(f"the rows of '{key}' have the shapes {listed}, so the robot's own is unknown")
        return shapes[0]

    def controller(self, stream: str, quantity: str) -> Controller:
        """The controller of a field `from: osc`. FoundryError where the episodes had unlike ones."""
        controllers = self.controllers[f"{stream} {quantity}"]
        if len(controllers) != 1:
            raise FoundryError(
                f"the episodes have {len(controllers)} unlike controllers of {quantity}, "
                "so the robot's is unknown"
            )
        return controllers[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "arrays": {key: [list(shape) for shape in shapes] for key, shapes in self.arrays.items()},
            "controllers": {
                name: [controller.to_json() for controller in controllers]
                for name, controllers in self.controllers.items()
            },
            "cameras": dict(self.cameras),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> Interface:
        """From `to_json`. FoundryError for a spec that is not understood."""
        return cls(
            spec_from_json(values["spec"], where, is_cut=True),
            _arrays(values["arrays"]),
            _controllers(values["controllers"]),
            dict(values["cameras"]),
        )


def interface_of(manifest: Manifest) -> Interface | None:
    """How this version was made; None where its manifest does not say, or in a spec of another release."""
    provenance, schema = manifest.provenance, manifest.schema
    if not isinstance(schema, Schema) or not {"spec", "arrays", "controllers"} <= provenance.keys():
        return None
    try:
        spec = spec_from_json(provenance["spec"], f"of {manifest.dataset}")
        if spec.mapping.others is not None:  # what it became by what the source says of its columns
            stated = {**provenance["spec"], "mapping": provenance["mapping"]}
            spec = spec_from_json(stated, f"of {manifest.dataset}")
    except FoundryError:
        return None
    names = {stored: source for source, stored in spec.content.rename.items()}
    return Interface(
        replace(spec, forms=(), locations=(), mapping=_used(spec.mapping, schema)),
        _arrays(provenance["arrays"]),
        _controllers(provenance["controllers"]),
        {names.get(camera.name, camera.name): camera.role for camera in schema.cameras},
    )


def _arrays(values: Mapping[str, Any]) -> dict[str, tuple[Shape, ...]]:
    return {key: tuple(map(tuple, shapes)) for key, shapes in values.items()}


def _controllers(values: Mapping[str, Any]) -> dict[str, tuple[Controller, ...]]:
    return {name: tuple(map(Controller.from_json, controllers)) for name, controllers in values.items()}


def _used(mapping: MappingSpec, schema: Schema) -> MappingSpec:
    """The mapping without the optional quantities that the version lacks, and frames of parts without any."""
    actions = {name: _fields(fields, schema.space(name)) for name, fields in mapping.actions.items()
               if name in schema.streams}  # fmt: skip
    state, frames = _fields(mapping.state, schema.state_space()), mapping.tool_frame
    if isinstance(frames, Mapping):
        parts = {name.partition(".")[0] for fields in (state, *actions.values()) for name in fields}
        frames = {part: frame for part, frame in frames.items() if part in parts} or UNKNOWN
    return replace(mapping, tool_frame=frames, state=state, actions=actions)


def _fields(fields: Mapping[str, Field], space: ActionSpace) -> dict[str, Field]:
    return {quantity: field for quantity, field in fields.items() if places_in(space, quantity, field)}


def observed_state(
    interface: Interface, arrays: Mapping[str, Any], space: ActionSpace
) -> NDArray[np.float32]:
    """The canonical state [D], or [N, D] of N moments, from the source's own arrays by key.

    Each has the shape of one row of the source, or [N, …]. FoundryError for an array that the spec does not
    name, with the nearest, for one that is missing, and for a wrong shape; NaN says that a number is unknown.
    """
    keys = list(dict.fromkeys(str(field.key) for field in interface.mapping.state.values()))
    for key in arrays:
        if key not in keys:
            raise FoundryError(
                f"the state is not made of '{key}'{nearest(key, keys)} (arrays: {', '.join(keys)})"
            )
    missing = [key for key in keys if key not in arrays]
    if missing:
        raise FoundryError(
            f"the observed state lacks the arrays {', '.join(missing)}",
            hint="fill with NaN what is not known",
        )
    rows = {key: _moments(key, np.asarray(arrays[key]), interface.arrays[key]) for key in keys}
    counts = {key: len(values) for key, (values, _) in rows.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{key}: {count}" for key, count in counts.items())
        raise FoundryError(f"the arrays of the observed state have unlike numbers of moments ({listed})")
    state_ND = state_rows(interface.mapping, space, {key: values for key, (values, _) in rows.items()})
    return state_ND[0] if all(is_one for _, is_one in rows.values()) else state_ND


def _moments(key: str, values: NDArray[Any], shapes: tuple[Shape, ...]) -> tuple[NDArray[Any], bool]:
    """The rows [N, …] of an array, and whether it was one row without an axis of moments."""
    if values.dtype.kind not in "biuf":
        raise FoundryError(f"the array '{key}' holds {values.dtype}, not numbers")
    if values.shape in shapes:
        return values[None], True
    if values.ndim and values.shape[1:] in shapes and len(values):
        return values, False
    listed = " or ".join(f"{list(shape)}" for shape in shapes)
    raise FoundryError(f"the array '{key}' has the shape {list(values.shape)}, and a row of it has {listed}")


def observed_pixels(interface: Interface, camera: str, pixels: Any) -> NDArray[np.uint8]:
    """A picture [H, W, C], or several [N, H, W, C], of a camera of the source, as the dataset stores them.

    It is flipped, its channels ordered and resized as `content` of the spec says. FoundryError for a camera
    that the dataset does not have, with the nearest, and for what is not uint8 with three channels.
    """
    if camera not in interface.cameras:
        listed = ", ".join(interface.cameras) or "none"
        raise FoundryError(
            f"the robot has no camera '{camera}'{nearest(camera, interface.cameras)} (cameras: {listed})"
        )
    given = np.asarray(pixels)
    if given.dtype != np.uint8 or given.ndim not in (3, 4) or given.shape[-1] != 3:
        raise FoundryError(
            f"the picture of '{camera}' is {given.dtype} {list(given.shape)}, not uint8 [height, width, 3]"
        )
    content = interface.spec.content
    flip, is_bgr = pixel_options(content, camera)
    made = [
        resized(turned(one_HWC, flip, is_bgr), content.resize)
        for one_HWC in given.reshape(-1, *given.shape[-3:])
    ]
    return np.stack(made).reshape(*given.shape[:-3], *made[0].shape)
