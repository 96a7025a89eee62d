"""Why something of a source is no sample, or no longer one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unusable:
    """Samples that cannot be taken: the place of the first, as its `id` would have it, why, and how many.

    `reason` is one sentence about 'it', which names no content, so that equal reasons can be counted. Where
    a source breaks off, nobody knows how many are lost: they count as one.
    """

    id: str
    reason: str
    count: int = 1


class Broken(Exception):
    """A stream of bytes ends before its own end; what came before is whole. The message is the reason."""


def shown(text: str, longest: int) -> str:
    """On one line, of a bounded length, and with nothing in it that a terminal or UTF-8 would not take."""
    cut = text if len(text) <= longest else f"{text[:longest]}…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
