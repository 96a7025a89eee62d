"""What the columns of an action ask for: which quantity follows them, as targets or displacements.

Legend: N frames, d columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.series import shifted, turn
from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.columns import MOST_COLUMNS, gripper, runs_of, structured
from robot_foundry.ingest.inspect.evidence.follow import OBEYED, Follow, follow
from robot_foundry.ingest.inspect.evidence.grippers import command_ends
from robot_foundry.ingest.inspect.evidence.guess import HIGH, LOW, MEDIUM, TODO, Guess, Run
from robot_foundry.ingest.inspect.evidence.rotations import READINGS, matrices, pooled
from robot_foundry.ingest.inspect.survey import Series, Survey

Array = NDArray[np.float64]

# Targets of a rotation lie this near the next one, rad, on average; and correlations above this are sure.
TARGET_RAD, SURE = 0.3, 0.6
# A displacement is in units of the state where the gain is within this of one: arms do not do all they are
# asked.
NEAR_ONE = (0.5, 1.6)
LATER = (0, 1, 2)
SINGLE = "joint_position"
# Layouts whose files name the controller of robosuite, and the types of those that move the tool, not joints.
WITH_CONTROLLER = ("robomimic", "libero", "robosuite")
POSE_CONTROLLERS = ("OSC_POSE", "OSC_POSITION", "IK_POSE")


def command_of(
    of: Series, state: Mapping[str, Guess], series: Mapping[str, Series], survey: Survey
) -> Iterator[Guess]:
    """The quantities that the columns of an action command, by what follows them."""
    hint = names.hint_of(of.name)
    if hint in (names.JOINT_VELOCITY, names.VELOCITY, names.EFFORT) or not len(of.rows):
        return
    free = list(range(of.width))
    controller = _controller(survey)
    has_controller = controller is not None
    poses_first = sorted(state.items(), key=lambda item: item[0].endswith(SINGLE) != (hint == names.JOINT))
    if hint != names.JOINT:
        poses_first = sorted(state.items(), key=lambda item: item[0].endswith(SINGLE))
    found: dict[str, Guess] = {}
    for name, guess in poses_first:
        if name.endswith(SINGLE) and controller in POSE_CONTROLLERS:
            continue
        if guess.run.kind in (names.POSITION, names.JOINT) and _may(name, hint, found):
            rows = [r[:, guess.run.columns] for r in series[guess.key].episodes]
            followed = follow(of, rows, free)
            if followed is not None:
                run = _vector(guess, followed, has_controller, survey)
                found[name] = Guess(name, of.name, of.width, run)
                free = [column for column in free if not run.start <= column < run.stop]
        elif guess.run.kind == names.ROTATION and hint != names.JOINT:
            rows = [r[:, guess.run.columns] for r in series[guess.key].episodes]
            read = _as_the_state if guess.run.is_open else _rotation
            run_or_none = read(of, guess, rows, free, has_controller)
            if run_or_none is not None:
                found[name] = Guess(name, of.name, of.width, run_or_none)
                free = [c for c in free if not run_or_none.start <= c < run_or_none.stop]
    of_hand = hint == names.GRIPPER
    for name, run in (
        _grippers(of, state, series, free, found, of_hand) if found or of_hand or has_controller else ()
    ):
        found[name] = Guess(name, of.name, of.width, run)
    if not found:
        found = dict(_unfollowed(of, state))
    yield from found.values()


def may_turn(of: Series, width: int) -> list[int]:
    """Where so many columns of an action may begin that turn: as numbers tell, or beside such ones."""
    starts = range(of.width - width + 1)
    found = structured(of.rows) if of.width <= MOST_COLUMNS and len(of.rows) else None
    if found is None:
        return list(starts)
    whole = found.start if found.width == width else None
    return [s for s in starts if s == whole or s + width <= found.start or s >= found.stop]


def _may(name: str, hint: str | None, found: Mapping[str, Guess]) -> bool:
    """Whether the action may ask for the quantity: joints or a pose, not both, unless its name says which."""
    is_joint = name.endswith(SINGLE)
    if hint in (names.JOINT, names.POSE, names.POSITION):
        return is_joint == (hint == names.JOINT)
    part = name.partition(".")[0]
    return not is_joint or f"{part}.ee_position" not in found


def _controller(survey: Survey) -> str | None:
    """The type of robosuite's controller of the actions, as the file has it; None where it names none."""
    if not survey.read or survey.found.layout not in WITH_CONTROLLER:
        return None
    environment = survey.read[0].environment.get("env_args")
    kwargs = environment.get("env_kwargs") if isinstance(environment, Mapping) else None
    stated = kwargs.get("controller_configs") if isinstance(kwargs, Mapping) else None
    return str(stated.get("type", "")) if isinstance(stated, Mapping) else None


