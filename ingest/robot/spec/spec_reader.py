"""Strict reading of a spec: unknown keys, missing keys and wrong values are reported all at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from robot_foundry.ingest.robot.forms import FORMS, default_form, width_of
from robot_foundry.ingest.robot.spec.content_reader import read_content, robot_layouts
from robot_foundry.ingest.robot.spec.quantities import (
    COMPONENT,
    JOINT,
    OWN,
    POSITION,
    ROTATION,
    all_quantities,
    misspelt_part,
    quantity_kind,
    units_of,
)
from robot_foundry.ingest.robot.spec.rule_reader import FLAG_RULES, INSTRUCTION_RULES, SUCCESS_RULES, rules
from robot_foundry.ingest.robot.spec.spec import Columns, Field, MappingSpec, Noop, Spec
from robot_foundry.ingest.sources import LAYOUTS
from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.about import read_about
from robot_foundry.ingest.spec.section import REQUIRED
from robot_foundry.normalization.space import PARTS, check_embodiment
from robot_foundry.normalization.tool_frame import UNKNOWN, ToolFrame, check_tool_frame
from robot_foundry.runtime.errors import FoundryError, nearest

STREAM = re.compile(r"[a-z][a-z0-9_]{0,39}")
OTHERS = ("named",)
TOOL_FRAME_KEYS = ("approach", "lateral", "position")
_ToolFrames = str | ToolFrame | dict[str, ToolFrame]
ROLE = re.compile(r"[a-z0-9_]{1,40}")


def spec_from_json(values: Any, where: str, *, is_cut: bool = False) -> Spec:
    """Check and read a spec in parsed YAML or JSON; `UsageError` names every problem, with the nearest key.

    `is_cut` says that it lacks the optional quantities which a version had none of, so that tool frames need
    not be those of its poses.
    """
    problems: list[str] = []
    top = checks.Section(values, "", problems)
    name = top.take("name", checks.text, where)
    layout = top.take("layout", checks.choice(tuple(sorted(LAYOUTS))), REQUIRED)
    spec = Spec(
        name=name,
        layout=layout,
        content=read_content(top.section("content"), robot_layouts().get(layout)),
        mapping=_mapping(top.section("mapping", required=True), is_cut),
        forms=top.take("forms", checks.texts, ()),
        locations=top.take("locations", checks.texts, ()),
        about=read_about(top.section("about")) if "about" in top.values else None,
    )
    declared = robot_layouts().get(layout)
    if spec.mapping.others and declared is not None and not declared.names_columns:
        takers = sorted(name for name, known in robot_layouts().items() if known.names_columns)
        top.report("mapping.others", f"belongs to the layouts {', '.join(takers)}")
    top.close()
    hint = "docs/specs.md lists every key"
    if declared is not None and declared.options is not None:
        hint = f"{hint}, {declared.options.page} those of content.{layout}"
    checks.check_none(problems, where, hint=hint)
    return spec


def _mapping(section: checks.Section, is_cut: bool) -> MappingSpec:
    embodiment, embodiment_attr = section.take("embodiment", _embodiment, REQUIRED) or ("unknown", None)
    state = _fields(section, section.path("state"), section.entries("state"), None)
    streams = section.entries("actions")
    read = MappingSpec(
        embodiment=embodiment,
        embodiment_attr=embodiment_attr,
        tool_frame=_tool_frame(section, None if is_cut else state),
        cameras=_roles(section, section.entries("cameras")),
        instruction=section.take("instruction", rules(INSTRUCTION_RULES), ()),
        success=section.take("success", rules(SUCCESS_RULES), ()),
        invalid_action=section.take("invalid_action", rules(FLAG_RULES), ()),
        intervention=section.take("intervention", rules(FLAG_RULES), ()),
        state=state,
        actions={
            name: _fields(section, f"{section.path('actions')}.{name}", entries, state)
            for name, entries in streams.items()
            if _stream_name(section, name)
        },
        others=section.take("others", checks.optional(checks.choice(OTHERS)), None),
        noop=_noop(section.section("noop")),
    )
    if not state and not read.others and not section.broken:
        section.report("state", "names no quantity")
    section.close()
    return read


def _tool_frame(section: checks.Section, state: dict[str, Field] | None) -> _ToolFrames:
    """A name, or frames that suit the poses of the state, if it is given."""
    frames: _ToolFrames = section.take("tool_frame", _tool_frames, UNKNOWN) or UNKNOWN
    if isinstance(frames, str) or state is None:
        return frames
    poses = [quantity for quantity in state if quantity_kind(quantity) in (POSITION, ROTATION)]
    posed = list(dict.fromkeys(quantity.partition(".")[0] for quantity in poses))
    by_part = frames if isinstance(frames, dict) else dict.fromkeys(posed, frames)
    for part in (*posed, *by_part):
        if part not in by_part:
            section.report("tool_frame", f"has no frame of {part}, which has poses")
        elif part not in posed:
            close = nearest(part, posed)
            section.report("tool_frame", f"has a frame of {part}, of which the state has no pose{close}")
        elif any(by_part[part].position) and f"{part}.ee_rotation" not in state:
            section.report("tool_frame", f"its position turns with {part}.ee_rotation, which state lacks")
    return frames


def _tool_frames(value: Any) -> _ToolFrames:
    """A name, one frame for all parts, or a frame for each."""
    if (
        isinstance(value, dict)
        and value
        and all(part in PARTS or isinstance(frame, dict) for part, frame in value.items())
    ):
        return {part: _tool_frame_of(frame) for part, frame in value.items()}
    if isinstance(value, dict):
        return _tool_frame_of(value)
    try:
        return check_tool_frame(checks.text(value))
    except FoundryError as error:
        raise ValueError(error.message) from error


def _tool_frame_of(value: Any) -> ToolFrame:
    if not isinstance(value, dict) or not value or not set(value) <= set(TOOL_FRAME_KEYS):
        keys, words = ", ".join(TOOL_FRAME_KEYS), (*TOOL_FRAME_KEYS, *PARTS)
        unknown = [str(key) for key in value if key not in words] if isinstance(value, dict) else []
        near = nearest(unknown[0], words) if unknown else ""
        raise ValueError(f"expected a name, or some of {keys}, or these by part, got {value!r}{near}")
    for key, item in value.items():
        if not isinstance(item, list):
            raise ValueError(f"{key} needs three numbers, got {item!r}")
    try:
        return ToolFrame(**{key: tuple(item) for key, item in value.items()})
    except (FoundryError, TypeError) as error:
        raise ValueError(str(error)) from error


def _embodiment_name(value: Any) -> str:
    try:
        return check_embodiment(checks.text(value))
    except FoundryError as error:
        raise ValueError(error.message) from error


def _stream_name(section: checks.Section, name: str) -> bool:
    if STREAM.fullmatch(name):
        return True
    section.report(f"actions.{name}", "is not a stream name (a-z, 0-9 and '_')")
    return False


def _noop(section: checks.Section) -> Noop:
    default = Noop()
    read = Noop(
        **{
            name: section.take(name, checks.positive, getattr(default, name))
            for name in ("position", "rotation", "gripper", "joint")
        }
    )
    section.close()
    return read


def _roles(section: checks.Section, entries: dict[str, Any]) -> dict[str, str]:
    for name, role in entries.items():
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            section.report(f"cameras.{name}", f"{role!r} is not a role such as primary or wrist_right")
    return {name: role for name, role in entries.items() if isinstance(role, str)}


def _fields(
    parent: checks.Section, where: str, entries: Any, state: dict[str, Field] | None
) -> dict[str, Field]:
    """The fields of the state (`state` None) or of a stream, whose forms may lean on the state's fields."""
    fields = {}
    for quantity, values in checks.Section(entries, where, parent.problems).values.items():
        if values is None:
            continue
        section = checks.Section(values, f"{where}.{quantity}", parent.problems)
        kind = quantity_kind(quantity)
        if kind is None or (kind == OWN and not _has_names(quantity, section, state)):
            close = nearest(quantity, all_quantities())
            hint = close or (" of the scheme, and has no `names` of its own" if kind == OWN else "")
            parent.problems.append(f"{where}.{quantity}: is not a quantity{hint}")
        elif (part := misspelt_part(quantity)) is not None:
            parent.problems.append(f"{where}.{quantity}: is not a part, did you mean '{part}'?")
        elif not section.broken:
            fields[quantity] = _field(section, kind, quantity, state)
    return fields


