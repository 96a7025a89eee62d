"""Which rows are which episode: meta/episode_ends has the row after the last one of each.

Legend: E episodes.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.zarr.arrays import Rows
from robot_foundry.ingest.sources.zarr.metadata import Described
from robot_foundry.ingest.sources.zarr.places import ENDS, Place
from robot_foundry.shards.robot.names import MAX_FRAMES

MOST_EPISODES = 10_000_000


@dataclass(frozen=True)
class Span:
    """Rows `start` to `stop` (exclusive) of an episode; `reason` is why they are none, None if they are."""

    start: int
    stop: int
    reason: str | None = None


def read_spans(place: Place, ends: Described) -> list[Span]:
    """Of each episode. Refused if the array of ends is none."""
    if len(ends.shape) != 1 or ends.dtype.kind not in "iu":
        raise Refused(f"its '{ENDS}' is {ends.dtype.name} of shape {list(ends.shape)}, and rows are counted")
    if ends.shape[0] > MOST_EPISODES:
        raise Refused(f"its '{ENDS}' has {ends.shape[0]} numbers, and {MOST_EPISODES} are read at most")
    ends_E = Rows(place, ends, 0, ends.shape[0]).read()
    spans, last = [], 0
    greatest, is_lost = 0, False
    for stop in map(int, ends_E):
        reason = None
        if stop <= last:
            reason = f"'{ENDS}' says that it ends at row {stop}, and that the one before ends at {last}"
        elif is_lost:
            reason = f"'{ENDS}' does not rise before it, so nothing says where it begins"
        elif stop - last > MAX_FRAMES:
            reason = f"it has {stop - last} rows, and an episode holds {MAX_FRAMES} at most"
        spans.append(Span(last, stop, reason))
        is_lost = stop < max(greatest, last)
        greatest, last = max(greatest, stop), stop
    return spans
