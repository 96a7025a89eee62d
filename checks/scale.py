"""Checks of scale: displacements, levels, velocities, openings and magnitudes; rules.py lists them.

A factor of 5 either way is found. What a setting would mend is told where the data prove it: which of two
columns is wrong by what robots reach, and by how much by the units that are mixed up.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from robot_foundry.checks import remedies
from robot_foundry.checks.evidence import Evidence, Tally
from robot_foundry.checks.finding import Finding, listed, with_examples, worst_frame
from robot_foundry.checks.following import FEWEST_ROWS, FOLLOWS, LEAST_STEP, following
from robot_foundry.checks.measures import GREATEST, GRIPPER_LAGS
from robot_foundry.checks.measures_scale import MOTIONS, WINDOW_S
from robot_foundry.checks.motion import correlation
from robot_foundry.checks.remedies import Remedy
from robot_foundry.checks.unit_mistakes import DEGREES, FACTORS, near_unit, nearest_unit, unit_factor

# The least unit mistake is 10 (cm for dm), the usual ones 57.3 (degrees), 100 and 1000. Over a second real
# arms made 0.25 to 0.8 of the displacements that were asked; a fifth is found with 5 % for noise.
SCALE_RATIO = 5.0
LEAST_GAIN = 1 / (1.05 * SCALE_RATIO)
# An arm that answers with this time constant makes 1 / (it times the rate) of displacements asked in
# every frame: robosuite's, of stiffness 150 and damped critically, has 2 / sqrt(150) s.
ANSWERS_S = 0.2
FEWEST_WINDOWS = 5
# The middle of 0.16 … 1.6, a decade in which the gains of right displacements lie: so a power of ten is told.
USUAL_GAIN, LEAST_USUAL, GREATEST_USUAL = 0.5, 0.16, 1.6
# The furthest that the positions of an arm's tool (m) or its joints (rad) are from 0 is more than this.
LEAST_REACH = {"m": 0.05, "rad": 0.15}
# The furthest of a tool is about 0.7 m, which tells millimetres from centimetres; its speed about 1 m/s.
USUAL_REACH = {"m": 0.7, "m/s": 1.0}
# How near numbers must come to the scale itself to be shares of a controller's greatest step.
FULL_SCALE = 1e-3
# Fewer frames beyond what robots do are outliers of a sensor, and no unit.
OUTLIER_SHARE = 0.01


def displacements(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Displacements of the state that ask for much more, or much less, than is made."""
    powers: dict[tuple[str, str], float] = {}
    for column, quantity, tally in evidence.of("reach"):
        gain = _gain(tally)
        if gain is None or _least_gain(evidence, column, quantity) <= gain <= SCALE_RATIO:
            continue
        if not _displaces(evidence, remedy, column, quantity):
            continue
        part, _, name = quantity.partition(".")
        factor = _displacement_factor(gain, _is_angle(quantity), powers.get((column, part)))
        if name == "ee_position":
            powers[column, part] = factor
        sentence, overrides = _shorter(evidence, remedy, (column, quantity), gain, factor, tally.high)
        yield Finding(
            "scale",
            f"{column} {quantity}",
            f"the state moves {gain:.3g} times as far as {quantity} of {column} asks, over {WINDOW_S:g} s"
            f"{near_unit(factor, _is_angle(quantity)) if overrides else ''}",
            gain,
            sentence,
            overrides,
        )


def _shorter(
    evidence: Evidence, remedy: Remedy, which: tuple[str, str], gain: float, factor: float, greatest: float
) -> tuple[str, tuple[str, ...]]:
    """What to do where displacements should be `factor` times as long, and the override that does it."""
    times = _times(float(f"{gain / USUAL_GAIN:.1g}"))
    state = [size for dim, size in _reached(evidence, "state").items() if _quantity_of(dim) == which[1]]
    if state and not _is_plausible(max(state), which[1]):
        return remedies.STEP_OR_STATE_SCALE.format(times=times), ()
    scale = remedy.scale(*which)
    if scale is not None and abs(greatest / scale - 1) < FULL_SCALE:
        return remedies.STEP_SCALE_OF_SHARES.format(times=times, scale=scale), ()
    sentence = remedies.STEP_SCALE_BY_GAIN.format(
        least=LEAST_USUAL, greatest=GREATEST_USUAL, times=_times(factor)
    )
    return sentence, remedy.scaled(*which, factor)


