"""Checks of grippers, rotations, motion and lags; rules.py lists them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from robot_foundry.checks import remedies
from robot_foundry.checks.evidence import Array, Evidence, Tally
from robot_foundry.checks.finding import Finding, with_examples
from robot_foundry.checks.following import (
    COPIES,
    FEWEST_ROWS,
    FOLLOWS,
    LATE_FRAMES,
    LATE_S,
    Following,
    following,
)
from robot_foundry.checks.meaning.readings import Reading, leans, other_reading
from robot_foundry.checks.remedies import Remedy

# A right command correlates with the opening half a second later at +0.8 or more in every recording that was
# tried, and an unused gripper at about 0: -0.3 is neither.
AGAINST = -0.3
# Less variance than this (of an opening, 0 … 1) is noise of the sensor.
LEAST_GRIPPER_VARIANCE = 1e-3
# Steps that are asked correlate with those that are made at 0.42 or more in every recording that was tried,
# and at 0.05 or less where a rotation's order or sequence, or a column, is wrong.
OBEYED = 0.15
# The motion that a lag leaves unexplained is at most half of what any usual lag leaves: slow motions fit all.
UNEXPLAINED = 0.5
# OSC commands turn by at most 0.5 rad about each axis, and on average by far less.
APART_RAD = 0.6
# Angles in degrees make random turns of a moving arm's steps; a recording that was cut has a jump or two.
WHIRLS = 0.05
# Shares of a controller's greatest step are of -1 ... 1 about each axis; rounding and composition add a
# little.
GREATEST_SHARE = 1.1
# Mean resultant length of the relative rotation above which the disagreement is one constant rotation.
CONSTANT_OFFSET = 0.95


def gripper(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """An action that closes while the opening opens, or while another stream does."""
    for measure, other in (("gripper", "the opening that follows"), ("gripper_streams", "action.next_state")):
        for column, dim, tally in evidence.of(measure):
            correlations = [correlation(m, LEAST_GRIPPER_VARIANCE) for m in _rows_of(tally, 6)]
            strongest = max(correlations, key=abs, default=0.0)
            if strongest < AGAINST:
                rows = int(tally.sums[0])
                yield Finding(
                    "gripper_polarity",
                    f"{column} {dim}",
                    f"{dim} of {column} goes against {other} (correlation {strongest:.2f}, {rows:,} frames), "
                    "so one of the two has closed and open swapped",
                    strongest,
                    *remedy.swapped_gripper(column, dim, "state" if measure == "gripper" else other),
                )


def opening(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Openings outside 0 … 1."""
    for column, dim, tally in evidence.of("opening"):
        if tally.episodes:
            yield with_examples(
                Finding(
                    "gripper_range",
                    f"{column} {dim}",
                    f"{dim} of {column} lies outside 0 … 1 in {int(tally.sums[1]):,} frames "
                    f"({tally.low:.3g} … {tally.high:.3g}), so closed and open are not the ends of its range",
                    max(-tally.low, tally.high),
                    remedies.GRIPPER_ENDS,
                ),
                tally,
            )


