"""What joints say of the tool that they carry, and wheels of a yaw; rules.py lists the checks.

A joint turns the tool by as much as itself and moves it by no more than its reach, whatever the arm; and in
an arm the axis of a joint is turned by the joints before it, and by none after it.

Shape suffixes: n = joints, d = regressors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from robot_foundry.checks import remedies
from robot_foundry.checks.evidence import Array, Evidence, Tally
from robot_foundry.checks.finding import Finding
from robot_foundry.checks.following import FEWEST_OBEYED, FOLLOWS
from robot_foundry.checks.meaning.measures import NUM_JOINTS, WRAP, carried_pairs
from robot_foundry.checks.meaning.readings import leans_little
from robot_foundry.checks.remedies import Remedy
from robot_foundry.checks.scale import SCALE_RATIO
from robot_foundry.checks.unit_mistakes import near_unit, unit_factor

# A fit is near where it leaves less of the turns than this; arms of known kinematics leave 0.005, a tool
# that no joint here carries most.
NEAR_FIT = 0.1
# The backward fit leaves so many times less, or says nothing: of arms of known kinematics the right one
# leaves 2.7 to 14 times less than the other.
CLEARLY = 2.0
FEWEST_PER_REGRESSOR = 4
# Of the squares of a regressor: joints that never turn apart from each other have no axes of their own.
RIDGE = 1e-8
DEGREE = math.pi / 180
# Further than this no arm reaches, so a radian of a joint moves its tool by less.
FURTHEST_M = 5.0
# What a whole turn of a joint becomes in radians read as degrees.
GREATEST_COIL = WRAP
# So few wraps may be chance; of the larger steps they are at least this share.
FEWEST_WRAPS, SHARE_OF_WRAPS = 3, 0.5


def carrying(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Orientations and units that joints contradict, and angles in which no arm or tool would be."""
    for column, part, tally in evidence.of("carried"):
        yield from _carried(remedy, column, part, tally)
    for _, quantity, tally in evidence.of("levers"):
        yield from _lever(remedy, quantity, tally)
    for _, part, tally in evidence.of("coiled"):
        if tally.sums[0] >= FEWEST_OBEYED and tally.sums[1] > 0 and tally.high <= GREATEST_COIL:
            yield Finding(
                "carrying",
                f"state {part}.joint_position",
                f"no joint of {part}.joint_position of the state leaves {tally.high:.2g} rad of 0, as "
                "radians read as degrees would, and no arm works there",
                tally.high,
                remedies.COILED,
                remedy.scaled("state", f"{part}.joint_position", 1 / DEGREE),
            )
    for column, part, tally in evidence.of("leaning"):
        _, wraps, large = tally.sums
        often = wraps >= FEWEST_WRAPS and wraps >= SHARE_OF_WRAPS * large
        if leans_little(tally) and often and remedy.reads_degrees(column, part):
            yield Finding(
                "carrying",
                f"{column} {part}.ee_rot6d",
                f"{part}.ee_rot6d of {column} stays within {tally.high:.2g} rad of no turn and steps by "
                f"{WRAP:.2g} rad {int(wraps):,} times, as radians read as degrees would at half a turn",
                tally.high,
                remedies.LEANS,
                remedy.other_unit(column, part),
            )
    for _, part, tally in evidence.of("course"):
        yield from _course(remedy, part, tally)


def _lever(remedy: Remedy, quantity: str, tally: Tally) -> Iterator[Finding]:
    moved, turned, steps = tally.sums
    lever = math.sqrt(moved / turned) if turned > 0 else 0.0
    if steps >= FEWEST_OBEYED and lever > FURTHEST_M:
        part = quantity.partition(".")[0]
        yield Finding(
            "carrying",
            f"state {quantity}",
            f"{part}.ee_position of the state moves {lever:.3g} m for a radian of {quantity}, further than "
            "any arm reaches, as radians read as degrees would",
            lever,
            remedies.JOINTS_OR_TOOL,
            remedy.scaled("state", quantity, 1 / DEGREE),
        )