def _vector(guess: Guess, followed: Follow, has_controller: bool, survey: Survey) -> Run:
    """A command of a position or of joints."""
    run, start = guess.run, followed.start
    settings: dict[str, Any] = {}
    said = f"of '{guess.key}' {followed.in_words}"
    if followed.is_target:
        form, confidence = "value", HIGH if followed.is_sure else MEDIUM
        settings = {"scale": run.settings["scale"]} if "scale" in run.settings else {}
    elif has_controller and run.kind == names.POSITION:
        form, confidence, said = "osc", HIGH, f"{said}, and env_args names the controller"
    else:
        form = "delta"
        confidence = HIGH if followed.correlation >= SURE else MEDIUM
        period = 1.0 / survey.fps[0] if survey.fps is not None else 0.0
        if period and NEAR_ONE[0] <= followed.gain / period <= NEAR_ONE[1]:
            settings, confidence = {"scale": float(f"{period:.4g}")}, MEDIUM
            said = f"{said}, which is one frame's time: a speed a second"
        elif not NEAR_ONE[0] <= followed.gain <= NEAR_ONE[1]:
            settings, confidence = {"scale": float(f"{followed.gain:.2g}")}, LOW
            said = f"{said}, so it is in units of a controller: the scale is measured, look it up"
    return Run(run.kind, start, start + run.width, form, settings, confidence, (said,))


def _as_the_state(
    of: Series, guess: Guess, rows: Sequence[Array], free: Sequence[int], has_controller: bool
) -> Run | None:
    """Targets in the same numbers as a rotation whose reading is open: it is the same, whichever that is."""
    followed = follow(of, rows, free, may_turn(of, guess.run.width))
    if followed is None or not followed.is_target:
        return None
    why = f"of '{guess.key}' {followed.in_words}, so it is read as that is"
    return replace(guess.run, start=followed.start, stop=followed.start + guess.run.width, evidence=(why,))


def _rotation(
    of: Series, guess: Guess, rows: Sequence[Array], free: Sequence[int], has_controller: bool
) -> Run | None:
    """A command of a rotation: a target in some reading, or a displacement about the base's axes."""
    made = [matrices(guess.run.form, guess.run.settings, r) for r in rows]
    best: tuple[float, Run] | None = None
    for start in free:
        for width, readings in READINGS.items():
            if any(column not in free for column in range(start, start + width)) or start not in may_turn(
                of, width
            ):
                continue
            asked = [r[:, start : start + width] for r in of.episodes]
            for form, settings in readings:
                for degrees in (False, True) if form == "euler" else (False,):
                    given = {**settings, "degrees": True} if degrees else dict(settings)
                    apart = _away([matrices(form, given, r) for r in asked], made)
                    if apart < TARGET_RAD and (best is None or apart < best[0] - 1e-6):
                        why = f"so read it is {apart:.2f} rad from the rotation of '{guess.key}' that follows"
                        best = apart, Run(names.ROTATION, start, start + width, form, given, HIGH, (why,))
    # Small displacements are near any rotation that is near none: they must not look like targets.
    displaced = _displacement(of, guess, made, free, has_controller)
    if best is not None and (displaced is None or _turns_far(made) > 2 * best[0]):
        return best[1]
    return displaced


