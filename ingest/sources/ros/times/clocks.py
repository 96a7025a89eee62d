"""When messages were: by their headers or by their receipt; and what both tell of a stream.

Legend: M messages of one stream in the order in which they were received. Times are int64 ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.options import AUTO, HEADER, RECEIVE

Times = NDArray[np.int64]
NANOSECONDS = 1_000_000_000
# Networks swap messages of less than this; a clock that goes back further was set.
LARGEST_SWAP_NS = NANOSECONDS
# Stamps further than this from the receipt are of another clock: since power on, or of a simulation.
LARGEST_DELAY_NS = 10 * NANOSECONDS
# A pause of this many median steps holds lost messages.
LOST_STEPS = 1.5


@dataclass(frozen=True)
class Clocked:
    """A stream on one clock: `times` [K] rise or stay equal, `places` [K] are those of the messages in M.

    `measures` are JSON values, `remark` what the user should know of the choice of the clock.
    """

    times: Times
    places: NDArray[np.int64]
    measures: dict[str, Any]
    remark: str | None = None

    @property
    def step_ns(self) -> float:
        """The median step between moments; 0 where there is one alone."""
        steps = _moved(self.times)
        return float(np.median(steps)) if len(steps) else 0.0


def clocked(stamps_M: Times, received_M: Times, clock: str, name: str) -> Clocked:
    """The stream by the clock that is asked for; `auto` takes headers where they can be believed.

    Messages that come after newer ones are put in their place. Those more than a second behind the newest,
    after a clock was set back, are left out: nothing tells to which moment they belong.
    """
    why_not = _why_no_stamps(stamps_M, received_M)
    if clock == HEADER and not stamps_M.all():
        raise Refused(
            f"{int((stamps_M == 0).sum())} of {len(stamps_M)} messages of its stream '{name}' lack a time in "
            "their headers: `--set content.ros.clock=receive` goes by their receipt"
        )
    use_receipt = clock == RECEIVE or (clock == AUTO and why_not is not None)
    times_M = received_M if use_receipt else stamps_M
    newest_M = np.maximum.accumulate(times_M) if len(times_M) else times_M
    behind_M = newest_M - times_M
    kept = np.flatnonzero(behind_M <= LARGEST_SWAP_NS)
    places = kept[np.argsort(times_M[kept], kind="stable")]
    times = times_M[places]
    measures = {
        "clock": RECEIVE if use_receipt else HEADER,
        "messages": len(times_M),
        "late": int((behind_M > 0).sum()),
        "set_back": len(times_M) - len(kept),
        **_steps(times),
        **_delays(stamps_M, received_M),
    }
    clauses = []
    if use_receipt and clock == AUTO and stamps_M.any():
        clauses.append(f"goes by the receipt of its messages, for {why_not}")
    if len(kept) < len(times_M):
        clauses.append("lacks messages, for its clock is set back by more than a second")
    if measures["late"] > measures["set_back"]:
        clauses.append("has messages that come after newer ones")
    if measures["lost"]:
        clauses.append("has pauses, as where messages are lost")
    return Clocked(times, places, measures, "; it ".join(clauses) or None)


def _why_no_stamps(stamps_M: Times, received_M: Times) -> str | None:
    """Why the times in headers cannot be gone by, or None."""
    if not len(stamps_M) or not stamps_M.any():
        return "their headers have no time"
    if not stamps_M.all():
        return "some of their headers have no time"
    if (np.maximum.accumulate(stamps_M) - stamps_M).max() > LARGEST_SWAP_NS:
        return "the clock of their headers is set back by more than a second"
    if abs(float(np.median(received_M - stamps_M))) > LARGEST_DELAY_NS:
        return "the times of their headers are of another clock"
    return None


def _steps(times: Times) -> dict[str, Any]:
    """Rate, jitter (the 95th percentile of how far steps are from the median), pauses and what they lost."""
    steps = _moved(times)
    if not len(steps):
        return {"rate_hz": None, "jitter_ms": None, "longest_step_ms": None, "lost": 0}
    median_ns = float(np.median(steps))
    pauses = steps[steps > LOST_STEPS * median_ns]
    return {
        "rate_hz": round(NANOSECONDS / median_ns, 3),
        "jitter_ms": round(float(np.percentile(np.abs(steps - median_ns), 95)) / 1e6, 3),
        "longest_step_ms": round(float(steps.max()) / 1e6, 3),
        "lost": int((np.rint(pauses / median_ns) - 1).sum()),
    }


def _moved(times: Times) -> Times:
    """The steps from one moment to the next: a message that is there twice is no step."""
    steps: Times = np.diff(times)
    return steps[steps > 0]


def _delays(stamps_M: Times, received_M: Times) -> dict[str, Any]:
    """How long after their stamps messages were received, and by how much one clock runs faster."""
    has_M = stamps_M != 0
    if not has_M.any():
        return {"delay_ms": None, "drift_ppm": None}
    stamps, received = stamps_M[has_M], received_M[has_M]
    delays = (received - stamps).astype(np.float64)
    least, median, most = (round(float(value) / 1e6, 3) for value in np.percentile(delays, (0, 50, 100)))
    since = (stamps - stamps[0]).astype(np.float64)
    since -= since.mean()
    spread = float((since * since).sum())
    # The slope of a straight line through the delays.
    drift = None if spread == 0 else round(float((since * (delays - delays.mean())).sum()) / spread * 1e6, 1)
    return {"delay_ms": [least, median, most], "drift_ppm": drift}
