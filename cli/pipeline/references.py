"""What the text of a stage refers to: `${tokenizer.vocab}` is a value, `{words}` the product of a stage.

Values are written as dvc writes them, so that one text serves both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from robot_foundry.runtime.errors import nearest

OUT = "out"  # {out} is what the stage itself makes
NAME = r"[a-z][a-z0-9_-]*"
_VALUE = re.compile(r"\$\{([^{}]*)\}")
_PRODUCT = re.compile(rf"(?<!\$)\{{({NAME})\}}")


def flattened(values: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """{'a': {'b': 1}} → {'a.b': '1'}. Truth values are written as YAML has them."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{path}{name}.")
        else:
            flat[f"{path}{name}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return flat


def values_in(text: str) -> list[str]:
    """Names of the values that a text reads."""
    return [name.strip() for name in _VALUE.findall(text)]


def products_in(text: str) -> list[str]:
    """Names of the stages whose products a text names, its own as `out`."""
    return _PRODUCT.findall(text)


def unknown_values(text: str, flat: Mapping[str, str]) -> Iterator[str]:
    """A line for each value that a text reads and that is not there."""
    for name in values_in(text):
        if name not in flat:
            yield f"there is no value ${{{name}}}{nearest(name, flat)}"


def with_values(text: str, flat: Mapping[str, str]) -> str:
    """The text with its values written out."""
    return _VALUE.sub(lambda found: flat[found[1].strip()], text)


def with_products(text: str, places: Mapping[str, str]) -> str:
    """The text with where products lie in the place of their names."""
    return _PRODUCT.sub(lambda found: places[found[1]], text)


def unused(flat: Mapping[str, str], texts: Iterable[str]) -> list[str]:
    """Names of values that no text reads."""
    read = {name for text in texts for name in values_in(text)}
    return [name for name in flat if name not in read]