def _course(remedy: Remedy, part: str, tally: Tally) -> Iterator[Finding]:
    product, turned, bent, steps = tally.sums
    if steps < FEWEST_OBEYED or product < FOLLOWS * math.sqrt(turned * bent) or turned <= 0:
        return
    gain = math.sqrt(bent / turned)
    if not 1 / SCALE_RATIO <= gain <= SCALE_RATIO:
        yield Finding(
            "carrying",
            f"state {part}.yaw",
            f"the course of {part} turns {gain:.3g} times as far as {part}.yaw of the state"
            f"{near_unit(gain, is_angle=True)}",
            gain,
            remedies.COURSE,
            remedy.scaled("state", f"{part}.yaw", unit_factor(gain)),
        )


def _carried(remedy: Remedy, column: str, part: str, tally: Tally) -> Iterator[Finding]:
    n, forward, backward = _moments(tally)
    if tally.sums[0] < FEWEST_PER_REGRESSOR * (len(forward) - 3):
        return
    left, other = _left(forward), _left(backward)
    where = f"{column} {part}.ee_rot6d"
    if other * CLEARLY < left and other < NEAR_FIT:
        convention = remedy.other_convention(column, part)
        likely = f", as {convention[1]} would" if convention else ""
        yield Finding(
            "carrying",
            where,
            f"{part}.ee_rot6d of {column} turns with the joints as its inverse would: axes of joints depend "
            f"on those after them ({other:.2g} of the turns is left, {left:.2g} by those before){likely}",
            left / other,
            remedies.INVERSE,
            remedy.other_rotation(column, part) if convention else (),
        )
    length = _length(forward, n)
    # A tool that is held level turns by what is left of its joints' turns, which is no unit.
    if min(left, other) < NEAR_FIT and any(1 / 2 < length * by < 2 for by in (DEGREE, 1 / DEGREE)):
        yield Finding(
            "carrying",
            where,
            f"{part}.ee_rot6d of {column} turns by {length:.3g} rad for a radian of each joint, and an arm's "
            "by one, as degrees for radians would",
            length,
            remedies.JOINTS_OR_TOOL,
        )


def _moments(tally: Tally) -> tuple[int, Array, Array]:
    """The number of joints, and the two matrices [d, d] whose upper triangles are summed."""
    triangles = np.array(tally.sums[1:])
    size = int((math.isqrt(8 * (len(triangles) // 2) + 1) - 1) // 2)
    n = next(n for n in NUM_JOINTS if n + len(carried_pairs(n)[0]) + 3 == size)
    matrices = []
    for triangle in np.split(triangles, 2):
        matrix_dd = np.zeros((size, size))
        matrix_dd[np.triu_indices(size)] = triangle
        matrices.append(matrix_dd + np.triu(matrix_dd, 1).T)
    return n, matrices[0], matrices[1]


def _left(moments_dd: Array) -> float:
    """The share of the squares of the turns that the regressors do not explain."""
    whole = float(np.trace(moments_dd[-3:, -3:]))
    explained = float((moments_dd[:-3, -3:] * _fit(moments_dd, len(moments_dd) - 3)).sum())
    return max(1 - explained / whole, 0.0) if whole > 0 else 1.0


def _length(moments_dd: Array, n: int) -> float:
    """The length of the joints' axes by a fit of constant ones, weighted with how far the joints turn."""
    axes_n3, weights_n = _fit(moments_dd, n), np.diagonal(moments_dd)[:n]
    total = float(weights_n.sum())
    return math.sqrt(float((weights_n[:, None] * axes_n3**2).sum()) / total) if total > 0 else 0.0


def _fit(moments_dd: Array, count: int) -> Array:
    """Least squares [count, 3] of the turns by the first regressors, scaled so that units do not matter."""
    inner, outer = moments_dd[:count, :count], moments_dd[:count, -3:]
    size = np.sqrt(np.maximum(np.diagonal(inner), 1e-30))
    scaled = inner / np.outer(size, size) + RIDGE * np.eye(count)
    return np.asarray(np.linalg.solve(scaled, outer / size[:, None]) / size[:, None])
