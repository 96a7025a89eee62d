"""The data checks: what in states, actions, clocks and images is probably not what its spec says.

Pure judgement of `Evidence` (measures.py) and `Statistics`; used alike when a version is made and when it is
validated. Each `Finding` says what and where, a number, the likely cause, and the override that would mend
it. docs/checks.md lists the checks; every threshold is a constant here, in checks_motion.py
checks_scale.py, or where it is measured, with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from robot_foundry.checks import motion, scale
from robot_foundry.checks.evidence import Evidence, Tally
from robot_foundry.checks.finding import Finding, with_examples
from robot_foundry.checks.measures_streams import FASTEST_HZ, SLOWEST_HZ
from robot_foundry.checks.remedies import Remedy
from robot_foundry.normalization.normalizer import Normalizer
from robot_foundry.normalization.statistics import Statistics

# A change of what is found where the data are the same.
VERSION = 2

# Every check, in the order of docs/checks.md.
CHECKS = (
    "gripper_polarity", "gripper_range", "rotation_orthonormal", "rotation_jump", "rotation_agreement",
    "motion", "lag", "scale", "velocity_unit", "magnitude", "rate", "gaps", "jitter", "frozen",
    "frozen_camera", "outside_band", "invalid_rows",
)  # fmt: skip

# By construction 2 % lie outside the 1 … 99 % band; beyond 1.5 bands a gaussian has 0.05 %.
CLIPPED_SHARE = 0.01
# Sources leave out a few steps in a hundred, as DROID does those that were skipped; a tenth is a fault.
INVALID_SHARE = 0.1


def findings(
    evidence: Evidence,
    statistics: Mapping[str, Statistics] | None = None,
    mapping: Mapping[str, Any] | None = None,
    content: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """What is probably wrong in the dataset, in a fixed order.

    `statistics` are of the columns (`state`, `action.<stream>`) in absolute terms. `mapping` and
    `content` are those of the spec as JSON; with them overrides can be told in full.
    """
    remedy = Remedy(mapping or {}, content or {})
    of_motion = (motion.gripper, motion.opening, motion.stuck, motion.rotations, motion.poses)
    of_scale = (motion.motions, motion.lags, scale.units, scale.openings, _rates)
    found = [finding for check in (*of_motion, *of_scale) for finding in check(evidence, remedy)]
    # What follows in proportion has the right columns and axes: the scale alone is wrong.
    scaled = {finding.where for finding in found if finding.check == "scale"}
    found = [finding for finding in found if finding.check != "motion" or finding.where not in scaled]
    return [*found, *_clock(evidence), *_frozen(evidence), *_cameras(evidence), *_spread(statistics or {})]


def _rates(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
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
                "give the unit in which the source has its times (s, ms, us, ns), or the key of its clock",
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
                    "give the rate of the recording in the source, or see that timestamps are in seconds",
                    remedy.clock_unit(math.sqrt(tally.low * tally.high) / declared),
                ),
                tally,
            )


def _clock(evidence: Evidence) -> Iterator[Finding]:
    judged: dict[str, tuple[str, Callable[[Tally], str], Callable[[Tally], str]]] = {
        "backward": (
            "rate",
            lambda t: (
                f"{int(sum(t.sums)):,} timestamps are not later than the one before "
                f"({int(t.sums[1]):,} equal it)"
            ),
            lambda t: (
                "sort the recording by its own clock, or take the time of receipt"
                if t.sums[0]
                else "take a clock that is read at each frame, and of a type that tells frames apart"
            ),
        ),
        "gaps": (
            "gaps",
            lambda t: (
                f"{int(t.sums[1]):,} frames are missing among {int(t.sums[0]):,} intervals; the longest gap "
                f"is {t.high:.3g} s"
            ),
            lambda _: "leave these episodes out, or cut them at the gaps: an action across one is longer",
        ),
        "jitter": (
            "jitter",
            lambda t: f"one interval in twenty differs from the period by {t.high:.2f} periods or more",
            lambda _: "resample, or train at a lower rate: which image is of which state is uncertain",
        ),
    }
    for measure, (check, say, remedy) in judged.items():
        for _, _, tally in evidence.of(measure):
            if tally.episodes:
                worst = tally.worst[0][0]
                yield with_examples(Finding(check, "timestamp", say(tally), worst, remedy(tally)), tally)


def _frozen(evidence: Evidence) -> Iterator[Finding]:
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
                    "leave these episodes out (--where); a reading was not updated",
                ),
                tally,
            )
    for _, target, tally in evidence.of("still"):
        # A joint may rest for an episode, and a coarse encoder then gives equal values.
        known = target in quantities or target.rpartition(".")[0] in quantities
        if tally.episodes and tally.episodes * 2 >= tally.sums[0] and not known:
            yield with_examples(
                Finding(
                    "frozen",
                    f"state {target}",
                    f"{target} of the state never changes in {tally.episodes} of {int(tally.sums[0])} "
                    "episodes while the other joints move",
                    tally.episodes / tally.sums[0],
                    "see that the column is the joint's; a joint that is locked may stay",
                ),
                tally,
            )


def _cameras(evidence: Evidence) -> Iterator[Finding]:
    for _, camera, tally in evidence.of("camera"):
        if tally.episodes:
            yield with_examples(
                Finding(
                    "frozen_camera",
                    f"camera {camera}",
                    f"camera {camera} gives the same image for up to {tally.worst[0][0]:.3g} s while an arm "
                    f"moves, in {tally.episodes} of {int(tally.sums[0])} episodes",
                    tally.worst[0][0],
                    "leave these episodes out (--where), or the camera (content.cameras)",
                ),
                tally,
            )


def _spread(statistics: Mapping[str, Statistics]) -> Iterator[Finding]:
    """What normalisation would clip, and rows that hold nothing."""
    for column, of_column in statistics.items():
        normalizer = Normalizer.fit(of_column)
        low, high = normalizer.percentiles
        for dim, scaling in zip(of_column.space, normalizer.scalings, strict=True):
            if scaling.clipped > CLIPPED_SHARE:
                yield Finding(
                    "outside_band",
                    f"{column} {dim.name}",
                    f"{scaling.clipped:.1%} of {dim.name} of {column} lies beyond {normalizer.clip:g} times "
                    f"its band of {low:g} … {high:g} % and would be clipped",
                    scaling.clipped,
                    "look at its distribution: foundry-data stats REF --plot FILE",
                )
        # All dims of a row are invalid together.
        bad, total = max(
            ((d.num_nan + d.num_posinf + d.num_neginf, d.count) for d in of_column.digests), default=(0, 0)
        )
        if bad > INVALID_SHARE * (bad + total):
            yield Finding(
                "invalid_rows",
                column,
                f"{bad / (bad + total):.1%} of the rows of {column} are invalid",
                bad / (bad + total),
                "see which key holds NaN, in frames whose flags have 8 or 16; masks leave them out",
            )