def stuck(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """An opening that is constant while an action moves it."""
    for column, dim, tally in evidence.of("stuck"):
        # A gripper that holds or is blocked may not move for an episode; one that never moves is not read.
        if tally.episodes and tally.episodes * 2 > tally.sums[0]:
            yield with_examples(
                Finding(
                    "frozen",
                    f"state {dim}",
                    f"{dim} of the state is constant in {tally.episodes} of {int(tally.sums[0])} episodes "
                    f"while {column} moves it by {tally.worst[0][0]:.2g}",
                    tally.worst[0][0],
                    remedies.GRIPPER_SENSOR,
                ),
                tally,
            )


def rotations(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """rot6d that is no rotation, and turns that no arm makes."""
    for column, part, tally in evidence.of("orthonormal"):
        if tally.episodes:
            yield with_examples(
                Finding(
                    "rotation_orthonormal",
                    f"{column} {part}.ee_rot6d",
                    f"{part}.ee_rot6d of {column} is not two orthonormal columns in {int(tally.sums[1]):,} "
                    f"of {int(tally.sums[0]):,} frames",
                    tally.sums[1] / max(tally.sums[0], 1.0),
                    remedies.ROT6D_COLUMNS,
                    remedy.other_rotation(column, part),
                ),
                tally,
            )
    for column, part, tally in evidence.of("turns"):
        if tally.episodes and column == "state":
            likely = ", as degrees read as radians would" if _whirls(remedy, column, part, tally) else ""
            yield with_examples(
                Finding(
                    "rotation_jump",
                    f"{column} {part}.ee_rot6d",
                    f"{part}.ee_rot6d of {column} jumps {int(tally.sums[1]):,} times, by up to "
                    f"{tally.high:.2f} rad in one step, and no arm turns so fast{likely}",
                    tally.high,
                    remedies.ROTATION_READING,
                    remedy.other_rotation(column, part, jumps=True),
                ),
                tally,
            )


def _whirls(remedy: Remedy, column: str, part: str, turns: Tally) -> bool:
    """Whether Euler angles jump so often that they are of another unit: a wrong sequence of right angles,
    or a flip by a whole turn, makes no jump."""
    steps, jumps = turns.sums
    return remedy.reads_degrees(column, part) is False and jumps > WHIRLS * steps


def _likely(evidence: Evidence, remedy: Remedy, column: str, part: str) -> Reading:
    """What the motion proves of an orientation that state and action disagree about; nothing where it does
    not."""
    other = other_reading(evidence, remedy, column, part)
    if other is not None:
        return other
    turns = {c: tally for c, p, tally in evidence.of("turns") if p == part}
    for side in ("state", column):
        if remedy.reads_degrees(side, part) and (lean := leans(evidence, side, part)) is not None:
            said = (
                f"; that of {side} never leaves {lean:.2g} rad of no turn, as radians read as degrees would"
            )
            return Reading(said, remedy.other_unit(side, part))
        if _whirls(remedy, side, part, turns[side]):
            said = (
                f"; that of {side} jumps in {int(turns[side].sums[1]):,} of {int(turns[side].sums[0]):,} "
                "steps, as degrees read as radians would"
            )
            return Reading(said, remedy.other_unit(side, part))
    return Reading("", ())


def poses(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Orientations of an action far from those that the state then has."""
    for column, part, tally in evidence.of("pose"):
        count, angle = tally.sums[:2]
        if not _apart(tally):
            continue
        if remedy.displaces(column, f"{part}.ee_rot6d"):
            yield _asks_too_much(evidence, remedy, column, part, angle / count)
            continue
        resultant = float(np.linalg.norm(tally.sums[2:])) / (math.sqrt(3.0) * count)
        constant = resultant > CONSTANT_OFFSET
        cause = (
            "always by the same rotation, so they are of two tool frames"
            if constant
            else "by ever other rotations, so one has another order, sequence or frame"
        )
        other = _likely(evidence, remedy, column, part)
        mended: tuple[str, tuple[str, ...]] = (remedies.TOOL_FRAME, ())
        if not constant:
            mended = remedy.either_rotation(column, part)
        if other.said:
            cause += other.said
            mended = (mended[0], () if constant else other.overrides)
        yield Finding(
            "rotation_agreement",
            f"{column} {part}.ee_rot6d",
            f"{part}.ee_rot6d of {column} and of the state it leads to are {angle / count:.2f} rad apart on "
            f"average, {cause}",
            angle / count,
            *mended,
        )


def _asks_too_much(evidence: Evidence, remedy: Remedy, column: str, part: str, angle: float) -> Finding:
    """Of turns that start from the state itself, so that no convention of the two can differ."""
    where = f"{column} {part}.ee_rot6d"
    said = (
        f"{part}.ee_rot6d of {column} turns by {angle:.2f} rad in a step on average, and no robot is asked to"
    )
    other = _likely(evidence, remedy, column, part)
    if other.said:
        return Finding(
            "scale", where, said + other.said, angle, remedies.ROTATION_CONVENTION, other.overrides
        )
    greatest = max(tally.high for c, quantity, tally in evidence.of("reach") if f"{c} {quantity}" == where)
    # So far that angles wrap, by how much they are too large is told by nothing: no setting is.
    if greatest > GREATEST_SHARE:
        said += (
            f", nor are these shares of a step ({greatest:.2g} about one axis): as degrees read as radians "
            "would"
        )
    return Finding("scale", where, said, angle, remedies.TURN_SCALE.format(degrees=math.pi / 180))


def _apart(pose: Tally) -> bool:
    count, angle = pose.sums[:2]
    return count >= FEWEST_ROWS and angle > APART_RAD * count


def motions(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Steps that are asked and not made, and targets that ask for none."""
    apart = {(column, f"{part}.ee_rot6d") for column, part, pose in evidence.of("pose") if _apart(pose)}
    for (column, quantity), follow in following(evidence).items():
        if _constant(follow):
            yield Finding(
                "motion",
                f"{column} {quantity}",
                f"{quantity} of {column} has one value in each episode while the state moves",
                0.0,
                remedies.TARGET_KEY,
            )
        # Poses that are apart are found as such, which says more.
        elif _disobeyed(follow) and (column, quantity) not in apart:
            part = quantity.partition(".")[0]
            is_turn = quantity.endswith("ee_rot6d")
            likely = _likely(evidence, remedy, column, part) if is_turn else Reading("", ())
            overrides = remedy.other_rotation("state", part) if is_turn and not likely.said else ()
            yield Finding(
                "motion",
                f"{column} {quantity}",
                f"the state does not move as {quantity} of {column} asks "
                f"(best correlation {follow.obeyed:.2f}){likely.said}",
                follow.obeyed,
                remedies.TARGET_COLUMNS,
                likely.overrides or overrides,
            )


def _constant(follow: Following) -> bool:
    """Whether one target stands for all of a motion that does not go there."""
    return follow.moves and not follow.changes and follow.usual < FOLLOWS


def _copies(follow: Following) -> bool:
    return follow.lag < 0 and follow.correlation > COPIES and (_stands_out(follow) or not follow.asks)


def _stands_out(follow: Following) -> bool:
    """Whether the lag explains clearly more of the motion than those that robots have."""
    return 1 - follow.correlation**2 <= UNEXPLAINED * (1 - max(follow.usual, 0.0) ** 2) > 0


def _disobeyed(follow: Following) -> bool:
    return follow.obeyed is not None and follow.obeyed < OBEYED and not _copies(follow)


def lags(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Targets that come late, or copy the state."""
    for (column, quantity), follow in following(evidence).items():
        where, lag_s = f"{column} {quantity}", follow.lag * follow.period_s
        if not follow.moves or follow.correlation < FOLLOWS or _constant(follow) or _disobeyed(follow):
            continue
        if follow.changes and follow.lag >= LATE_FRAMES and lag_s >= LATE_S and _stands_out(follow):
            yield Finding(
                "lag",
                where,
                f"the state reaches {quantity} of {column} {follow.lag} frames ({lag_s:.2g} s) after the "
                f"next one (correlation {follow.correlation:.2f}, {follow.usual:.2f} at the next ones)",
                follow.lag,
                remedies.ONE_CLOCK,
            )
        elif _copies(follow):
            yield Finding(
                "lag",
                where,
                _copied(column, quantity, follow),
                follow.lag,
                remedies.TARGET_NOT_READING,
            )


def _copied(column: str, quantity: str, follow: Following) -> str:
    """What is proven of a target that moves as the state did."""
    if not follow.asks:
        return f"{quantity} of {column} is the state itself in every frame, so it asks for nothing"
    before = "in the same frame" if follow.lag == -1 else f"{-1 - follow.lag} frames before"
    return (
        f"{quantity} of {column} moves as the state does {before} (correlation {follow.correlation:.2f}): it "
        "is a reading, or the state and a constant displacement"
    )


def correlation(moments: Array, least_variance: float, fewest: int = FEWEST_ROWS) -> float:
    """Pearson's r of pooled (n, Σx, Σy, Σxx, Σyy, Σxy); 0 where one of them does not vary."""
    n, x, y, xx, yy, xy = (float(value) for value in moments)
    if n < fewest:
        return 0.0
    variance_x, variance_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    # A variance is a small difference of large sums: below this share of them it is rounding.
    if min(variance_x, variance_y) <= max(least_variance, 1e-12 * max(xx, yy) / n):
        return 0.0
    return (xy / n - x * y / n**2) / math.sqrt(variance_x * variance_y)


def _rows_of(tally: Tally, width: int) -> Array:
    return np.array(tally.sums).reshape(-1, width)
