"""Values of a config that others wrote: of the type that is asked for, or an error that names the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.runtime.errors import FoundryError

MAX_JSON_BYTES = 256 * 1024 * 1024  # an index of every tensor there is takes less


@dataclass(frozen=True)
class Values:
    """What a file states by key. A value of another type than is asked for is never taken to be absent."""

    where: str
    stated: Mapping[str, Any]

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 on; without a default the key must be there."""
        value = self._value(key, default)
        if type(value) is not int or value < 1:
            raise self.wrong(key, "a whole number above 0")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.wrong(key, "a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return value

    def section(self, key: str) -> Values:
        """The values under a key; none where it is absent or null."""
        value = self.stated.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return Values(f"{self.where}: {key}", value)

    def wrong(self, key: str, expected: str) -> FoundryError:
        """The error of a value that cannot be taken."""
        value = self.stated.get(key)
        if value is None:
            return FoundryError(f"{self.where} has no {key}, it must be {expected}")
        return FoundryError(f"{self.where}: {key} must be {expected}, not {json.dumps(value, default=str)}")

    def _value(self, key: str, default: Any) -> Any:
        value = self.stated.get(key)
        return default if value is None else value


def read_values(path: Path) -> Values:
    """The values of a JSON file. FoundryError if it is none, or not one object."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise FoundryError(f"{path} is larger than any such file, {MAX_JSON_BYTES} bytes")
        stated = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FoundryError(f"{path} cannot be read: {error}") from error
    if not isinstance(stated, dict):
        raise FoundryError(f"{path} must hold one JSON object")
    return Values(str(path), stated)