def levels(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Targets dim by dim: one joint in degrees among radians is found too."""
    for column, quantity, dims, gain in _ratios(evidence, "scale"):
        if _displaces(evidence, remedy, column, quantity):
            continue  # said by their steps
        yield Finding(
            "scale",
            f"{column} {quantity}",
            f"the state moves {gain:.3g} times as far as {listed(dims)} of {column}"
            f"{near_unit(gain, _is_angle(quantity))}",
            gain,
            *_mended(evidence, remedy, (column, quantity), ("state", quantity), dims, gain),
        )


def velocities(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Velocities in another unit than the positions that they are of."""
    if any(tally.episodes for _, _, tally in evidence.of("frequency")):
        return  # a clock of another unit makes all slopes wrong
    for column, quantity, dims, gain in _ratios(evidence, "velocity"):
        part, _, name = quantity.partition(".")
        moved = f"{part}.{MOTIONS[name]}"
        yield Finding(
            "velocity_unit",
            f"{column} {quantity}",
            f"what moves changes {gain:.3g} times as fast as {listed(dims)} of {column} says"
            f"{near_unit(gain, _is_angle(moved))}, so one of the two is in another unit",
            gain,
            *_mended(evidence, remedy, (column, quantity), ("state", moved), dims, gain),
        )


def openings(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Openings of the state that span much less, or more, than those that are asked."""
    outside = {(column, dim) for column, dim, tally in evidence.of("opening") if tally.episodes}
    for column, dim, tally in evidence.of("gripper"):
        if outside & {(column, dim), ("state", dim)}:
            continue  # said as gripper_range
        lags = np.array(tally.sums).reshape(len(GRIPPER_LAGS), 6)
        best = max(lags, key=lambda moments: correlation(moments, 0.0))
        if correlation(best, 0.0) < FOLLOWS:
            continue
        n, x, y, xx, yy, _ = best
        gain = math.sqrt((yy / n - (y / n) ** 2) / (xx / n - (x / n) ** 2))
        if LEAST_GAIN <= gain <= SCALE_RATIO:
            continue
        side, factor = ("state", unit_factor(gain)) if gain < 1 else (column, unit_factor(1 / gain))
        yield Finding(
            "scale",
            f"{column} {dim}",
            f"{dim} of the state opens {gain:.3g} times as far as {dim} of {column} asks",
            gain,
            remedies.GRIPPER_ENDS_OF.format(column=side),
            () if factor is None else remedy.opened(side, dim, factor),
        )


def units(evidence: Evidence, remedy: Remedy) -> Iterator[Finding]:
    """Displacements, levels, velocities, and what these do not explain of magnitudes."""
    of_steps = list(displacements(evidence, remedy))
    of_scale = [*of_steps, *levels(evidence, remedy), *velocities(evidence, remedy)]
    yield from of_scale
    too_far, explained = {finding.where for finding in of_steps}, {finding.where for finding in of_scale}
    for finding in magnitudes(evidence, remedy, explained):
        if finding.where not in too_far:
            yield finding


def magnitudes(evidence: Evidence, remedy: Remedy, explained: Collection[str]) -> Iterator[Finding]:
    """Values that no robot has: of a unit, or of a few frames where no other unit is `explained`."""
    judged = set()
    grouped = _grouped(evidence, "magnitude")
    for (column, quantity), dims in grouped.items():
        judged.add((column, quantity))
        low, high = min(t.low for _, t in dims), max(t.high for _, t in dims)
        most = max(tally.episodes for _, tally in dims)
        of_unit = 2 * most >= evidence.episodes and any(
            tally.sums[1] > OUTLIER_SHARE * tally.sums[0] for _, tally in dims
        )
        worst = Tally.merge_all([replace(tally, sums=()) for _, tally in dims])
        names = [dim for dim, _ in dims]
        said = f"{listed(names)} of {column} goes from {low:.4g} to {high:.4g}, where no robot goes"
        if of_unit:
            factor = _magnitude_factor(quantity, max(-low, high))
            cause = nearest_unit(factor) or "another unit"
            said, mended_by = f"{said}: {cause}, or another key", remedies.SCALE_TO_UNIT
            overrides = _magnitude_override(evidence, remedy, column, quantity, names, factor)
        elif f"{column} {quantity}" in explained or _is_of_state(grouped, column, quantity):
            continue
        else:
            frames = int(max(tally.sums[1] for _, tally in dims))
            said = f"{said}, in {frames:,} of {int(dims[0][1].sums[0]):,} frames: {worst_frame(worst)}"
            mended_by, overrides = remedies.OUTLIERS, ()
        finding = Finding("magnitude", f"{column} {quantity}", said, max(-low, high), mended_by, overrides)
        yield replace(with_examples(finding, worst), num_episodes=most)
    yield from _spikes(evidence, judged)


def _spikes(evidence: Evidence, judged: set[tuple[str, str]]) -> Iterator[Finding]:
    """Single frames far from both their neighbours, which `magnitudes` has not told."""
    grouped = _grouped(evidence, "spike")
    for (column, quantity), dims in grouped.items():
        worst = Tally.merge_all([replace(tally, sums=()) for _, tally in dims])
        if (column, quantity) in judged or _is_of_state(grouped, column, quantity):
            continue
        names = [dim for dim, _ in dims]
        finding = Finding(
            "magnitude",
            f"{column} {quantity}",
            f"{listed(names)} of {column} jumps by up to {worst.worst[0][0]:.3g} in a single frame, more "
            f"than 10 times as far as it else moves in a step: {worst_frame(worst)}",
            worst.worst[0][0],
            remedies.SPIKES,
        )
        yield replace(with_examples(finding, worst), num_episodes=max(tally.episodes for _, tally in dims))


def _is_of_state(
    grouped: Mapping[tuple[str, str], list[tuple[str, Tally]]], column: str, quantity: str
) -> bool:
    """Whether an action looks wrong in the episodes in which the state does: targets that are the next state,
    or displacements of a state, have its outliers."""
    episodes = {
        name: {
            key.partition("#")[0] for _, tally in grouped.get((name, quantity), ()) for _, key in tally.worst
        }
        for name in (column, "state")
    }
    return column != "state" and episodes[column] <= episodes["state"]


def _gain(reach: Tally) -> float | None:
    """The motion that is made over the one that is asked; None where these hardly correlate."""
    product, asked, made, windows = reach.sums
    if windows < FEWEST_WINDOWS or asked <= 0 or made <= windows * LEAST_STEP**2:
        return None
    return None if product < FOLLOWS * math.sqrt(asked * made) else product / asked


def _least_gain(evidence: Evidence, column: str, quantity: str) -> float:
    """What displacements that are right make at least, at the rate at which they are asked."""
    follow = following(evidence).get((column, quantity))
    period_s = 0.0 if follow is None else follow.period_s
    return min(LEAST_GAIN, period_s / ANSWERS_S) if period_s > 0 else LEAST_GAIN


def _displaces(evidence: Evidence, remedy: Remedy, column: str, quantity: str) -> bool:
    """Whether targets are displacements of the state: by the spec, else by how they follow it."""
    by_spec = remedy.displaces(column, quantity)
    if by_spec is not None:
        return by_spec
    follow = following(evidence).get((column, quantity))
    return follow is not None and follow.displaces


def _displacement_factor(gain: float, is_angle: bool, of_position: float | None) -> float:
    """What the scale is to be multiplied by: degrees for radians where that leaves a usual gain, unless the
    positions of the same command are wrong by a power of ten; else a power of ten."""
    power = 10.0 ** round(math.log10(gain / USUAL_GAIN))
    degrees = FACTORS[DEGREES] if gain > 1 else 1 / FACTORS[DEGREES]
    if is_angle and of_position is None and LEAST_USUAL <= gain / degrees <= GREATEST_USUAL:
        return degrees
    return power


def _mended(
    evidence: Evidence,
    remedy: Remedy,
    judged: tuple[str, str],
    other: tuple[str, str],
    dims: Sequence[str],
    gain: float,
) -> tuple[str, tuple[str, ...]]:
    """What to do where `judged` (column, quantity) times the gain is `other`, and the override of that."""
    factor = unit_factor(gain)
    components = {dim.rpartition(".")[2] for dim in dims}
    theirs = [dim for dim in _dims_of(evidence, *other) if dim.rpartition(".")[2] in components]
    wrong = _wrong_side(evidence, other, theirs, gain)
    if wrong == "judged":
        overrides = remedy.scaled(*judged, factor, dims, _dims_of(evidence, *judged))
        return _scale_of(judged, gain), overrides
    if wrong == "other":
        inverse = None if factor is None else 1 / factor
        overrides = remedy.scaled(*other, inverse, theirs, _dims_of(evidence, *other))
        return _scale_of(other, 1 / gain), overrides
    one = f"{judged[1]} of {judged[0]} ({_times(gain)})"
    another = f"{other[1]} of {other[0]} ({_times(1 / gain)})"
    return remedies.SCALE_OF_EITHER.format(one=one, other=another), ()


def _scale_of(wrong: tuple[str, str], gain: float) -> str:
    return remedies.SCALE_OF.format(column=wrong[0], quantity=wrong[1], times=_times(gain))


def _wrong_side(evidence: Evidence, other: tuple[str, str], dims: Sequence[str], gain: float) -> str | None:
    """'judged' or 'other', whichever leaves positions that robots have; None where both or neither does."""
    if other[1].endswith("ee_rot6d"):
        return "judged"  # a rotation has no unit
    reached = _reached(evidence, other[0])
    wrong = [reached[dim] for dim in dims]
    if not wrong:
        return None
    rest = max((reached[dim] for dim in _dims_of(evidence, *other) if dim not in dims), default=0.0)
    as_it_is, divided = (_is_plausible(max(wrong) / by, other[1], rest) for by in (1.0, gain))
    if as_it_is == divided:
        return None
    return "judged" if as_it_is else "other"


def _reached(evidence: Evidence, column: str) -> dict[str, float]:
    """How far from 0 the dims of a column go."""
    return {dim: max(-tally.low, tally.high) for c, dim, tally in evidence.of("magnitude") if c == column}


def _is_plausible(furthest: float, quantity: str, rest: float = 0.0) -> bool:
    """Whether some dims of a position or of joints go as far as robots do; `rest` is how far others go."""
    unit = "rad" if _is_angle(quantity) else "m"
    return furthest <= GREATEST[unit] and max(furthest, rest) >= LEAST_REACH[unit]


def _magnitude_factor(quantity: str, furthest: float) -> float:
    """What makes values that no robot has usual ones: radians of degrees, or a power of ten."""
    if _is_angle(quantity):
        return 1 / FACTORS[DEGREES]
    usual = USUAL_REACH["m/s" if "velocity" in quantity else "m"]
    return float(10.0 ** -round(math.log10(furthest / usual)))


def _magnitude_override(
    evidence: Evidence, remedy: Remedy, column: str, quantity: str, names: Sequence[str], factor: float
) -> tuple[str, ...]:
    if remedy.displaces(column, quantity):
        return ()  # the state with a displacement on it, which has a scale of its own
    whole = _dims_of(evidence, column, quantity)
    # A joint that turns little stays below the limit in degrees too: of most, all are.
    chosen = whole if 2 * len(names) >= len(whole) else names
    return remedy.scaled(column, quantity, factor, chosen, whole)


def _ratios(evidence: Evidence, measure: str) -> Iterator[tuple[str, str, list[str], float]]:
    """(column, quantity, dims, gain) of each quantity of which dims have a ratio of motion far from 1."""
    grouped: dict[tuple[str, str, str], list[tuple[str, float]]] = defaultdict(list)
    for column, dim, tally in evidence.of(measure):
        count, x, y, xx, yy, _ = tally.sums
        if count < (FEWEST_ROWS if column == "state" or measure == "scale" else FEWEST_WINDOWS):
            continue
        if correlation(np.array(tally.sums), 0.0, fewest=FEWEST_WINDOWS) < FOLLOWS:
            continue
        # Unlike a slope this ratio has no bias by noise in either of the two.
        gain = math.sqrt((yy - y * y / count) / (xx - x * x / count))
        if not 1 / SCALE_RATIO <= gain <= SCALE_RATIO:
            grouped[column, _quantity_of(dim), nearest_unit(gain)].append((dim, gain))
    for (column, quantity, _), dims in sorted(grouped.items()):
        names = sorted((dim for dim, _ in dims), key=_in_order)
        yield column, quantity, names, float(np.median([gain for _, gain in dims]))


def _grouped(evidence: Evidence, measure: str) -> dict[tuple[str, str], list[tuple[str, Tally]]]:
    """By (column, quantity) the dims that look wrong by themselves."""
    grouped: dict[tuple[str, str], list[tuple[str, Tally]]] = defaultdict(list)
    for column, dim, tally in evidence.of(measure):
        if tally.episodes:
            grouped[column, _quantity_of(dim)].append((dim, tally))
    return {key: sorted(dims, key=lambda item: _in_order(item[0])) for key, dims in sorted(grouped.items())}


def _dims_of(evidence: Evidence, column: str, quantity: str) -> list[str]:
    """The dims of a quantity that have data, in their order."""
    dims = [dim for c, dim, _ in evidence.of("magnitude") if c == column and _quantity_of(dim) == quantity]
    return sorted(dims, key=_in_order)


def _in_order(dim: str) -> tuple[int, str]:
    component = dim.rpartition(".")[2]
    return (int(component) if component.isdigit() else 0, dim)


def _quantity_of(dim: str) -> str:
    return ".".join(dim.split(".")[:2])


def _is_angle(quantity: str) -> bool:
    name = quantity.partition(".")[2]
    return name.startswith(("joint_", "ee_rot", "ee_angular", "yaw"))


def _times(gain: float) -> str:
    return f"{gain:.3g} times too small" if gain > 1 else f"{1 / gain:.3g} times too large"
