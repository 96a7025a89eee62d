"""Which reading of a rotation the motion that follows agrees with, or another account of the same rotation.

Legend: N frames, d columns of the rotation. Rotation matrices are float64 [N, 3, 3].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.motion import correlation
from robot_foundry.checks.series import about_means, shifted, turn
from robot_foundry.ingest.inspect.evidence import homogeneous
from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, MEDIUM, TODO, Run
from robot_foundry.normalization import rotation

Array = NDArray[np.float64]

# Of each width the readings (form, settings) that a spec can say, the usual one first.
SEQUENCES = ("xyz", "XYZ", "zyx", "ZYX")
READINGS: Mapping[int, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    3: (*(("euler", {"sequence": sequence}) for sequence in SEQUENCES), ("axis_angle", {})),
    4: (("quaternion", {"order": "xyzw"}), ("quaternion", {"order": "wxyz"})),
    6: (("rot6d_columns", {}), ("rot6d_rows", {})),
    9: (("matrix", {}),),
}
USUAL_SEQUENCE = "xyz"
# Less variance of a turn than this, rad², is noise.
LEAST_TURN = 1e-9
# What the best reading's correlation must be; how far above that of another it tells the two apart, and
# surely; and the same of what the other leaves unexplained, for good readings are all near one.
TELLS, MARGIN, CLEAR = 0.3, 0.05, 0.2
UNEXPLAINED, CLEARLY_UNEXPLAINED = 1.3, 3.0
# Frames over which a turn answers a command; and how near two accounts of one rotation are, rad.
ANSWERS_WITHIN, SAME = 4, 0.05
# Targets lie this near the rotations that follow, rad, and those of another reading so many times as far.
NEAR_TARGET, APART, FLOOR = 0.2, 3.0, 0.01
# A tool points down within this cosine: how most arms that stand at a table hold it.
DOWN = -0.8


@dataclass(frozen=True)
class Witness:
    """Three columns [N, 3] of each episode that may turn the tool, and what they are called."""

    name: str
    episodes: tuple[Array, ...]


def matrices(form: str, settings: Mapping[str, Any], values_Nd: Array) -> Array:
    """The rotation matrices of the numbers in one reading; NaN where they are none."""
    if form == "quaternion":
        return rotation.quaternion_to_matrix(values_Nd, settings["order"])
    if form == "euler":
        scale = math.pi / 180 if settings.get("degrees") else 1.0
        return rotation.euler_to_matrix(values_Nd * scale, settings["sequence"])
    if form == "axis_angle":
        return rotation.axis_angle_to_matrix(values_Nd)
    if form == "rot6d_columns":
        return rotation.rot6d_to_matrix(values_Nd)
    if form == "rot6d_rows":
        return np.swapaxes(rotation.rot6d_to_matrix(values_Nd), -1, -2)
    if form == "homogeneous":
        return homogeneous.rotations(values_Nd, settings["major"])
    return values_Nd.reshape(-1, 3, 3)


def readings_of(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The readings that the run leaves open, or its one."""
    fixed = {name: value for name, value in run.settings.items() if value != TODO}
    fitting = [
        (form, {**settings, **fixed})
        for form, settings in READINGS.get(run.width, ())
        if run.form in (TODO, form)
        and all(settings.get(name, value) == value for name, value in fixed.items())
    ]
    return fitting or [(run.form, dict(run.settings))]


def settled(
    run: Run,
    episodes: Sequence[Array],
    witnesses: Sequence[Witness],
    others: Mapping[str, tuple[Array, ...]],
    targets: Sequence[Witness] = (),
) -> Run:
    """The run with the reading that evidence tells, in this order: another account of the same rotation,
    targets in another form, the motion that an action or a speed asks for, how the tool points. Else TODO.

    `episodes` are its columns [N, d]; `others` are rotation matrices of other arrays by name, `targets`
    columns of actions of another width that may be rotations.
    """
    readings = readings_of(run)
    made = [[matrices(form, settings, values) for values in episodes] for form, settings in readings]
    for name, matrices_N33 in others.items():
        agreeing = [n for n, of in enumerate(made) if _apart(of, matrices_N33) < SAME]
        if len(agreeing) == 1 and len(readings) > 1:
            return _read(run, readings[agreeing[0]], HIGH, f"so read it is the rotation of '{name}'")
    if len(readings) > 1 and targets:
        near = [
            min(_to_target(of, form, target) for target in targets)
            for of, (form, _) in zip(made, readings, strict=True)
        ]
        first, second, *_ = sorted(distance for distance, _ in near)
        if first < NEAR_TARGET and second > APART * max(first, FLOOR):
            chosen = min(range(len(near)), key=lambda n: near[n][0])
            why = f"so read it is {first:.2f} rad from the targets '{near[chosen][1]}'; else {second:.2f} rad"
            return _read(run, readings[chosen], HIGH, why)
    scored = [_best(of, witnesses) for of in made]
    chosen = max(range(len(readings)), key=lambda n: scored[n][0])
    best, witness, axes = scored[chosen]
    if best < TELLS:
        return _by_convention(run, readings, made)
    said = f"so read it turns as '{witness}' asks, {axes} (correlation {best:.3f}"
    rivals = [n for n in range(len(readings)) if n != chosen and _apart(made[n], made[chosen]) > SAME]
    alike = [n for n in rivals if not _is_ahead(best, scored[n][0], MARGIN, UNEXPLAINED)]
    if len(readings) == 1:
        return run.with_evidence(f"{said})")
    if alike:
        first = min([chosen, *alike])  # the usual one of those
        as_well = ", ".join(
            f"{_called(readings[n])} {scored[n][0]:.3f}" for n in sorted({chosen, *alike} - {first})
        )
        why = f"it turns as '{witness}' asks ({scored[first][0]:.3f}), and read otherwise as well: {as_well}"
        return _read(run, readings[first], LOW, why)
    is_clear = all(_is_ahead(best, scored[n][0], CLEAR, CLEARLY_UNEXPLAINED) for n in rivals)
    nearest = max((scored[n][0] for n in rivals), default=None)
    said += ")" if nearest is None else f", the next reading {nearest:.3f})"
    return _read(run, readings[chosen], HIGH if is_clear else MEDIUM, said)


