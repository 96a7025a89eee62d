"""Layers of a recipe: what a later one says on top of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.recipes.yaml_text import parse_yaml

EXCLUSIVE = (("run", "steps", "samples", "tokens"),)  # setting one in a later layer takes the others back
WEIGHTS = "mix"  # a mapping of references to weights, which is replaced whole


def override_layer(text: str) -> dict[str, Any]:
    """The layer of one `key.path=value`, its value parsed as YAML."""
    path, sign, value = text.partition("=")
    names = path.strip().lstrip("-").split(".")
    if not sign or not all(names):
        raise UsageError(f"'{text}' is not key=value", hint="for example run.steps=200")
    parsed = parse_yaml(value, f"the value of {path}")
    for name in reversed(names):
        parsed = {name: parsed}
    return parsed


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`; a preset named in `over` starts afresh, one named in `base` is added to."""
    merged = dict(base)
    for name, value in over.items():
        below = None if isinstance(value, Mapping) and "preset" in value else merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, str):
            below = {"preset": below}
        if isinstance(value, Mapping) and isinstance(below, Mapping) and name != WEIGHTS:
            for section, *group in EXCLUSIVE:
                if name == section and any(value.get(key) is not None for key in group):
                    below = {key: item for key, item in below.items() if key not in group}
            value = overlay(below, value)
        merged[name] = value
    return merged
