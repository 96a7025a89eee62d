"""Every key of a spec that reads a source rightly beside its draft: right, a guess, left open, or wrong.

A key is right where it comes to the same: the same rate, roles, instruction, flags, canonical numbers. Where
it does not, a confidence of low marks a guess; TODO, and a sentence that nothing tells, leave it open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foundry_testing.draft_verdicts import ABSENT, HIT, OPEN, closed, only_of, right_spec, verdicts_of
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.inspect.evidence.guess import LOW, TODO
from robot_foundry.ingest.inspect.fitting import Rows, rows_of
from robot_foundry.ingest.inspect.survey import Survey
from robot_foundry.ingest.inspect.told import (
    Said,
    flags_of,
    instructions_of,
    rate_of,
    robot_of,
    roles_of,
    successes_of,
)
from robot_foundry.ingest.robot.spec.spec import Spec
from robot_foundry.ingest.sources.ros.options import RosOptions

RIGHT, GUESS, LEFT, WRONG = "right", "a guess", "left open", "wrong"
VERDICTS = (RIGHT, GUESS, LEFT, WRONG)
# Times measure a rate that a spec gives as a whole number.
SAME_RATE = 0.01


def keys(place: Path, name: str, settings: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(key, verdict) of every key of the spec of that name that has a part in reading the source.

    `settings` are of the spec. Where they take no cameras, as their files are not there, none are compared.
    """
    seen = only_of(place)
    spec, mine = right_spec(name, settings), closed(seen)
    if spec.content.cameras == ():
        mine = replace(mine, content=replace(mine.content, cameras=()))
    right, drafted = rows_of(spec, seen.found.place), rows_of(mine, seen.found.place)
    assert seen.survey is not None
    told = [*_of_content(spec, mine), *_said(seen.survey, mine, right, drafted)]
    is_named = spec.mapping.others is not None
    for key, verdict, confidence in verdicts_of(seen, right, drafted):
        if verdict == ABSENT and is_named and not confidence:
            # A column that the spec calls by its name until a quantity takes it, as one of the draft does.
            told.append((key, GUESS))
        else:
            told.append((key, LEFT if verdict == OPEN else _verdict(verdict == HIT, confidence)))
    if is_named:
        told.append(("mapping.others", _verdict(spec.mapping.others == mine.mapping.others)))
    return told


def _verdict(is_right: bool, confidence: str = "") -> str:
    return RIGHT if is_right else GUESS if confidence == LOW else WRONG


def _of_content(spec: Spec, mine: Spec) -> Iterator[tuple[str, str]]:
    yield "layout", _verdict(spec.layout == mine.layout)
    for name in ("cameras", "encoding", "resize", "flip", "channel_order", "rename", "pixels", "extra_row"):
        stated, drafted = (_without_defaults(getattr(each.content, name)) for each in (spec, mine))
        yield f"content.{name}", _verdict(stated == drafted)


def _without_defaults(value: Any) -> Any:
    """Of a setting by camera what is not as it is without it."""
    return {k: v for k, v in value.items() if v not in ("none", "rgb")} if isinstance(value, dict) else value


def _said(survey: Survey, mine: Spec, right: Rows, drafted: Rows) -> Iterator[tuple[str, str]]:
    """What is beside the quantities."""
    rate, robot = rate_of(survey), robot_of(survey)
    same = _near(right.schema.fps, drafted.schema.fps)
    if isinstance(mine.content.options, RosOptions):  # frames of a bag have the rate that one likes
        yield "content.ros.rate", _verdict(same, LOW)
    else:
        yield "content.fps", LEFT if rate.value == TODO else _verdict(same, rate.confidence)
    same = right.schema.embodiment == drafted.schema.embodiment
    yield "mapping.embodiment", LEFT if robot.value == TODO else _verdict(same, robot.confidence)
    yield "mapping.tool_frame", LEFT  # `unknown`, with the sentence that no file has it
    roles = roles_of(survey)
    for number, camera in enumerate(right.schema.cameras):
        found = {each.name: each for each in drafted.schema.cameras}
        # Names of the cameras of bags are one's own.
        held = found.get(camera.name) or drafted.schema.cameras[number]
        yield (
            f"mapping.cameras.{camera.name}",
            _verdict(camera.role == held.role, roles[held.name].confidence),
        )
    same = _texts(right) == _texts(drafted)
    instructions, successes = instructions_of(survey), successes_of(survey)
    yield "mapping.instruction", RIGHT if same else _least(instructions)
    same = [e.success for e in right.episodes] == [e.success for e in drafted.episodes]
    yield "mapping.success", RIGHT if same else _least(successes)
    flags = {"invalid_action": Flag.INVALID_ACTION, "intervention": Flag.INTERVENTION}
    for name, rules in flags_of(survey).items():
        if getattr(right.mapping, name):
            pairs = zip(right.episodes, drafted.episodes, strict=True)
            same = all(np.array_equal(a.flags_N & flags[name], b.flags_N & flags[name]) for a, b in pairs)
            yield f"mapping.{name}", RIGHT if same else _least(rules)


def _texts(rows: Rows) -> list[list[tuple[str, str]]]:
    """(kind, text) of each episode; which frames they are of goes by the rate."""
    return [[(kind, text) for _, _, kind, text, _ in episode.annotations] for episode in rows.episodes]


def _least(rules: Sequence[tuple[Mapping[str, Any], Said]]) -> str:
    """What a rule says that comes to something else; without any the draft says that nothing tells."""
    return _verdict(False, rules[0][1].confidence) if rules else LEFT


def _near(one: float | None, other: float | None) -> bool:
    return one == other or bool(one and other and abs(one - other) <= SAME_RATE * one)
