"""A pair: pictures, and what is said about them: captions, or the turns of a conversation.

In the JSON of a pair and in tables, `<image>` in the text of a turn stands for a picture; of a pair with
captions alone, the pictures come before the caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_PICTURES = 16
PLACE = "<image>"
SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Turn:
    """What one side of a conversation says; `role` is one of ROLES."""

    role: str
    text: str


@dataclass(frozen=True)
class Picture:
    """A picture by its header.

    member    name of its member in the tar
    encoding  jpg, png or webp
    height, width  of the upright picture, in pixels: with the orientation that its EXIF data says
    tar       of a picture that lies in an adopted tar the key of that tar, None in the shard's own
    """

    member: str
    encoding: str
    height: int
    width: int
    num_bytes: int
    tar: str | None = None


@dataclass(frozen=True)
class Pair:
    """One sample.

    id        its place in the source: a line or row number, a key of a tar's members
    pictures  0 … MOST_PICTURES
    captions  by the name that the source has for each; several say the same in other words
    turns     a conversation with as many PLACEs as there are pictures; () where there are captions alone
    metadata  what else the source says of it
    """

    id: str
    pictures: tuple[Picture, ...] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def num_places(turns: Iterable[Turn]) -> int:
    """How often PLACE stands in the turns."""
    return sum(turn.text.count(PLACE) for turn in turns)


def with_places(turns: Sequence[Turn], num_pictures: int) -> tuple[Turn, ...] | None:
    """Turns without a PLACE, with one for each picture, on lines of their own before the first user's text.

    None where no turn is of the user. What is learnt and what is asked follow this one rule.
    """
    first = next((number for number, turn in enumerate(turns) if turn.role == USER), None)
    if first is None:
        return None
    text = f"{PLACE}\n" * num_pictures + turns[first].text
    return (*turns[:first], Turn(USER, text), *turns[first + 1 :])
