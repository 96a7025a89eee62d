"""Worlds of Gymnasium from a YAML file, as docs/worlds.md says. All that is wrong in it is told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robot_foundry.evaluation.worlds.gymnasium_world import TERMINATED, Column, GymnasiumTask, GymnasiumWorlds
from robot_foundry.ingest.spec.section import (
    REQUIRED,
    Section,
    check_none,
    integer,
    number,
    optional,
    positive,
    text,
)
from robot_foundry.ingest.spec.yaml_text import parse_yaml
from robot_foundry.normalization.space import ActionSpace, Dim
from robot_foundry.runtime.errors import FoundryError, UsageError

LARGEST = 10**9


def read_world(path: Path) -> GymnasiumWorlds:
    """The worlds that the file describes; UsageError lists all its problems, each with the nearest key."""
    try:
        given = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the world {path} cannot be read: {error}") from error
    problems: list[str] = []
    section = Section(given, "", problems)
    values = {
        "name": section.take("name", text, path.stem),
        "embodiment": section.take("embodiment", text, REQUIRED),
        "control_hz": section.take("control_hz", positive, REQUIRED),
        "random_speed": section.take("random_speed", optional(positive), None),
        "tasks": _tasks(section),
        "state": _columns(section, "state", keyed=True),
        "action": _columns(section, "action", keyed=False),
        "cameras": section.take("cameras", _cameras, {}),
    }
    section.close()
    check_none(problems, str(path), "docs/worlds.md has all keys", "world")
    return GymnasiumWorlds(**values)


def _tasks(section: Section) -> dict[str, GymnasiumTask]:
    tasks, is_given = {}, "tasks" in section.values
    named = section.section("tasks", required=True)
    for name, value in named.values.items():
        task = Section(value, named.path(name), section.problems)
        tasks[name] = GymnasiumTask(
            env=task.take("env", text, REQUIRED),
            instruction=task.take("instruction", text, REQUIRED),
            max_steps=task.take("max_steps", integer(1, LARGEST), REQUIRED),
            success=task.take("success", text, TERMINATED),
            options=task.take("options", _mapping, {}),
        )
        task.close()
    if is_given and not named.values and not named.broken:
        section.problems.append("tasks: names none")
    return tasks


def _columns(section: Section, part: str, *, keyed: bool) -> tuple[Column, ...]:
    """The columns by the names of their dims, in the order of the file."""
    columns = []
    named = section.section(part, required=True)
    for name, value in named.values.items():
        column = Section(value, named.path(name), section.problems)
        index = column.take("index", integer(0, LARGEST), REQUIRED)
        key = column.take("key", text, "") if keyed else ""
        scale, offset = column.take("scale", _scale, 1.0), column.take("offset", number, 0.0)
        unit, kind = column.take("unit", text, None), column.take("kind", text, "other")
        column.close()
        try:
            dim: Dim | str = name if unit is None else Dim(name, unit, kind)
            ActionSpace([dim])
        except FoundryError as error:
            section.problems.append(f"{named.path(name)}: {error.message}")
            continue
        columns.append(Column(dim, index or 0, key, scale, offset))
    return tuple(columns)


def _scale(value: Any) -> float:
    if number(value) == 0:
        raise ValueError("is 0: no number could be told from another")
    return float(value)


def _cameras(value: Any) -> dict[str, str | None]:
    entries = _mapping(value)
    return {role: optional(text)(key) for role, key in entries.items()}


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"expected named keys, got {value!r}")
    return dict(value)
