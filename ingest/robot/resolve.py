"""Fit a mapping to the episodes that there are: the schema, what does not fit, and what is left out.

It works on surveys (episode.json and the shapes of the source arrays), so it reads no numbers and no image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from robot_foundry.catalog.robot.schema import Camera, Schema
from robot_foundry.ingest.robot.absence.expectations import contradictions, controller_problems
from robot_foundry.ingest.robot.absence.holdings import all_fields
from robot_foundry.ingest.robot.absence.notes import of_arrays
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.dims import dims_of
from robot_foundry.ingest.robot.forms import form_of, width_of
from robot_foundry.ingest.robot.robosuite.osc import Controller, controller
from robot_foundry.ingest.robot.spec.quantities import JOINT, quantity_kind
from robot_foundry.ingest.robot.spec.spec import Field, MappingSpec
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.lengths import extra_row_hint
from robot_foundry.normalization.space import ActionSpace, Dim, check_embodiment
from robot_foundry.normalization.tool_frame import CANONICAL
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.runtime.overrides import set_option


@dataclass(frozen=True)
class Resolution:
    """`mapping` is without the optional fields that are left out; `problems` maps episode keys to reasons.

    `arrays` are the shapes of a row of each source array that the mapping names, and `controllers`, by
    "<stream> <quantity>", those of the fields `from: osc`, of episodes without problems: one where all agree.
    """

    mapping: MappingSpec
    schema: Schema
    problems: Mapping[str, str]
    warnings: tuple[str, ...]
    arrays: Mapping[str, tuple[tuple[int, ...], ...]]
    controllers: Mapping[str, tuple[Mapping[str, Any], ...]]


class _Absent(Exception):
    """The source has no such array or column."""


def resolve(mapping: MappingSpec, episodes: Iterable[Surveyed]) -> Resolution:
    """The schema of these episodes under this mapping. Depends on the set of episodes and their order alone.

    An optional quantity that some episode lacks is left out for all, because a version has one schema. Where
    joints differ in number or the embodiment differs, the first episode that fits decides.
    """
    surveyed, asked = list(episodes), mapping
    mapping, warnings = _without_absent(mapping, surveyed)
    problems: dict[str, str] = {}
    compared = _Compared(asked)
    widths: dict[str, int] | None = None
    embodiment: str | None = None
    for item in surveyed:
        try:
            name = _embodiment(mapping, item)
            item_widths = _widths(mapping, item, compared.with_source(name, item))
            widths, embodiment = widths or item_widths, embodiment or name
            if name != embodiment:
                raise Refused(
                    f"its embodiment is {name}, the dataset's is {embodiment}: ingest it as its own"
                )
            for quantity, width in item_widths.items():
                if width != widths[quantity]:
                    expected = widths[quantity]
                    raise Refused(f"its {quantity} has {width} columns, the dataset's has {expected}")
        except Refused as error:
            problems[item.key] = error.message
    good = [item for item in surveyed if item.key not in problems]
    schema = Schema(
        state=_dims(mapping, "state", widths or {}),
        streams={name: _dims(mapping, name, widths or {}) for name in mapping.actions},
        cameras=_cameras(mapping, good),
        embodiment=embodiment or mapping.embodiment,
        fps=_common(item.episode["fps"] for item in good),
        tool_frame=mapping.tool_frame if isinstance(mapping.tool_frame, str) else CANONICAL,
    )
    warnings += _unlike_sizes(schema.cameras, good)
    warnings += of_arrays([item.episode.get("told", {}) for item in surveyed])
    return Resolution(
        mapping,
        schema,
        problems,
        (*_roles_held(mapping, schema.cameras), *warnings),
        _row_shapes(mapping, good),
        _controllers(mapping, good),
    )


def _row_shapes(mapping: MappingSpec, episodes: list[Surveyed]) -> dict[str, tuple[tuple[int, ...], ...]]:
    keys = dict.fromkeys(field.key for _, _, field in all_fields(mapping) if field.key is not None)
    shapes = {key: dict.fromkeys(tuple(item.shapes[key][1:]) for item in episodes) for key in keys}
    return {key: tuple(unlike) for key, unlike in shapes.items()}


def _controllers(mapping: MappingSpec, episodes: list[Surveyed]) -> dict[str, tuple[Mapping[str, Any], ...]]:
    controllers: dict[str, tuple[Mapping[str, Any], ...]] = {}
    # Episodes that share what tells of the controller have one in common.
    unlike = {(id(item.episode["environment"]), id(item.shapes)): item for item in episodes}
    for where, quantity, field in all_fields(mapping):
        if form_of(quantity, field).needs_controller:
            stated = (_controller(field, quantity, item).to_json() for item in unlike.values())
            controllers[f"{where} {quantity}"] = tuple({canonical_json(one): one for one in stated}.values())
    return controllers


def _controller(field: Field, quantity: str, item: Surveyed) -> Controller:
    num_columns = prod(item.shapes[str(field.key)][1:])
    start = field.columns_of(num_columns).start
    return controller(item.episode, start, _width(field, quantity, item), num_columns)


class _Compared:
    """A mapping beside what the source says of itself, looked at once for episodes that share that."""

    def __init__(self, mapping: MappingSpec) -> None:
        self._mapping = mapping
        self._answers: dict[tuple[int, int, str], tuple[list[str], list[str]]] = {}

    def with_source(self, embodiment: str, item: Surveyed) -> list[str]:
        """What its controllers have against the mapping. Refused for another robot or gripper."""
        alike = id(item.episode["environment"]), id(item.shapes), embodiment
        if alike not in self._answers:
            causes = contradictions(self._mapping, embodiment, item)
            self._answers[alike] = causes, controller_problems(self._mapping, item)
        causes, misfits = self._answers[alike]
        if causes:  # all else that does not fit follows from it
            raise Refused("; ".join(causes))
        return misfits


def _without_absent(mapping: MappingSpec, surveyed: list[Surveyed]) -> tuple[MappingSpec, list[str]]:
    """The mapping without optional quantities that an episode lacks which is not quarantined anyway."""
    lacking: Counter[tuple[str, str]] = Counter()
    fitting = _fitting(mapping, surveyed) or surveyed
    for item in fitting:
        for where, quantity, field in all_fields(mapping):
            if field.optional and field.key is not None and _is_absent(field, item):
                lacking[where, quantity] += 1
    warnings = [
        f"{quantity} of {where} is left out: {count} of {len(fitting)} episodes lack it "
        "(without `optional: true` those are quarantined instead)"
        for (where, quantity), count in sorted(lacking.items())
        if count < len(fitting)
    ]
    kept = {
        where: {quantity: field for quantity, field in fields.items() if (where, quantity) not in lacking}
        for where, fields in {"state": mapping.state, **mapping.actions}.items()
    }
    state = kept.pop("state")
    streams = {
        name: {q: f for q, f in fields.items() if q in state or not form_of(q, f).needs_state}
        for name, fields in kept.items()
    }
    if surveyed and not state:
        raise FoundryError("no quantity of the mapping's state is in the source")
    warnings += [
        f"{quantity} of {where} is left out: `from: {field.kind}` counts from {quantity} of the state, which "
        "no rule reads or an episode lacks"
        for where, fields in kept.items()
        for quantity, field in fields.items()
        if form_of(quantity, field).displaces and quantity not in state
    ]
    return replace(mapping, state=state, actions={n: f for n, f in streams.items() if f}), warnings


def _fitting(mapping: MappingSpec, surveyed: list[Surveyed]) -> list[Surveyed]:
    """Those that have, as it must be, what is asked for whatever optional quantities are left out."""

    def is_always_asked(quantity: str, field: Field) -> bool:
        if field.optional or field.key is None:
            return False
        state = mapping.state.get(quantity)
        return not form_of(quantity, field).needs_state or (state is not None and not state.optional)

    asked = [
        (quantity, field) for _, quantity, field in all_fields(mapping) if is_always_asked(quantity, field)
    ]
    return [
        item for item in surveyed if all(_is_readable(quantity, field, item) for quantity, field in asked)
    ]


def _is_readable(quantity: str, field: Field, item: Surveyed) -> bool:
    try:
        _width(field, quantity, item)
    except (Refused, _Absent):
        return False
    return True


def _widths(mapping: MappingSpec, item: Surveyed, misfits: Sequence[str]) -> dict[str, int]:
    """Columns of each field by "<state or stream> <quantity>". Refused, with all that is wrong, if any is.

    `misfits` is what the source says against the mapping.
    """
    widths: dict[str, int] = {}
    problems, names_none = [], False
    for where, quantity, field in all_fields(mapping):
        try:
            from_state = widths.get(f"state {quantity}", 0)
            widths[f"{where} {quantity}"] = from_state if field.key is None else _width(field, quantity, item)
        except (Refused, _Absent) as error:
            problems.append(f"{where}: {quantity} {error}")
            names_none |= field.key not in item.shapes
    for where, quantity, field in all_fields(mapping):
        needs = form_of(quantity, field).needs_state
        width, start = widths.get(f"{where} {quantity}"), widths.get(f"state {quantity}")
        if needs and quantity_kind(quantity) == JOINT and width is not None and width != start:
            problems.append(f"{where}: {quantity} has {width} columns and the state has {start}")
    problems += misfits
    if problems:
        arrays = f" (arrays: {', '.join(sorted(item.shapes))})" if names_none else ""
        raise Refused("; ".join(problems) + arrays + _extra_row_hint(mapping, item))
    return widths


def _extra_row_hint(mapping: MappingSpec, item: Surveyed) -> str:
    """How an array of the state with one row more can be read, if there is one."""
    num_frames = int(item.episode["num_frames"])
    shapes = (item.shapes.get(str(field.key)) for field in mapping.state.values())
    hints = (extra_row_hint(shape[0], num_frames) for shape in shapes if shape)
    return "" if item.episode.get("extra_row") else next(filter(None, hints), "")


def _width(field: Field, quantity: str, item: Surveyed) -> int:
    """Columns of the field here. _Absent if the array or columns are not there, Refused if they misfit."""
    shapes, key = item.shapes, str(field.key)
    if key not in shapes:
        why = _why_no_array(key, item)
        if why is not None:
            raise _Absent(f"names '{key}', which is no array here: {why}")
        raise _Absent(f"names the array '{key}'{nearest(key, shapes)}")
    shape = shapes[key]
    if not _has_rows(shape, item):
        raise Refused(f"names '{key}', which has {shape[0] if shape else 0} rows, not one a frame")
    available = prod(shape[1:])
    taken = len(field.columns_of(available))
    if _is_absent(field, item):
        columns = list(field.columns or (0, None))
        raise _Absent(f"takes the columns {columns} of '{key}', which has {available}")
    form = form_of(quantity, field)
    needed = len(field.names) if field.names else width_of(quantity, form, field.parameters)
    if needed is not None and taken != needed:
        raise Refused(f"needs {needed} columns as {field.kind}, and '{key}' gives {taken}")
    scale = field.parameters.get("scale")
    if isinstance(scale, tuple) and len(scale) != taken:
        raise Refused(f"has {len(scale)} numbers of scale for {taken} columns")
    if isinstance(field.unit, tuple) and len(field.unit) != taken:
        raise Refused(f"has {len(field.unit)} units for {taken} columns")
    return taken


def _why_no_array(key: str, item: Surveyed) -> str | None:
    """What the source has under the key in place of an array of numbers; None if it has nothing."""
    if key in (left_out := item.episode.get("left_out", {})):
        return str(left_out[key])
    if key in item.episode["attributes"]:
        return "it is an attribute or a text"
    if key in item.episode.get("text_kinds", ()):
        return "it holds a text a frame"
    below = [path for path in (*item.shapes, *left_out) if path.startswith(f"{key}/")]
    return f"it is a group, of {', '.join(sorted(below))}" if below else None


def _is_absent(field: Field, item: Surveyed) -> bool:
    """Whether the episode has no such array of rows, or not all of the columns."""
    shape = item.shapes.get(str(field.key))
    if shape is None:
        return True
    if not _has_rows(shape, item):
        return False  # it is there, and no row a frame
    available, stop = prod(shape[1:]), field.columns[1] if field.columns else None
    taken = len(field.columns_of(available))
    return taken == 0 or taken < len(field.columns_of(max(available, stop or 0)))


def _has_rows(shape: Sequence[int], item: Surveyed) -> bool:
    """Whether an array has a row a frame, with the one after the last frame where the spec takes that."""
    rows, num_frames = shape[0] if shape else 0, int(item.episode["num_frames"])
    return rows == num_frames or (rows == num_frames + 1 and bool(item.episode.get("extra_row")))


def _dims(mapping: MappingSpec, where: str, widths: Mapping[str, int]) -> tuple[Dim, ...]:
    """The dims of the state or a stream, in the canonical order of names whatever the order in the spec."""
    dims: list[Dim] = []
    for quantity, field in (mapping.state if where == "state" else mapping.actions[where]).items():
        unit = field.unit or mapping.state.get(quantity, field).unit
        dims += dims_of(quantity, field, widths.get(f"{where} {quantity}", 0), unit)
    return ActionSpace.union(ActionSpace(dims)).dims


def _embodiment(mapping: MappingSpec, item: Surveyed) -> str:
    stated = item.episode["attributes"].get(mapping.embodiment_attr) if mapping.embodiment_attr else None
    if not (isinstance(stated, str) and stated):
        return mapping.embodiment
    try:
        return check_embodiment(stated)
    except FoundryError as error:
        raise Refused(error.message) from error


def _cameras(mapping: MappingSpec, episodes: list[Surveyed]) -> tuple[Camera, ...]:
    """Every camera of any episode, with the size that it has where it comes first.

    Of two that the mapping gives one role the first by name has it, and the other its name: a mapping for
    many sources names alternatives.
    """
    cameras: dict[str, Camera] = {}
    for item in episodes:
        for name, camera in item.episode["cameras"].items():
            role = mapping.cameras.get(name, name)
            size = camera["height"], camera["width"]
            cameras.setdefault(name, Camera(name, role, *size, camera["encoding"]))
    holders = {camera.role: camera.name for camera in sorted(cameras.values(), key=_name, reverse=True)}
    return tuple(
        camera if holders[camera.role] == name else replace(camera, role=name)
        for name, camera in sorted(cameras.items())
    )


def _name(camera: Camera) -> str:
    return camera.name


def _roles_held(mapping: MappingSpec, cameras: Iterable[Camera]) -> list[str]:
    """A sentence on each camera whose role another one has."""
    holders = {camera.role: camera.name for camera in cameras}
    return [
        f"camera '{camera.name}' has its name for a role, because '{holders[role]}' is '{role}': "
        f"{set_option(f'mapping.cameras.{camera.name}=ROLE')} gives it one"
        for camera in cameras
        if (role := mapping.cameras.get(camera.name, camera.name)) != camera.role
    ]


def _unlike_sizes(cameras: Iterable[Camera], episodes: list[Surveyed]) -> list[str]:
    """A sentence on each camera whose images have another size in some episodes."""
    sentences = []
    for camera in cameras:
        stated = (item.episode["cameras"].get(camera.name) for item in episodes)
        sizes = Counter((entry["height"], entry["width"]) for entry in stated if entry)
        if len(sizes) > 1:
            shown = ", ".join(f"{height} x {width} in {n}" for (height, width), n in sizes.most_common(3))
            more = f" and {len(sizes) - 3} sizes more" if len(sizes) > 3 else ""
            resize = set_option(f"content.resize=[{camera.height}, {camera.width}]")
            sentences.append(
                f"images of camera '{camera.name}' have {len(sizes)} sizes ({shown} of {sizes.total()} "
                f"episodes{more}), and training resizes them to {camera.height} x {camera.width}: "
                f"foundry-data ingest {resize} stores them so"
            )
    return sentences


def _common(values: Iterable[float]) -> float | None:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