def _to_target(made: Sequence[Array], own: str, target: Witness) -> tuple[float, str]:
    """The least mean angle from the target in any other form to the next rotations, and what it is called."""
    reached = [shifted(matrix_N33, 1) for matrix_N33 in made]
    width = target.episodes[0].shape[1]
    apart = (
        (
            _apart([matrices(form, settings, rows) for rows in target.episodes], reached),
            f"{target.name} as {_called((form, settings))}",
        )
        for form, settings in READINGS[width]
        if form != own
    )
    return min(apart, default=(math.inf, ""))


def _is_ahead(best: float, other: float, margin: float, ratio: float) -> bool:
    """Whether a reading explains clearly more than another: by its correlation, or by what it leaves."""
    return best - other >= margin or 1 - max(other, 0.0) ** 2 >= ratio * (1 - best**2)


def _called(reading: tuple[str, Mapping[str, Any]]) -> str:
    form, settings = reading
    return " ".join([form, *(str(value) for value in settings.values() if value is not True)])


def _read(run: Run, reading: tuple[str, Mapping[str, Any]], confidence: str, why: str) -> Run:
    form, settings = reading
    return replace(
        run, form=form, settings=dict(settings), confidence=confidence, evidence=(*run.evidence, why)
    )


def _by_convention(
    run: Run, readings: Sequence[tuple[str, Mapping[str, Any]]], made: list[list[Array]]
) -> Run:
    """What is left without motion: how the tool points under each reading, and what is usual."""
    if len(readings) == 1:
        return run
    if run.form == "euler" and all(_apart(of, made[0]) < SAME for of in made[1:]):
        why = f"all sequences are within {SAME} rad of each other, so it is the usual one: roll, pitch, yaw"
        return _read(run, (run.form, {**run.settings, "sequence": USUAL_SEQUENCE}), LOW, why)
    if run.width == 4:
        down = [n for n, of in enumerate(made) if np.nanmean(np.concatenate(of)[:, 2, 2]) < DOWN]
        if len(down) == 1:
            why = "so read the tool's z axis points down, as that of most arms, and in the other order up"
            return _read(run, readings[down[0]], LOW, why)
    usual = f"; {USUAL_SEQUENCE} is usual: roll, pitch, yaw about fixed axes" if run.form == "euler" else ""
    return run.with_evidence(f"no motion tells which reading{usual}", LOW)


def _apart(one: Sequence[Array], other: Sequence[Array]) -> float:
    """The mean angle between two accounts, rad."""
    angles = [np.linalg.norm(turn(a, b), axis=1) for a, b in zip(one, other, strict=True) if len(a) == len(b)]
    values = np.concatenate(angles) if angles else np.array([np.inf])
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.inf


def _best(made: Sequence[Array], witnesses: Sequence[Witness]) -> tuple[float, str, str]:
    """The greatest correlation of turns with what a witness asks for: about the base's axes or the tool's."""
    best = (-1.0, "", "")
    for base in ("about the base's axes", "about the tool's own axes"):
        turns = [_turns(m, of_tool=base != "about the base's axes") for m in made]
        for witness in witnesses:
            for lag in range(ANSWERS_WITHIN):
                r = pooled(witness.episodes, [shifted(made_N3, lag) for made_N3 in turns])
                if r > best[0] + 1e-9:
                    best = (r, witness.name, base)
    return best


def _turns(matrix_N33: Array, *, of_tool: bool) -> Array:
    """Row t holds the rotation vector from frame t to t + 1; NaN in the last row."""
    turned = np.full((len(matrix_N33), 3), np.nan)
    if len(matrix_N33) > 1:
        after, before = matrix_N33[1:], matrix_N33[:-1]
        if of_tool:
            after, before = np.swapaxes(before, -1, -2), np.swapaxes(after, -1, -2)
        turned[:-1] = turn(after, before)
    return turned


def pooled(asked: Sequence[Array], made: Sequence[Array], least: float = LEAST_TURN) -> float:
    """Pearson's r over all columns and episodes, each about its own mean."""
    total = np.zeros(6)
    for asked_Nd, made_Nd in zip(asked, made, strict=True):
        for column in range(asked_Nd.shape[1]):
            total += about_means(asked_Nd[:, column], made_Nd[:, column])
    return correlation(total, least)
