"""Language that a source repeats at each step, as spans of steps with one text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from robot_foundry.ingest.sources.base import Text


def spans(path: str, lines: Sequence[Text]) -> Iterator[tuple[int, int, str, Text]]:
    """Runs of steps with one text that is not blank, under its path: (start, end (exclusive), path, text)."""
    start = 0
    for text, run in groupby(lines):
        end = start + len(list(run))
        if not isinstance(text, str) or text.strip():
            yield start, end, path, text
        start = end
