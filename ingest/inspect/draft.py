"""A spec in YAML as evidence drafts it: each guess with its confidence and why, TODO where none knows."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robot_foundry.ingest.inspect.evidence.drafted import FOLLOWED, Drafted
from robot_foundry.ingest.inspect.evidence.guess import TODO, Guess
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
from robot_foundry.ingest.robot.forms import default_form
from robot_foundry.ingest.robot.spec.content_reader import robot_layouts
from robot_foundry.ingest.robot.spec.quantities import quantity_kind
from robot_foundry.ingest.sources.hdf5.layouts import StatedPlaces
from robot_foundry.ingest.sources.ros.options import RosOptions
from robot_foundry.ingest.sources.unusable import shown

WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./*-]*")
_WORDS = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan"))
MOST_UNREAD = 40
HAND = "gripper_opening"


def draft(survey: Survey, found: Drafted) -> str:
    """The YAML of a spec that reads the surveyed source, with a comment above every guess."""
    lines = [*_head(survey), *_content(survey), *_mapping(survey, found), *_unread(found)]
    return "\n".join(lines) + "\n"


def flow(value: Any) -> str:
    """A value on one line of YAML; texts in quotes unless they are plain beyond doubt."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS and not value.startswith("*")
        return value if is_plain and "*" not in value else json.dumps(value)
    if isinstance(value, float):
        return f"{value:g}" if value == float(f"{value:g}") else repr(value)
    return json.dumps(value)


def comment(text: str, indent: int) -> list[str]:
    """Lines of a comment; nothing in the text can end it."""
    safe = shown(" ".join(text.split()), 2000)
    prefix = " " * indent + "# "
    return textwrap.wrap(safe, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False)


def _head(survey: Survey) -> Iterator[str]:
    found = survey.found
    read = f"{len(survey.read)} of {len(survey.units)} listed episodes"
    yield from comment(f"Drafted from {found.form}, {found.place}: {read} were read.", 0)
    yield from comment(
        "A guess has its confidence above it: high, where numbers prove it; medium, where numbers and names "
        f"agree; low, where it is only likely. Check each. {TODO} is what the data do not tell: `ingest` "
        "names their lines.",
        0,
    )
    for sentence in survey.told:
        yield from comment(sentence, 0)
    yield f"layout: {found.layout}"


def _content(survey: Survey) -> Iterator[str]:
    yield "content:"
    content, notes = survey.spec.content, survey.notes
    rate = rate_of(survey)
    if isinstance(content.options, RosOptions):
        yield from _ros(content.options, notes)
    elif rate.value == TODO or survey.found.layout in ("rlds", "zarr"):
        yield from comment(rate.why, 2)
        yield f"  fps: {flow(rate.value)}"
    else:
        yield from comment(f"{rate.confidence}: {rate.why}; `fps: …` overrides it", 2)
        yield "  cameras: all"
    if isinstance(content.options, StatedPlaces):
        yield from _hdf5(content.options, notes)
    if content.extra_row is not None:
        yield from comment(
            f"{notes.get('extra_row', '')}: it is taken for the state after the last action", 2
        )
        yield f"  extra_row: {content.extra_row}"


def _hdf5(places: StatedPlaces, notes: Mapping[str, str]) -> Iterator[str]:
    yield "  hdf5:"
    values = {name: value for name, value in places.to_json().items() if value}
    for name, value in values.items():
        if name in notes:
            yield from comment(notes[name], 4)
        yield f"    {name}: {flow(value)}"


def _ros(options: RosOptions, notes: Mapping[str, str]) -> Iterator[str]:
    yield "  ros:"
    yield from comment(notes.get("rate", ""), 4)
    yield f"    rate: {flow(options.rate)}"
    for section in ("cameras", "depth", "streams", "texts", "attributes"):
        entries = getattr(options, section)
        if entries:
            yield f"    {section}:"
        for name, entry in entries.items():
            yield from comment(notes.get(f"{section}.{name}", ""), 6)
            said = {key: value for key, value in entry.to_json().items() if value not in (None, [], "")}
            if said.get("match") == ("nearest" if section in ("cameras", "depth") else "linear"):
                del said["match"]
            yield f"      {name}: {flow(said)}"


