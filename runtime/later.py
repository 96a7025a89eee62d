"""Keys that a configuration got later: they do not name a run that leaves them at their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any, TypeVar

LATER = "later"
T = TypeVar("T")


def later(default: T) -> T:
    """The field of a dataclass whose default is what runs did before there was the key."""
    value: T = field(default=default, metadata={LATER: True})
    return value


def without_later(values: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Some or all `values` of a configuration as it is resolved, without later keys at their defaults."""
    kept: dict[str, Any] = {}
    for item in fields(config):
        here = getattr(config, item.name)
        if item.name not in values or (item.metadata.get(LATER) and here == item.default):
            continue
        value = values[item.name]
        kept[item.name] = without_later(value, here) if is_dataclass(here) else value
    return kept