def _away(asked: Sequence[Array], made: Sequence[Array]) -> float:
    """Mean angle between targets and the rotations of the next frame, rad."""
    angles = [np.linalg.norm(turn(a, shifted(b, 1)), axis=1) for a, b in zip(asked, made, strict=True)]
    values = np.concatenate(angles)
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.inf


def _turns_far(made: Sequence[Array]) -> float:
    """How far from none the rotations are on average, rad."""
    identity = np.eye(3)
    angles = [np.linalg.norm(turn(m, np.broadcast_to(identity, m.shape)), axis=1) for m in made]
    return float(np.nanmean(np.concatenate(angles)))


def _displacement(
    of: Series, guess: Guess, made: Sequence[Array], free: Sequence[int], has_controller: bool
) -> Run | None:
    """Three columns by which the rotation turns about the base's axes."""
    steps = []
    for matrix_N33 in made:
        step = np.full((len(matrix_N33), 3), np.nan)
        step[:-1] = turn(matrix_N33[1:], matrix_N33[:-1]) if len(matrix_N33) > 1 else step[:-1]
        steps.append(step)
    best: tuple[float, int] = (OBEYED, -1)
    for start in free:
        if all(column in free for column in range(start, start + 3)) and start in may_turn(of, 3):
            asked = [r[:, start : start + 3] for r in of.episodes]
            r = max(pooled(asked, [shifted(step, lag) for step in steps]) for lag in LATER)
            best = max(best, (r, start))
    r, start = best
    if start < 0:
        return None
    why = f"'{guess.key}' turns as it asks, about the base's axes (correlation {r:.2f})"
    if has_controller:
        why = f"{why}, and env_args names the controller"
        return Run(names.ROTATION, start, start + 3, "osc", {}, HIGH, (why,))
    settings = {"rotation": guess.run.settings.get("sequence", "axis_angle")}
    why = f"{why}; small turns do not tell a rotation vector from Euler angles"
    return Run(names.ROTATION, start, start + 3, "delta", settings, MEDIUM, (why,))


def _grippers(
    of: Series,
    state: Mapping[str, Guess],
    series: Mapping[str, Series],
    free: Sequence[int],
    found: Mapping[str, Guess],
    named: bool,
) -> Iterator[tuple[str, Run]]:
    """Single columns that look like a gripper's, each for the arm whose columns come before it."""
    taken: set[str] = set()
    for column in free:
        asked = [rows[:, column : column + 1] for rows in of.episodes]
        run = gripper(of.rows[:, column : column + 1], column, named=named)
        if run is None:
            continue
        before = [guess for guess in found.values() if guess.run.stop <= column]
        part = (
            max(before, key=lambda g: g.run.stop).quantity.partition(".")[0]
            if before
            else names.part_of(of.name)[0]
        )
        name = f"{part}.gripper_opening"
        if name not in taken:
            taken.add(name)
            yield name, command_ends(run, asked, state.get(name), series)


def _unfollowed(of: Series, state: Mapping[str, Guess]) -> Iterator[tuple[str, Guess]]:
    """An action that nothing follows: its runs by their looks, and how they act is left to the user."""
    part, _ = names.part_of(of.name)
    for run in runs_of(of, of_action=True):
        quantity = {names.POSITION: "ee_position", names.ROTATION: "ee_rotation", names.JOINT: SINGLE}.get(
            run.kind
        )
        if quantity is None or f"{part}.{quantity}" not in state:
            continue
        why = "nothing in the state follows it: targets (value), or displacements (delta)?"
        open_run = replace(run, form=TODO, settings={}, confidence=LOW).with_evidence(why)
        yield f"{part}.{quantity}", Guess(f"{part}.{quantity}", of.name, of.width, open_run)
