"""Times of frames: those that a source measured, or by its rate where it has none.

Legend: N frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused

# No recorder has more frames a second than one in this time.
FINEST_S = 1e-4
MOST_FPS = 1e6
LONGEST_EXAMPLE = 40
# A step is known to this share of itself; times that are rounded to more are taken over several frames.
ROUNDED = 0.02
# Where files of robosuite and robomimic state their rate, and what is told of a rate there that is none.
CONTROL_FREQ = "env_args.env_kwargs.control_freq"
NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


@dataclass(frozen=True)
class Clock:
    """`timestamp_N` is float64 seconds since the first frame, which was `start_ns` after 1970, if known."""

    fps: float
    fps_source: str
    start_ns: int | None
    timestamp_N: NDArray[np.float64]


def clock_of(
    measured: tuple[str, NDArray[Any], str, str] | None,
    num_frames: int,
    content: Content,
    *,
    epoch: bool = False,
) -> Clock:
    """From the source's (name, times, unit s, ms, us or ns, settings that go without them), or None.

    They are since 1970 if `epoch`, else since any moment.

    The rate is the spec's, else that of the median step, else the spec's default. Refused for times that are
    not rising, one a frame, or too coarse to tell frames apart.
    """
    if measured is None:
        stated = content.fps
        fps, fps_source = (content.default_fps, "default") if stated is None else (stated, "spec")
        return Clock(fps, fps_source, None, np.arange(num_frames, dtype=np.float64) / fps)
    name, values, unit, without = measured
    times_N = np.asarray(values)
    times_N = times_N.reshape(-1) if times_N.shape == (num_frames, 1) else times_N
    if why := why_not_times(times_N, num_frames, NANOSECONDS[unit] * 1e-9):
        raise Refused(f"its array '{name}' does not hold rising times, one a frame: {why} ({without})")
    # Subtracted in the source's own type: float64 does not hold nanoseconds since 1970.
    since_N = (times_N - times_N[0]).astype(np.float64) / (1_000_000_000 // NANOSECONDS[unit])
    start_ns = _nanoseconds(times_N[0], unit) if epoch else None
    if content.fps is not None:
        return Clock(content.fps, "spec", start_ns, since_N)
    if num_frames == 1:
        return Clock(content.default_fps, "default", start_ns, since_N)
    grain_s = _grain(times_N) * NANOSECONDS[unit] * 1e-9
    step_s = _step(since_N, grain_s)
    # Of times in a wrong unit the rate may be so low that three decimals are none.
    return Clock(round(1.0 / step_s, 3) or float(f"{1.0 / step_s:.3g}"), name, start_ns, since_N)


def rate_in(stated: Any) -> float | None:
    """The frames a second that a JSON value states: a number, as text too, or a list of one; None if none."""
    if isinstance(stated, list) and len(stated) == 1:
        return rate_in(stated[0])
    if isinstance(stated, bool) or not isinstance(stated, int | float | str):
        return None
    try:
        rate = float(stated)
    except (ValueError, OverflowError):
        return None
    return rate if 0 < rate < MOST_FPS else None


def example(stated: Any) -> str:
    """A JSON value as a sentence shows it, shortened."""
    text = repr(stated)
    return text if len(text) <= LONGEST_EXAMPLE else f"{text[:LONGEST_EXAMPLE]}…"


def why_not_times(times_N: NDArray[Any], num_frames: int, unit_s: float) -> str | None:
    """Why these numbers, in units of `unit_s` seconds, are no times of the frames; None if they are."""
    if times_N.dtype.kind not in "iuf" or times_N.shape != (num_frames,):
        return f"it is {times_N.dtype} of shape {list(times_N.shape)}, for {num_frames} frames"
    for what, wrong_N in (
        ("is not finite", ~np.isfinite(times_N)),
        ("is before the one of the frame before", np.append(False, times_N[1:] < times_N[:-1])),
    ):
        if wrong_N.any():
            return f"the time of frame {int(wrong_N.argmax())} {what}"
    if num_frames == 1:
        return None
    step = (float(times_N[-1]) - float(times_N[0])) / (num_frames - 1)
    grain = _grain(times_N)
    if step < grain and grain * unit_s >= FINEST_S:
        return (
            f"they are {times_N.dtype}, which at {float(times_N[-1]):.4g} tells no times apart that are less "
            f"than {grain * unit_s:.3g} s from each other"
        )
    return f"all of them are {float(times_N[0]):.4g}" if step == 0 else None


def _grain(times_N: NDArray[Any]) -> float:
    """The least step that the type can make at these numbers."""
    return float(np.spacing(np.abs(times_N).max())) if times_N.dtype.kind == "f" else 1.0


def _step(since_N: NDArray[np.float64], grain_s: float) -> float:
    """The median step; over several frames where the type rounds one, and the mean where most are 0."""
    mean_s = float(since_N[-1]) / (len(since_N) - 1)
    frames = min(max(1, ceil(grain_s / (ROUNDED * mean_s))), len(since_N) - 1)
    step_s = float(np.median(since_N[frames:] - since_N[:-frames])) / frames
    return step_s if step_s > 0 else mean_s


def _nanoseconds(value: Any, unit: str) -> int:
    return (
        int(value) * NANOSECONDS[unit]
        if value.dtype.kind in "iu"
        else round(float(value) * NANOSECONDS[unit])
    )
