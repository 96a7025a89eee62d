"""What goes wrong while a bag is read, and is counted so that the rest of it can go on."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field

# What readers raise at bytes that are not as they should be. What a mistake in code raises is none of it.
BROKEN: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    RuntimeError,
    ValueError,
    struct.error,
)

# And what is raised besides where a bag's own definitions decide which kinds of values there are: by what
# rosbags makes of them, and at fields that are of other kinds than the name of their type says.
MISTYPED: tuple[type[Exception], ...] = (*BROKEN, AttributeError, TypeError)


@dataclass
class Damage:
    """Numbers of messages that are lost, by reason in one sentence; `unknown` where nobody knows how many."""

    lost: Counter[str] = field(default_factory=Counter)
    unknown: list[str] = field(default_factory=list)

    def add(self, reason: str, count: int | None) -> None:
        if count is None:
            self.unknown.append(reason)
        elif count:
            self.lost[reason] += count

    @property
    def num_lost(self) -> int:
        return self.lost.total()


def in_words(error: Exception) -> str:
    """What an error says, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")
