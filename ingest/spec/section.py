"""Reading a section of a spec: each key is taken once with a check, and problems are kept for the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from robot_foundry.runtime.errors import UsageError, nearest

# Of names that may be taken: None in Python, and ().
ALL, NONE = "all", "none"
# In place of a default: the key must be there.
REQUIRED = object()


class Section:
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

    def section(self, name: str, *, required: bool = False) -> Section:
        self.known.append(name)
        if name not in self.values and required and not self.broken:
            self.report(name, "is missing")
        return Section(self.values.pop(name, {}), self.path(name), self.problems)

    def entries(self, name: str) -> dict[str, Any]:
        """A section of free names; an entry that is null is left out."""
        section = self.section(name)
        return {key: value for key, value in section.values.items() if value is not None}

    def close(self) -> None:
        for name in self.values:
            self.report(name, f"is not a key here{nearest(name, self.known)} (keys: {', '.join(self.known)})")


def check_none(problems: Sequence[str], where: str, hint: str, what: str = "spec") -> None:
    """UsageError that lists the problems of the file `where`, which is a `what`, if there are any."""
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError(f"the {what} {where} has {count}:{listed}", hint=hint)


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected text, got {value!r}")
    return value


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list of texts, got {value!r}")
    return tuple(text(item) for item in value)


def names(value: Any) -> tuple[str, ...] | None:
    """Names that differ; None for ALL of them."""
    if value in (ALL, NONE):
        return None if value == ALL else ()
    if not isinstance(value, list):
        raise ValueError(f"expected {ALL}, {NONE} or a list of names, got {value!r}")
    listed = texts(value)
    if len(set(listed)) < len(listed):
        raise ValueError(f"names one twice: {', '.join(listed)}")
    return listed


def names_to_json(value: tuple[str, ...] | None) -> str | list[str]:
    """As `names` reads it."""
    return ALL if value is None else list(value) or NONE


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)


def positive(value: Any) -> float:
    if number(value) <= 0:
        raise ValueError(f"expected a number above 0, got {value!r}")
    return float(value)


def integer(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, got {value!r}")
        return value

    return check


def optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            close = nearest(value, choices) if isinstance(value, str) else ""
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}{close}")
        return str(value)

    return check
