"""Fit a mapping to the episodes that there are: the schema, what does not fit, and what is left out.

It works on surveys (episode.json and the shapes of the source arrays), so it reads no numbers and no image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping as MappingABC
from dataclasses import dataclass, replace
from typing import Any

from robot_foundry.catalog.schema import Camera, Schema
from robot_foundry.ingest.osc import controller
from robot_foundry.ingest.quantities import FORMS, JOINT, canonical_name, kind_of
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.spec import Field, Mapping
from robot_foundry.normalization.space import ActionSpace, Dim, dims_for
from robot_foundry.runtime.errors import FoundryError, nearest

Shapes = MappingABC[str, tuple[int, ...]]


@dataclass(frozen=True)
class Surveyed:
    """What is known of an episode in a tar without reading its numbers."""

    key: str
    episode: MappingABC[str, Any]  # episode.json
    shapes: Shapes  # of the arrays in source.npz


@dataclass(frozen=True)
class Resolution:
    """`mapping` has lost the optional fields that the schema is without; `problems` maps episode keys to reasons."""

    mapping: Mapping
    schema: Schema
    problems: MappingABC[str, str]
    warnings: tuple[str, ...]


class _Absent(Exception):
    """The source has no such array or column."""


def resolve(mapping: Mapping, episodes: Iterable[Surveyed]) -> Resolution:
    """The schema of these episodes under this mapping. Depends on the set of episodes and their order alone.

    An optional quantity that some episode lacks is left out for all, because a version has one schema. Where
    joints differ in number or the embodiment differs, the first episode that fits decides.
    """
    surveyed = list(episodes)
    mapping, warnings = _without_absent(mapping, surveyed)
    problems: dict[str, str] = {}
    widths: dict[str, int] | None = None
    embodiment: str | None = None
    for item in surveyed:
        try:
            found = _widths(mapping, item)
            name = _embodiment(mapping, item)
            widths, embodiment = widths or found, embodiment or name
            if name != embodiment:
                raise Refused(f"its embodiment is {name}, the dataset's is {embodiment}: ingest it as its own")
            for quantity, width in found.items():
                if width != widths[quantity]:
                    raise Refused(f"its {quantity} has {width} columns, the dataset's has {widths[quantity]}")
        except Refused as error:
            problems[item.key] = error.message
    good = [item for item in surveyed if item.key not in problems]
    schema = Schema(
        state=_dims(mapping.state, "state", widths or {}),
        streams={name: _dims(fields, name, widths or {}) for name, fields in mapping.actions.items()},
        cameras=_cameras(mapping, good),
        embodiment=embodiment or mapping.embodiment,
        fps=_common(item.episode["fps"] for item in good),
        tool_frame=mapping.tool_frame,
    )
    return Resolution(mapping, schema, problems, tuple(warnings))


def _without_absent(mapping: Mapping, surveyed: list[Surveyed]) -> tuple[Mapping, list[str]]:
    """The mapping without optional quantities that an episode lacks."""
    lacking: Counter[tuple[str, str]] = Counter()
    for item in surveyed:
        for where, quantity, field in _all_fields(mapping):
            if field.optional and field.key is not None:
                try:
                    _width(field, quantity, item)
                except _Absent:
                    lacking[where, quantity] += 1
                except Refused:
                    pass
    warnings = [
        f"{quantity} of {where} is left out: {count} of {len(surveyed)} episodes lack it "
        "(without `optional: true` those are quarantined instead)"
        for (where, quantity), count in sorted(lacking.items())
        if count < len(surveyed)
    ]
    kept = {
        where: {quantity: field for quantity, field in fields.items() if (where, quantity) not in lacking}
        for where, fields in {"state": mapping.state, **mapping.actions}.items()
    }
    state = kept.pop("state")
    streams = {
        name: {q: f for q, f in fields.items() if q in state or not FORMS[str(kind_of(q))][f.kind].needs_state}
        for name, fields in kept.items()
    }
    if surveyed and not state:
        raise FoundryError("no quantity of the mapping's state is in the source")
    return replace(mapping, state=state, actions={n: f for n, f in streams.items() if f}), warnings


def _all_fields(mapping: Mapping) -> Iterable[tuple[str, str, Field]]:
    for where, fields in {"state": mapping.state, **mapping.actions}.items():
        for quantity, field in fields.items():
            yield where, quantity, field


def _widths(mapping: Mapping, item: Surveyed) -> dict[str, int]:
    """Columns of each field by "<state or stream> <quantity>". Refused, with all that is wrong, if one fails."""
    widths = {}
    problems = []
    for where, quantity, field in _all_fields(mapping):
        try:
            if field.key is None:
                width = widths.get(f"state {quantity}", 0)
            else:
                width = _width(field, quantity, item)
            widths[f"{where} {quantity}"] = width
        except (Refused, _Absent) as error:
            problems.append(f"{where}: {quantity} {error}")
    for where, quantity, field in _all_fields(mapping):
        needs = FORMS[str(kind_of(quantity))][field.kind].needs_state
        own, start = widths.get(f"{where} {quantity}"), widths.get(f"state {quantity}")
        if needs and kind_of(quantity) == JOINT and own is not None and own != start:
            problems.append(f"{where}: {quantity} has {own} columns and the state has {start}")
    if any(field.kind == "osc" for _, _, field in _all_fields(mapping)):
        try:
            controller(item.episode)
        except Refused as error:
            problems.append(error.message)
    if problems:
        raise Refused("; ".join(problems))
    return widths


def _width(field: Field, quantity: str, item: Surveyed) -> int:
    """Columns of the field in this episode. _Absent if it has no such array or columns, Refused if they misfit."""
    shapes = item.shapes
    if field.key not in shapes:
        known = ", ".join(sorted(shapes))
        raise _Absent(f"names the array '{field.key}'{nearest(str(field.key), shapes)} (arrays: {known})")
    shape = shapes[field.key]
    available = 1
    for size in shape[1:]:
        available *= size
    if not shape or shape[0] != item.episode["num_frames"]:
        raise Refused(f"'{field.key}' has {shape[0] if shape else 0} rows, not one a frame")
    start, stop = field.columns or (0, available)
    if stop > available:
        raise _Absent(f"takes columns {start} to {stop - 1} of '{field.key}', which has {available}")
    needed = FORMS[str(kind_of(quantity))][field.kind].width
    if needed is not None and stop - start != needed:
        raise Refused(f"needs {needed} columns as {field.kind}, '{field.key}' has {stop - start}")
    if stop == start:
        raise _Absent(f"finds no columns in '{field.key}'")
    scale = field.parameters.get("scale")
    if isinstance(scale, tuple) and len(scale) != stop - start:
        raise Refused(f"has {len(scale)} numbers of scale for {stop - start} columns")
    return stop - start


def _dims(fields: MappingABC[str, Field], where: str, widths: MappingABC[str, int]) -> tuple[Dim, ...]:
    """The dims of the fields, in the canonical order of names whatever the order in the spec."""
    dims = [
        dim
        for quantity in fields
        for dim in dims_for(canonical_name(quantity), count=widths.get(f"{where} {quantity}", 0))
    ]
    return ActionSpace.union(ActionSpace(dims)).dims


def _embodiment(mapping: Mapping, item: Surveyed) -> str:
    stated = item.episode["attributes"].get(mapping.embodiment_attr) if mapping.embodiment_attr else None
    return stated if isinstance(stated, str) and stated else mapping.embodiment


def _cameras(mapping: Mapping, episodes: list[Surveyed]) -> tuple[Camera, ...]:
    """Every camera of any episode, with the size that it has where it comes first."""
    cameras: dict[str, Camera] = {}
    for item in episodes:
        for name, camera in item.episode["cameras"].items():
            role = mapping.cameras.get(name, name)
            size = camera["height"], camera["width"]
            cameras.setdefault(name, Camera(name, role, *size, camera["encoding"]))
    return tuple(cameras[name] for name in sorted(cameras))


def _common(values: Iterable[float]) -> float | None:
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
