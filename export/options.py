"""Options of a format as data, from which a command line makes its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """`name` is as Python has it: `val_fraction` is --val-fraction on a command line.

    Of `choices` the value is one, else a `kind`: str, int, float, or bool for a flag. A `metavar` says what
    is meant. `many` may be given several times, and are a tuple.
    """

    name: str
    help: str
    default: Any = None
    choices: tuple[str, ...] = ()
    kind: type = str
    metavar: str | None = None
    many: bool = False
