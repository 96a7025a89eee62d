"""Checks of clocks, of readings that were not updated and of cameras; rules.py lists them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from robot_foundry.checks import remedies
from robot_foundry.checks.evidence import Evidence, Tally
from robot_foundry.checks.finding import Finding, with_examples
from robot_foundry.checks.measures_streams import FASTEST_HZ, SLOWEST_HZ
from robot_foundry.checks.remedies import Remedy


def rates(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Rates that no robot is recorded at, and those that are not the declared ones."""
    unlikely = [tally for _, _, tally in evidence.of("frequency") if tally.episodes]
    for tally in unlikely:
        rate = math.sqrt(tally.low * tally.high)
        yield with_examples(
            Finding(
                "rate",
                "timestamp",
                f"frames come at {tally.low:,.4g} … {tally.high:,.4g} Hz, where robots are recorded at "
                f"{SLOWEST_HZ:g} to {FASTEST_HZ:,g} Hz",
                rate,
                remedies.CLOCK_UNIT,
                # By thousands to 1 … 1,000 Hz, as the units of time are apart.
                remedy.clock_unit(1000.0 ** math.floor(math.log10(rate) / 3)),
            ),
            tally,
        )
    for _, _, tally in evidence.of("rate"):
        if tally.episodes and not unlikely:
            declared = tally.sums[1] / tally.sums[0]
            yield with_examples(
                Finding(
                    "rate",
                    "timestamp",
                    f"the timestamps run at {tally.low:.4g} … {tally.high:.4g} Hz, the declared rate is "
                    f"{declared:.4g} Hz",
                    tally.worst[0][0],
                    remedies.RATE,
                    remedy.clock_unit(math.sqrt(tally.low * tally.high) / declared),
                ),
                tally,
            )


def clock(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Timestamps that do not rise, frames that are missing, and intervals that differ."""
    judged: dict[str, tuple[str, Callable[[Tally], str], Callable[[Tally], str]]] = {
        "backward": (
            "rate",
            lambda t: (
                f"{int(sum(t.sums)):,} timestamps are not later than the one before "
                f"({int(t.sums[1]):,} equal it)"
            ),
            lambda t: remedies.CLOCK_ORDER if t.sums[0] else remedies.CLOCK_GRAIN,
        ),
        "gaps": (
            "gaps",
            lambda t: (
                f"{int(t.sums[1]):,} frames are missing among {int(t.sums[0]):,} intervals; the longest gap "
                f"is {t.high:.3g} s"
            ),
            lambda _: remedies.CUT_AT_GAPS,
        ),
        "jitter": (
            "jitter",
            lambda t: f"one interval in twenty differs from the period by {t.high:.2f} periods or more",
            lambda _: remedies.RESAMPLE,
        ),
    }
    for measure, (check, say, mended_by) in judged.items():
        for _, _, tally in evidence.of(measure):
            if tally.episodes:
                worst = tally.worst[0][0]
                yield with_examples(Finding(check, "timestamp", say(tally), worst, mended_by(tally)), tally)


def frozen(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Readings that keep their bits while the arm moves, and joints that never move."""
    quantities = {target for _, target, tally in evidence.of("frozen") if tally.episodes}
    for _, target, tally in evidence.of("frozen"):
        # A whole quantity that is frozen says more than each of its dims.
        if tally.episodes and target.rpartition(".")[0] not in quantities:
            yield with_examples(
                Finding(
                    "frozen",
                    f"state {target}",
                    f"{target} of the state keeps its exact value for up to {tally.worst[0][0]:.3g} s "
                    f"while the arm moves, in {tally.episodes} of {int(tally.sums[0])} episodes",
                    tally.worst[0][0],
                    remedies.LEAVE_OUT_FROZEN,
                ),
                tally,
            )
    for _, target, tally in evidence.of("still"):
        # A joint may rest for an episode, and a coarse encoder then gives equal values.
        is_reported = target in quantities or target.rpartition(".")[0] in quantities
        if tally.episodes and tally.episodes * 2 >= tally.sums[0] and not is_reported:
            yield with_examples(
                Finding(
                    "frozen",
                    f"state {target}",
                    f"{target} of the state never changes in {tally.episodes} of {int(tally.sums[0])} "
                    "episodes while the other joints move",
                    tally.episodes / tally.sums[0],
                    remedies.STILL_JOINT,
                ),
                tally,
            )


def cameras(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Cameras that give one image while an arm moves."""
    for _, camera, tally in evidence.of("camera"):
        if tally.episodes:
            yield with_examples(
                Finding(
                    "frozen_camera",
                    f"camera {camera}",
                    f"camera {camera} gives the same image for up to {tally.worst[0][0]:.3g} s while an arm "
                    f"moves, in {tally.episodes} of {int(tally.sums[0])} episodes",
                    tally.worst[0][0],
                    remedies.LEAVE_OUT_CAMERA,
                ),
                tally,
            )
