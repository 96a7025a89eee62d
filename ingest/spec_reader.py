"""Strict reading of a spec: unknown keys, missing keys and wrong values are reported all at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from robot_foundry.ingest.quantities import DEFAULT_FORM, FORMS, REQUIRED, kind_of, known_quantities
from robot_foundry.ingest.spec import Content, Encoding, Field, Mapping, Noop, Spec
from robot_foundry.runtime.errors import UsageError, nearest

LAYOUTS = ("robomimic", "robosuite")
STREAM = re.compile(r"[a-z][a-z0-9_]{0,39}")
EULER = re.compile(r"[xyz]{3}|[XYZ]{3}")
ROLE = re.compile(r"[a-z0-9_]{1,40}")


def read_spec(values: Any, where: str) -> Spec:
    """The spec in parsed YAML or JSON; `UsageError` names every problem in it."""
    problems: list[str] = []
    top = _Section(values, "", problems)
    spec = Spec(
        name=top.take("name", _text, where),
        layout=top.take("layout", _choice(LAYOUTS), REQUIRED),
        content=_content(top.section("content")),
        mapping=_mapping(top.section("mapping", required=True)),
        forms=top.take("forms", _texts, ()),
        locations=top.take("locations", _texts, ()),
    )
    top.close()
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError(f"the spec {where} has {count}:{listed}", hint="docs/specs.md lists every key")
    return spec


class _Section:
    """A mapping of which each key may be taken once; what is left at `close` is unknown."""

    def __init__(self, values: Any, where: str, problems: list[str]) -> None:
        self.where, self.problems = where, problems
        if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
            problems.append(f"{where or 'the spec'}: is not a section of named keys")
            values, self.broken = {}, True
        else:
            self.broken = False
        self.values: dict[str, Any] = dict(values)
        self.known: list[str] = []

    def path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def report(self, name: str, message: str) -> None:
        self.problems.append(f"{self.path(name)}: {message}")

    def take(self, name: str, check: Callable[[Any], Any], default: Any) -> Any:
        """The checked value of `name`; `check` raises ValueError saying what is expected."""
        self.known.append(name)
        if name not in self.values:
            if default is REQUIRED and not self.broken:
                self.report(name, "is missing")
            return None if default is REQUIRED else default
        try:
            return check(self.values.pop(name))
        except ValueError as error:
            self.report(name, str(error))
            return None if default is REQUIRED else default

    def section(self, name: str, *, required: bool = False) -> _Section:
        self.known.append(name)
        if name not in self.values and required and not self.broken:
            self.report(name, "is missing")
        return _Section(self.values.pop(name, {}), self.path(name), self.problems)

    def entries(self, name: str) -> dict[str, Any]:
        """A section of free names; an entry that is null is left out."""
        section = self.section(name)
        return {key: value for key, value in section.values.items() if value is not None}

    def close(self) -> None:
        for name in self.values:
            self.report(name, f"is not a key here{nearest(name, self.known)} (keys: {', '.join(self.known)})")


def _content(section: _Section) -> Content:
    default = Content()
    encoding = section.section("encoding")
    read = Content(
        cameras=section.take("cameras", _cameras, default.cameras),
        encoding=Encoding(
            format=encoding.take("format", _choice(("jpeg",)), default.encoding.format),
            quality=encoding.take("quality", _integer(1, 100), default.encoding.quality),
        ),
        resize=section.take("resize", _optional(_size), default.resize),
        skip=section.take("skip", _texts, default.skip),
        fps=section.take("fps", _optional(_positive), default.fps),
        default_fps=section.take("default_fps", _positive, default.default_fps),
        shard_bytes=section.take("shard_bytes", _integer(1, 1 << 40), default.shard_bytes),
    )
    encoding.close()
    section.close()
    return read


def _mapping(section: _Section) -> Mapping:
    embodiment, embodiment_attr = section.take("embodiment", _embodiment, REQUIRED) or ("unknown", None)
    state = _fields(section, section.path("state"), section.entries("state"), None)
    streams = section.entries("actions")
    read = Mapping(
        embodiment=embodiment,
        embodiment_attr=embodiment_attr,
        tool_frame=section.take("tool_frame", _text, "unknown"),
        cameras=_roles(section, section.entries("cameras")),
        instruction=section.take("instruction", _rules(_INSTRUCTION_RULES), ()),
        success=section.take("success", _rules(_SUCCESS_RULES), ()),
        state=state,
        actions={
            name: _fields(section, f"{section.path('actions')}.{name}", entries, state)
            for name, entries in streams.items()
            if _stream_name(section, name)
        },
        noop=_noop(section.section("noop")),
    )
    if not state and not section.broken:
        section.report("state", "names no quantity")
    section.close()
    return read


def _stream_name(section: _Section, name: str) -> bool:
    if STREAM.fullmatch(name):
        return True
    section.report(f"actions.{name}", "is not a stream name (a-z, 0-9 and '_')")
    return False


def _noop(section: _Section) -> Noop:
    default = Noop()
    read = Noop(
        **{
            name: section.take(name, _positive, getattr(default, name))
            for name in ("position", "rotation", "gripper", "joint")
        }
    )
    section.close()
    return read


def _roles(section: _Section, entries: dict[str, Any]) -> dict[str, str]:
    for name, role in entries.items():
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            section.report(f"cameras.{name}", f"{role!r} is not a role such as primary or wrist_right")
    return {name: role for name, role in entries.items() if isinstance(role, str)}


def _fields(parent: _Section, where: str, entries: Any, state: dict[str, Field] | None) -> dict[str, Field]:
    """The fields of the state (`state` None) or of a stream, whose forms may lean on the state's fields."""
    fields = {}
    for quantity, values in _Section(entries, where, parent.problems).values.items():
        if values is None:
            continue
        section = _Section(values, f"{where}.{quantity}", parent.problems)
        kind = kind_of(quantity)
        if kind is None:
            close = nearest(quantity, known_quantities())
            parent.problems.append(f"{where}.{quantity}: is not a quantity{close}")
        elif not section.broken:
            fields[quantity] = _field(section, kind, quantity, state)
    return fields