def _has_names(quantity: str, section: checks.Section, state: dict[str, Field] | None) -> bool:
    """Whether a field beyond the scheme names its components, or starts from one of the state that does."""
    form = FORMS[OWN].get(str(section.values.get("from")))
    starts = form is not None and form.needs_state and state is not None and quantity in state
    return "names" in section.values or starts


def _field(section: checks.Section, kind: str, quantity: str, state: dict[str, Field] | None) -> Field:
    of_state = state is None
    forms = {
        name: form
        for name, form in FORMS[kind].items()
        if not (form.needs_state if of_state else form.is_of_state)
    }
    default = default_form(kind)
    name = section.take("from", checks.choice(tuple(forms)), REQUIRED if default is None else default)
    if name is None:
        return Field(kind="")
    form, is_own = forms[name], kind == OWN
    has_unit = kind in (JOINT, OWN) and not form.needs_state
    follows = state.get(quantity) if state is not None and form.needs_state else None
    field = Field(
        kind=name,
        key=section.take("key", checks.text, REQUIRED) if form.needs_key else None,
        columns=section.take("columns", _range, None) if form.needs_key else None,
        optional=section.take("optional", checks.boolean, False),
        unit=section.take("unit", _unit(quantity, kind), None) if has_unit else None,
        names=section.take("names", _names, None if follows is None else follows.names) if is_own else None,
        parameters={
            name: section.take(name, setting.read, setting.default) for name, setting in form.settings.items()
        },
    )
    section.close()
    width = len(field.names) if field.names else None
    if width is None and None not in field.parameters.values():
        width = width_of(quantity, form, field.parameters)
    start, stop, *_ = field.columns or (0, None)
    if width and stop is not None and start >= 0 and len(field.columns_of(stop)) != width:
        section.report("columns", f"holds {len(field.columns_of(stop))} columns, {name} needs {width}")
    if form.needs_state and state is not None and quantity not in state:
        section.report("from", f"{name} starts from the state, and mapping.state has no {quantity}")
    if follows is not None and form.displaces and field.names != follows.names:
        section.report(
            "names", f"are not those of the state, {', '.join(follows.names or ())}, in their order"
        )
    problem = form.problem(field.parameters)
    if problem is not None:
        section.report(*problem)
    return field


