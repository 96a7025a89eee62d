"""What a survey is believed to say: quantities of the state and of actions, each with its evidence.

Legend: N frames, d columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from robot_foundry.checks.series import shifted
from robot_foundry.ingest.inspect.evidence import names
from robot_foundry.ingest.inspect.evidence.columns import runs_of
from robot_foundry.ingest.inspect.evidence.commands import command_of, may_turn
from robot_foundry.ingest.inspect.evidence.follow import follow
from robot_foundry.ingest.inspect.evidence.grippers import with_ends
from robot_foundry.ingest.inspect.evidence.guess import HIGH, ORDER, Guess, Run
from robot_foundry.ingest.inspect.evidence.rotations import (
    READINGS,
    Witness,
    matrices,
    pooled,
    readings_of,
    settled,
)
from robot_foundry.ingest.inspect.evidence.simulated import STATES, runs_of_states
from robot_foundry.ingest.inspect.survey import TIMESTAMP, Series, Survey
from robot_foundry.ingest.sources.hdf5.layouts import ROBOSUITE

Array = NDArray[np.float64]

QUANTITY = {
    names.POSITION: "ee_position",
    names.ROTATION: "ee_rotation",
    names.GRIPPER: "gripper_opening",
    names.JOINT: "joint_position",
    names.JOINT_VELOCITY: "joint_velocity",
}
# In which order quantities are written, and those that a stream of the next state has.
POSES = ("ee_position", "ee_rotation")
IN_ORDER = (*POSES, "gripper_opening", "joint_position", "joint_velocity")
FOLLOWED = (*POSES, "joint_position")
COMMAND, COMMAND_JOINT = "command", "command_joint"
MOST_ACTION_COLUMNS, MOST_PAIRED = 64, 8
# The correlation of steps with speeds above which the two are of the same joints.
MOVES = 0.5


@dataclass(frozen=True)
class Drafted:
    """`state` by quantity, `actions` by stream and quantity; `unread` says how other arrays look.

    `pairs` are sentences on arrays that belong together, though nothing tells what they are.
    """

    state: Mapping[str, Guess]
    actions: Mapping[str, Mapping[str, Guess]]
    unread: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()


def drafted(survey: Survey) -> Drafted:
    """The reading of each array that evidence supports best."""
    series = {name: of for name, of in survey.series.items() if name != TIMESTAMP}
    actions = [of for name, of in series.items() if _is_action(of)]
    states = [of for name, of in series.items() if not _is_action(of) and not names.is_no_state(name)]
    if survey.found.layout == ROBOSUITE.name and STATES in series:
        found = _chosen(_of_arm("right", series[STATES], run) for run in runs_of_states(series[STATES]))
    else:
        found = _chosen(guess for of in states for guess in _guesses(of))
        found = _with_speeds(found, series)
    if survey.found.layout == "ros":
        found = {name: _as_ros_has_it(guess) for name, guess in found.items()}
    found = _with_rotations(found, series, actions)
    found = with_ends(found, series)
    streams: dict[str, dict[str, Guess]] = {}
    for of in sorted(actions, key=_by_name):
        for guess in command_of(of, found, series, survey):
            stream = (
                COMMAND_JOINT if guess.quantity.endswith("joint_position") and _has_pose(streams) else COMMAND
            )
            streams.setdefault(stream, {}).setdefault(guess.quantity, guess)
    _share_grippers(streams)
    taken = {guess.key for guess in found.values()} | {g.key for of in streams.values() for g in of.values()}
    taken |= {TIMESTAMP, *(survey.spec.content.options.arrays if survey.spec.content.options else ())}
    unread = {name: _shape(of) for name, of in survey.series.items() if name not in taken}
    pairs = [pair for of in actions if of.name in unread for pair in _pairs(of, states)]
    return Drafted(found, streams, unread, tuple(pairs))


def _pairs(of: Series, states: Sequence[Series]) -> Iterable[str]:
    """Which columns of an array an action leads to as a whole."""
    if of.width > MOST_PAIRED:
        return
    for state in states:
        windows = range(state.width - of.width + 1 if state.width <= MOST_ACTION_COLUMNS else 0)
        found = [
            (start, followed)
            for start in windows
            if (
                followed := follow(
                    of, [rows[:, start : start + of.width] for rows in state.episodes], range(of.width)
                )
            )
        ]
        targets = [(start, f) for start, f in found if f.is_target and f.is_sure]
        best = min(targets, key=lambda item: item[1].near, default=None)
        best = best or max(found, key=lambda item: item[1].correlation, default=None)
        if best is not None:
            start, followed = best
            columns = f"columns {start} to {start + of.width} of '{state.name}'"
            yield f"'{of.name}' leads to {columns}: {followed.in_words}"


def _by_name(of: Series) -> tuple[bool, int, str]:
    """Arrays that are called for what they hold come first, and then those of short names."""
    return names.hint_of(of.name) is None, len(names.words(of.name)), of.name


def _with_speeds(found: Mapping[str, Guess], series: Mapping[str, Series]) -> dict[str, Guess]:
    """Speeds of joints in the columns that the joints have, where these move so; else as they are."""
    known = {name: guess for name, guess in found.items() if guess.run.kind != names.JOINT_VELOCITY}
    speeds = [guess for guess in found.values() if guess.run.kind == names.JOINT_VELOCITY]
    for name, joints in found.items():
        for speed in speeds if joints.run.kind == names.JOINT else ():
            run = joints.run
            same = speed.num_columns == joints.num_columns or speed.num_columns == run.width
            at = run if speed.num_columns == joints.num_columns else run.moved(-run.start)
            if same and (why := _is_speed(speed, at, joints, series)):
                held = replace(speed.run, start=at.start, stop=at.stop).with_evidence(why, HIGH)
                quantity = name.replace("joint_position", "joint_velocity")
                known[quantity] = Guess(quantity, speed.key, speed.num_columns, held)
    for guess in speeds:
        if guess.key not in {g.key for g in known.values()}:
            known[guess.quantity] = guess
    return known


def _is_speed(speed: Guess, at: Run, joints: Guess, series: Mapping[str, Series]) -> str | None:
    """Why the columns are speeds of the joints: these move by them from frame to frame."""
    asked = columns_of(series[speed.key], at)
    steps = [shifted(rows, 1) - rows for rows in columns_of(series[joints.key], joints.run)]
    r = pooled(asked, steps)
    return f"'{joints.key}' moves so (correlation {r:.2f})" if r >= MOVES else None


def _is_action(of: Series) -> bool:
    return (
        names.is_of_action(of.name)
        and not names.is_of_time(of.name)
        and 0 < of.width <= MOST_ACTION_COLUMNS
        and not of.dtype.startswith("bool")
    )


def _has_pose(streams: Mapping[str, Mapping[str, Guess]]) -> bool:
    return any(name.endswith("ee_position") for name in streams.get(COMMAND, {}))


def _share_grippers(streams: dict[str, dict[str, Guess]]) -> None:
    """The gripper belongs to each stream, whichever array it lies in."""
    for name, guess in streams.get(COMMAND, {}).items():
        if name.endswith("gripper_opening") and COMMAND_JOINT in streams:
            streams[COMMAND_JOINT].setdefault(name, guess)


def _guesses(of: Series) -> Iterable[Guess]:
    """The runs of an array as quantities of an arm; of two arms the first is taken for the left."""
    runs = runs_of(of)
    part, is_said = names.part_of(of.name)
    kinds = [run.kind for run in runs]
    twice = len(runs) % 2 == 0 and len(runs) > 0 and kinds[: len(kinds) // 2] == kinds[len(kinds) // 2 :]
    called = [name for name in of.columns if not name.isdigit()]
    for number, run in enumerate(runs):
        arm = part
        if len(called) == of.width:
            arm, is_said = names.segment_of(called[run.start]) or names.part_of(called[run.start])[0], True
        if twice and not is_said:
            arm = "left" if number < len(runs) // 2 else "right"
            run = run.with_evidence("the first of two arms is taken for the left one, as ALOHA has it")
        yield _of_arm(arm, of, run)


def _of_arm(arm: str, of: Series, run: Run) -> Guess:
    return Guess(f"{arm}.{QUANTITY[run.kind]}", of.name, of.width, run)


def _chosen(guesses: Iterable[Guess]) -> dict[str, Guess]:
    """Of each quantity the surest guess; of two as sure the one whose array holds less beside it."""
    best: dict[str, Guess] = {}
    for guess in guesses:
        held = best.get(guess.quantity)
        if held is None or _worth(guess) > _worth(held):
            best[guess.quantity] = guess
    order = {name: place for place, name in enumerate(IN_ORDER)}
    return dict(
        sorted(best.items(), key=lambda item: (item[0].partition(".")[0], order[item[0].partition(".")[2]]))
    )


def _worth(guess: Guess) -> tuple[int, int, int]:
    return ORDER.index(guess.run.confidence), -guess.num_columns, -len(names.words(guess.key))


def _with_rotations(
    found: Mapping[str, Guess], series: Mapping[str, Series], actions: Sequence[Series]
) -> dict[str, Guess]:
    """The guesses with the readings of rotations that motion tells."""
    witnesses = [witness for of in actions for witness in _witnesses(of)]
    witnesses += [
        Witness(name, of.episodes)
        for name, of in series.items()
        if of.width == 3 and {"angular", "omega", "gyro"} & set(names.words(name))
    ]
    settled_ones = dict(found)
    for name, guess in found.items():
        if guess.run.kind == names.ROTATION:
            episodes = columns_of(series[guess.key], guess.run)
            others = _other_rotations(guess, series)
            targets = [target for of in actions for target in _targets(of, guess.run.width)]
            settled_ones[name] = replace(guess, run=settled(guess.run, episodes, witnesses, others, targets))
    return settled_ones


def _targets(of: Series, width: int) -> Iterable[Witness]:
    """Columns of an action that may be a rotation in another form than one of so many numbers has.

    Of the same form they would agree with themselves however they are read; three numbers have two forms.
    """
    if names.hint_of(of.name) in (names.JOINT, names.JOINT_VELOCITY, names.VELOCITY, names.EFFORT):
        return
    for other in READINGS:
        for start in may_turn(of, other) if other != width or width == 3 else ():
            rows = tuple(values[:, start : start + other] for values in of.episodes)
            yield Witness(f"{of.name}[{start}:{start + other}]", rows)


def _as_ros_has_it(guess: Guess) -> Guess:
    """Quaternions of messages and of tf, whose order ROS lays down."""
    if guess.run.form != "quaternion":
        return guess
    return replace(guess, run=guess.run.with_evidence("messages of ROS hold x, y, z, w", HIGH, order="xyzw"))


def _witnesses(of: Series) -> Iterable[Witness]:
    """Three neighbouring columns of an action, wherever they begin, but of joints."""
    if names.hint_of(of.name) in (names.JOINT, names.JOINT_VELOCITY):
        return
    for start in may_turn(of, 3):
        name = of.name if of.width == 3 else f"{of.name}[{start}:{start + 3}]"
        yield Witness(name, tuple(rows[:, start : start + 3] for rows in of.episodes))


def _other_rotations(guess: Guess, series: Mapping[str, Series]) -> dict[str, tuple[Array, ...]]:
    """Rotations of other arrays that are read in one way only."""
    others = {}
    for name, of in series.items():
        if name == guess.key or names.is_no_state(name) or names.is_of_action(name) or of.width > 16:
            continue
        for run in runs_of(of):
            readings = readings_of(run) if run.kind == names.ROTATION else []
            if len(readings) == 1:
                form, settings = readings[0]
                others[name] = tuple(matrices(form, settings, rows) for rows in columns_of(of, run))
    return others


def columns_of(of: Series, run: Run) -> list[Array]:
    """The columns of the run in each episode."""
    return [rows[:, run.columns] for rows in of.episodes]


def _shape(of: Series) -> str:
    """What an array looks like that no quantity takes."""
    rows_Md = of.rows
    if not rows_Md.size:
        return "no finite numbers"
    low, high = float(rows_Md.min()), float(rows_Md.max())
    if low == high:
        return f"{low:.4g} in every frame"
    whole = bool((rows_Md == np.rint(rows_Md)).all())
    return f"{'whole numbers' if whole else 'numbers'} {low:.4g} … {high:.4g}"