def _field(section: _Section, kind: str, quantity: str, state: dict[str, Field] | None) -> Field:
    forms = {name: form for name, form in FORMS[kind].items() if state is not None or not form.needs_state}
    default = DEFAULT_FORM[kind]
    name = section.take("from", _choice(tuple(forms)), REQUIRED if default is None else default)
    if name is None:
        return Field(kind="")
    form = forms[name]
    field = Field(
        kind=name,
        key=section.take("key", _text, REQUIRED) if form.needs_key else None,
        columns=section.take("columns", _range, None) if form.needs_key else None,
        optional=section.take("optional", _boolean, False),
        parameters={
            setting: section.take(setting, _SETTINGS[setting], value)
            for setting, value in form.settings.items()
        },
    )
    section.close()
    start, stop = field.columns or (0, None)
    if form.width and stop is not None and start >= 0 and stop - start != form.width:
        section.report("columns", f"holds {stop - start} columns, {name} needs {form.width}")
    if form.needs_state and state is not None and quantity not in state:
        section.report("from", f"{name} starts from the state, and mapping.state has no {quantity}")
    if "closed" in form.settings and field.parameters["closed"] == field.parameters["open"] is not None:
        section.report("open", "equals closed")
    return field


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected text, got {value!r}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list of texts, got {value!r}")
    return tuple(_text(item) for item in value)


def _cameras(value: Any) -> tuple[str, ...] | None:
    return None if value == "all" else _texts(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)


def _positive(value: Any) -> float:
    if _number(value) <= 0:
        raise ValueError(f"expected a number above 0, got {value!r}")
    return float(value)


def _numbers(value: Any) -> float | tuple[float, ...]:
    return tuple(_number(item) for item in value) if isinstance(value, list) else _number(value)


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {value!r}")
        return value

    return check


def _size(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"expected [height, width], got {value!r}")
    check = _integer(1, 8192)
    return check(value[0]), check(value[1])


def _range(value: Any) -> tuple[int, int | None]:
    expected = f"expected [start, stop] with start < stop, or [-count, null] for the last ones, got {value!r}"
    if not isinstance(value, list) or len(value) != 2 or any(isinstance(item, bool) for item in value):
        raise ValueError(expected)
    start, stop = value
    if isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop:
        return start, stop
    if isinstance(start, int) and start < 0 and stop is None:
        return start, None
    raise ValueError(expected)


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            close = nearest(value, choices) if isinstance(value, str) else ""
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}{close}")
        return str(value)

    return check


def _euler(value: Any) -> str:
    if not isinstance(value, str) or not EULER.fullmatch(value):
        raise ValueError(f"expected three axes such as xyz (extrinsic) or XYZ (intrinsic), got {value!r}")
    return value


def _embodiment(value: Any) -> tuple[str, str | None]:
    if isinstance(value, dict):
        if set(value) != {"attr", "default"}:
            raise ValueError(f"expected a name, or {{attr: …, default: …}}, got {value!r}")
        return _text(value["default"]), _text(value["attr"])
    return _text(value), None


def _texts_by_name(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"expected environment names and texts, got {value!r}")
    return {_text(name): _text(text) for name, text in value.items()}


_Rule = dict[str, Callable[[Any], Any]]
_INSTRUCTION_RULES: tuple[_Rule, ...] = ({"attr": _text}, {"text": _text}, {"by_env": _texts_by_name})
_SUCCESS_RULES: tuple[_Rule, ...] = ({"attr": _text}, {"key": _text, "at_least": _number})


def _rules(forms: tuple[_Rule, ...]) -> Callable[[Any], tuple[dict[str, Any], ...]]:
    expected = " or ".join("{" + ", ".join(f"{name}: …" for name in form) + "}" for form in forms)

    def check(value: Any) -> tuple[dict[str, Any], ...]:
        rules = []
        for rule in value if isinstance(value, list) else [value]:
            form = next((f for f in forms if isinstance(rule, dict) and set(f) == set(rule)), None)
            if form is None:
                raise ValueError(f"expected {expected}, got {rule!r}")
            rules.append({name: form[name](rule[name]) for name in form})
        return tuple(rules)

    return check


_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "scale": _numbers,
    "clip": _optional(_positive),
    "order": _choice(("xyzw", "wxyz")),
    "sequence": _euler,
    "degrees": _boolean,
    "closed": _number,
    "open": _number,
}