def _unit(quantity: str, kind: str) -> Callable[[Any], str | tuple[str, ...]]:
    """The unit of all columns, or of each."""
    one = checks.text if kind == OWN else checks.choice(units_of(quantity))
    return lambda value: tuple(map(one, value)) if isinstance(value, list) else one(value)


def _names(value: Any) -> tuple[str, ...]:
    """Names of components that differ."""
    listed = checks.texts(value)
    for name in listed:
        if not COMPONENT.fullmatch(name) or listed.count(name) > 1:
            raise ValueError(f"expected unlike names of the characters a-z, 0-9 and '_', got {name!r}")
    if not listed:
        raise ValueError("names no component")
    return listed


def _range(value: Any) -> Columns:
    expected = f"expected [start, stop] with start < stop, or [start, null] for the rest, got {value!r}"
    if not isinstance(value, list) or any(isinstance(item, bool) for item in value):
        raise ValueError(expected)
    if len(value) == 3:
        *ends, step = value
        if not isinstance(step, int) or step < 2 or ends[1] is None:
            raise ValueError(f"expected [start, stop, step] with a step of 2 or more, got {value!r}")
        least, beyond, *_ = _range(ends)
        return least, beyond, step
    start, stop = value if len(value) == 2 else (None, None)
    if isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop:
        return start, stop
    if isinstance(start, int) and stop is None:
        return start, None
    raise ValueError(expected)


def _embodiment(value: Any) -> tuple[str, str | None]:
    if isinstance(value, dict):
        if set(value) != {"attr", "default"}:
            raise ValueError(f"expected a name, or {{attr: …, default: …}}, got {value!r}")
        return _embodiment_name(value["default"]), checks.text(value["attr"])
    return _embodiment_name(value), None
