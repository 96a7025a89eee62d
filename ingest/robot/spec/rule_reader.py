"""Strict reading of the rules of a mapping: instructions, success and flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from robot_foundry.ingest.spec import section as checks


def _texts_by_name(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"expected environment names and texts, got {value!r}")
    return {checks.text(name): checks.text(text) for name, text in value.items()}


@dataclass(frozen=True)
class Rule:
    """A form of rule: the keys that it has, and those that it may have."""

    required: dict[str, Callable[[Any], Any]]
    optional: dict[str, Callable[[Any], Any]] = field(default_factory=dict)

    def fits(self, rule: dict[str, Any]) -> bool:
        return set(self.required) <= set(rule) <= set(self.required) | set(self.optional)

    def __str__(self) -> str:
        keys = [f"{name}: …" for name in self.required]
        return "{" + ", ".join(keys) + "".join(f"[, {name}: …]" for name in self.optional) + "}"


def _encoding(value: Any) -> str:
    name = checks.text(value)
    try:
        b"a".decode(name)
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(f"{name!r} is not an encoding of texts such as latin-1 or gbk") from None
    return name


INSTRUCTION_RULES = (
    Rule({"spans": checks.text}, {"encoding": _encoding}),
    Rule({"attr": checks.text}, {"json": checks.text, "encoding": _encoding}),
    Rule({"text": checks.text}),
    Rule({"by_env": _texts_by_name}),
    Rule({"code_points": checks.text}),
)
SUCCESS_RULES = (
    Rule({"attr": checks.text}, {"json": checks.text}),
    Rule({"attr": checks.text, "success": checks.text, "failure": checks.text}),
    Rule({"key": checks.text, "at_least": checks.number}),
)
FLAG_RULES = (
    Rule({"key": checks.text, "is": checks.boolean}),
    Rule({"key": checks.text, "equals": checks.number}),
)


def rules(forms: tuple[Rule, ...]) -> Callable[[Any], tuple[dict[str, Any], ...]]:
    """A check of one rule, or a list, each of one of these forms."""
    expected = " or ".join(map(str, forms))

    def check(value: Any) -> tuple[dict[str, Any], ...]:
        read = []
        for rule in value if isinstance(value, list) else [value]:
            form = next((f for f in forms if isinstance(rule, dict) and f.fits(rule)), None)
            if form is None:
                raise ValueError(f"expected {expected}, got {rule!r}")
            checks_by_key = {**form.required, **form.optional}
            read.append({name: check(rule[name]) for name, check in checks_by_key.items() if name in rule})
        return tuple(read)

    return check
