"""Times of frames: those that a source measured, or by its rate where it has none.

Legend: N frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.spec import Content

NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass(frozen=True)
class Clock:
    """`timestamp_N` is float64 seconds since the first frame, which was `start_ns` after 1970, if known."""

    fps: float
    fps_source: str
    start_ns: int | None
    timestamp_N: NDArray[np.float64]


def clock_of(
    measured: tuple[str, NDArray[Any], str] | None, num_frames: int, content: Content, *, epoch: bool = False
) -> Clock:
    """From the source's (name, times, unit s, ms, us or ns), or None; since 1970 if `epoch`.

    The rate is the spec's, else that of the median step, else the spec's default. Refused for times that are
    not rising, one a frame.
    """
    if measured is None:
        stated = content.fps
        fps, fps_source = (content.default_fps, "default") if stated is None else (stated, "spec")
        return Clock(fps, fps_source, None, np.arange(num_frames, dtype=np.float64) / fps)
    name, values, unit = measured
    times_N = np.asarray(values)
    times_N = times_N.reshape(-1) if times_N.shape == (num_frames, 1) else times_N
    is_time = times_N.dtype.kind in "iuf" and times_N.shape == (num_frames,)
    if not is_time or not np.isfinite(times_N).all() or (times_N[1:] < times_N[:-1]).any():
        raise Refused(f"its array '{name}' does not hold rising times, one a frame")
    # Subtracted in the source's own type: float64 does not hold nanoseconds since 1970.
    since_N = (times_N - times_N[0]).astype(np.float64) / (1_000_000_000 // NANOSECONDS[unit])
    start_ns = _nanoseconds(times_N[0], unit) if epoch else None
    if content.fps is not None:
        return Clock(content.fps, "spec", start_ns, since_N)
    step_s = float(np.median(np.diff(since_N))) if num_frames > 1 else 0.0
    if step_s <= 0:
        return Clock(content.default_fps, "default", start_ns, since_N)
    # Of times in a wrong unit the rate may be so low that three decimals are none.
    return Clock(round(1.0 / step_s, 3) or float(f"{1.0 / step_s:.3g}"), name, start_ns, since_N)


def _nanoseconds(value: Any, unit: str) -> int:
    return (
        int(value) * NANOSECONDS[unit]
        if value.dtype.kind in "iu"
        else round(float(value) * NANOSECONDS[unit])
    )
