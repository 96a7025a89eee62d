"""Other readings of the same numbers, and which of them the motion proves: displacements or targets, the
other order of a quaternion, rows or columns; rules.py lists the checks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robot_foundry.checks import remedies
from robot_foundry.checks.evidence import Evidence, Tally
from robot_foundry.checks.finding import Finding
from robot_foundry.checks.following import FEWEST_OBEYED, FEWEST_ROWS, FOLLOWS
from robot_foundry.checks.meaning.measures import READINGS, WRAP
from robot_foundry.checks.remedies import Remedy

# Another reading is proven where it leaves less than half of the distance.
NEARER = 0.5
# By so much it must follow better than the reading that the spec gives; both are correlations.
CLEARER = 0.3
# What half a turn about each of three axes becomes in radians read as degrees.
GREATEST_LEAN = WRAP * math.sqrt(3) / 2
# Sums of each of READINGS: three products in the base, three in the tool, an angle.
_WIDTH = 7


@dataclass(frozen=True)
class Reading:
    """Another reading of an orientation that the motion proves: `said` ends the sentence of a finding."""

    said: str
    overrides: tuple[str, ...]


def forms(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Displacements that are read as targets, and targets that are read as displacements."""
    for column, quantity, tally in evidence.of("form"):
        apart, alone, _, frames = tally.sums[6:]
        level, step = _correlation(tally.sums[:3]), _correlation(tally.sums[3:6])
        displaces = remedy.displaces(column, quantity)
        if frames < FEWEST_ROWS or displaces is None:
            continue
        if not displaces and level < FOLLOWS <= step and step - level > CLEARER:
            yield _displacements(remedy, column, quantity, step)
        elif displaces and alone < NEARER**2 * apart:
            yield _targets(
                remedy, column, quantity, math.sqrt(alone / frames), math.sqrt(apart / frames), "m"
            )
    for column, part, tally in evidence.of("turn_form"):
        base, tool = _correlation(tally.sums[:3]), _correlation(tally.sums[3:6])
        frames = tally.sums[-1]
        apart, before, after, onto_base, onto_tool = (angle / max(frames, 1.0) for angle in tally.sums[6:-1])
        quantity = f"{part}.ee_rot6d"
        displaces = remedy.displaces(column, quantity)
        if frames < FEWEST_ROWS or displaces is None:
            continue
        if not displaces and max(base, tool) >= FOLLOWS and min(onto_base, onto_tool) < NEARER * apart:
            yield _displacements(remedy, column, quantity, max(base, tool))
        elif displaces and min(before, after) < NEARER * apart:
            yield _targets(remedy, column, quantity, min(before, after), apart, "rad")


def _displacements(remedy: Remedy, column: str, quantity: str, follows: float) -> Finding:
    return Finding(
        "form",
        f"{column} {quantity}",
        f"displacements are read as absolute: the numbers of {quantity} of {column} are followed as steps "
        f"(correlation {follows:.2f}) and are not where the state goes",
        follows,
        remedies.DISPLACEMENTS_AS_TARGETS,
        remedy.other_form(column, quantity),
    )


def _targets(remedy: Remedy, column: str, quantity: str, alone: float, apart: float, unit: str) -> Finding:
    unit = "rad" if quantity.partition(".")[2].startswith("joint") else unit
    return Finding(
        "form",
        f"{column} {quantity}",
        f"targets are read as displacements: the numbers of {quantity} of {column} are by themselves "
        f"{alone:.2g} {unit} from where the state goes, and with the state on them {apart:.2g} {unit}",
        apart,
        remedies.TARGETS_AS_DISPLACEMENTS,
        remedy.other_form(column, quantity),
    )


def other_reading(evidence: Evidence, remedy: Remedy, column: str, part: str) -> Reading | None:
    """The reading of an orientation, of the state or of this action, by which the two agree as they do not
    now."""
    tally = next((t for c, p, t in evidence.of("reading") if (c, p) == (column, part)), None)
    if tally is None or tally.sums[-1] < FEWEST_ROWS:
        return None
    quantity = f"{part}.ee_rot6d"
    frame = remedy.frame(column, quantity)
    proven = []
    for place, side in enumerate(("state", column)):
        named = remedy.other_convention(side, part)
        if named is None:
            continue
        name, said = named
        sums = tally.sums[place * len(READINGS) * _WIDTH :]
        if _agrees(sums, list(READINGS).index(name), frame, tally.sums[-1]):
            proven.append((side, said))
    if not proven:
        return None
    sides = " or ".join(f"that of {side} by {said}" for side, said in proven)
    overrides = remedy.other_rotation(proven[0][0], part) if len(proven) == 1 else ()
    return Reading(f"; read {sides}, they agree", overrides)


def leans(evidence: Evidence, column: str, part: str) -> float | None:
    """How far an orientation ever is from no turn, where that is no further than radians read as degrees
    are."""
    for c, p, tally in evidence.of("leaning"):
        if (c, p) == (column, part) and leans_little(tally):
            return tally.high
    return None


def leans_little(tally: Tally) -> bool:
    """Whether an orientation is ever as near to no turn as radians read as degrees are."""
    return tally.sums[0] >= FEWEST_OBEYED and tally.high <= GREATEST_LEAN


def _agrees(sums: Sequence[float], reading: int, frame: str | None, frames: float) -> bool:
    """Whether the other reading is nearer (of targets), or is followed (of displacements)."""
    now, other = sums[:_WIDTH], sums[reading * _WIDTH : (reading + 1) * _WIDTH]
    if frame is None:
        return other[6] < NEARER * now[6]
    at = slice(0, 3) if frame == "base" else slice(3, 6)
    follows = _correlation(other[at])
    return follows >= FOLLOWS and follows - _correlation(now[at]) > CLEARER


def _correlation(products: Sequence[float]) -> float:
    product, xx, yy = products
    return product / math.sqrt(xx * yy) if xx > 0 and yy > 0 else 0.0