def _mapping(survey: Survey, found: Drafted) -> Iterator[str]:
    yield "mapping:"
    robot = robot_of(survey)
    yield from comment(f"{robot.confidence}: {robot.why}" if robot.value != TODO else robot.why, 2)
    yield f"  embodiment: {flow(robot.value)}"
    yield from comment("How the tool lies in the flange's frame is in no file: docs/actions.md", 2)
    yield "  tool_frame: unknown"
    roles = roles_of(survey)
    if roles:
        yield "  cameras:"
    for name, said in roles.items():
        yield from comment(f"{said.confidence}: {said.why}", 4)
        yield f"    {flow(name)}: {said.value}"
    rules = [("instruction", instructions_of(survey)), ("success", successes_of(survey))]
    for key, of in rules:
        if not of:
            yield from comment(f"nothing tells {'an ' if key == 'instruction' else ''}{key}", 2)
            yield f"  {key}: []"
            continue
        yield f"  {key}:"
        yield from _rules(of)
    for key, of in flags_of(survey).items():
        if of:
            yield f"  {key}:"
            yield from _rules(of)
    yield from _quantities(survey, found)


def _rules(rules: Sequence[tuple[Mapping[str, Any], Said]]) -> Iterator[str]:
    for rule, said in rules:
        yield from comment(f"{said.confidence}: {said.why}", 4)
        yield f"    - {flow(rule)}"


def _quantities(survey: Survey, found: Drafted) -> Iterator[str]:
    names_columns = robot_layouts()[str(survey.found.layout)].names_columns
    if found.state:
        yield "  state:"
        for name, guess in found.state.items():
            yield from _field(name, guess, 4)
    elif names_columns:
        yield "  state: {}"
    else:
        yield from comment(
            "no array looks like a quantity of a robot's state: docs/specs.md says how to name one", 2
        )
        yield f"  state: {TODO}"
    followed = [name for name in found.state if name.partition(".")[2] in FOLLOWED]
    # Of a hand alone nothing can be learned: it is in the stream of what the robot then did.
    streams = {name: of for name, of in found.actions.items() if of and not (followed and _is_hand(of))}
    if streams or followed:
        yield "  actions:"
    for stream, of in streams.items():
        yield f"    {stream}:"
        for name, guess in of.items():
            yield from _field(name, guess, 6)
    if followed:
        yield from comment("What the robot then did.", 4)
        yield "    next_state:"
        for name in followed:
            yield f"      {name}: {{from: next_state}}"
        for name, guess in next(iter(found.actions.values()), {}).items():
            if name.endswith(HAND) and streams:
                yield f"      {name}: {flow(field_of(name, guess))}"
            elif name.endswith(HAND):
                yield from _field(name, guess, 6)
    if names_columns:
        yield from comment("Columns that no quantity takes become dims of their own names.", 2)
        yield "  others: named"


def _is_hand(stream: Mapping[str, Guess]) -> bool:
    return all(name.endswith(HAND) for name in stream)


def field_of(quantity: str, guess: Guess) -> dict[str, Any]:
    """The field of a spec that reads the guess."""
    run = guess.run
    settings = {name: value for name, value in run.settings.items() if name != "ends"}
    field: dict[str, Any] = {"key": guess.key}
    if guess.columns is not None:
        field["columns"] = list(guess.columns)
    if run.form != default_form(str(quantity_kind(quantity))) or quantity.endswith(HAND):
        field["from"] = run.form
    return {**field, **settings}


def _field(name: str, guess: Guess, indent: int) -> Iterator[str]:
    run = guess.run
    asked = ""
    if run.form == TODO and run.kind == "rotation":
        asked = (
            "; from: rot6d_columns or rot6d_rows?"
            if run.width == 6
            else "; from: euler (with sequence) or axis_angle?"
        )
    elif TODO in run.settings.values() and "order" in run.settings:
        asked = "; order: xyzw or wxyz?"
    elif TODO in run.settings.values() and "open" in run.settings:
        asked = "; which numbers are closed and open?"
    yield from comment(f"{run.confidence}: {'; '.join(run.evidence)}{asked}", indent)
    yield f"{' ' * indent}{name}: {flow(field_of(name, guess))}"


def _unread(found: Drafted) -> Iterator[str]:
    for pair in found.pairs:
        yield from comment(pair, 0)
    if found.unread:
        yield "# Arrays that no quantity takes; they stay in the tars:"
    for name, looks in list(found.unread.items())[:MOST_UNREAD]:
        yield from comment(f"  {name}: {looks}", 0)
    if len(found.unread) > MOST_UNREAD:
        yield f"#   and {len(found.unread) - MOST_UNREAD} more"
