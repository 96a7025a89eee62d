"""Drafts of `inspect` beside the spec that reads a source rightly: the same canonical numbers, or not.

Shape suffixes: N = frames, d = dims of one quantity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.inspect.evidence.guess import TODO, Guess
from robot_foundry.ingest.inspect.fitting import Rows, rows_of
from robot_foundry.ingest.inspect.inspect import Seen, inspect
from robot_foundry.ingest.robot.spec.quantities import canonical_name
from robot_foundry.ingest.robot.spec.spec import Spec
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.ingest.spec.yaml_text import parse_yaml

NEXT = "next_state"
FPS = 10  # where no source tells
SAME = 2e-3  # m, rad, 0 … 1: of float32 and of numbers that a draft rounds
HIT, MISS, OPEN, ABSENT = "hit", "miss", "left open", "absent"


def verdicts(place: Path, name: str) -> list[tuple[str, str, str]]:
    """(quantity, verdict, confidence) of every quantity that the right spec has, but of the next state."""
    seen = only_of(place)
    right = rows_of(right_spec(name), seen.found.place)
    told = verdicts_of(seen, right, rows_of(closed(seen), seen.found.place))
    return [entry for entry in told if not entry[0].startswith(f"action.{NEXT}")]


def only_of(place: Path) -> Seen:
    """The one thing at the place, with its draft."""
    (seen,) = inspect(place).seen
    assert seen.spec is not None and seen.drafted is not None and seen.survey is not None
    return seen


def right_spec(name: str, settings: Sequence[str] = ()) -> Spec:
    """Without tool frames, which are in no file, so that both leave them out."""
    of_all = ["mapping.tool_frame=unknown", *settings]
    spec = load_spec(name, of_all)
    if spec.layout == "zarr":
        spec = load_spec(name, [*of_all, f"content.fps={FPS}"])
    assert isinstance(spec, Spec)
    return spec


def closed(seen: Seen) -> Spec:
    """The draft without the fields that it leaves open, as a user must decide on them."""
    values = parse_yaml(str(seen.spec), "draft")
    if values["mapping"]["embodiment"] == TODO:
        values["mapping"]["embodiment"] = "unknown"
    if values["content"].get("fps") == TODO:
        values["content"]["fps"] = FPS
    state = {name: field for name, field in values["mapping"]["state"].items() if TODO not in field.values()}

    def is_closed(name: str, field: Mapping[str, Any]) -> bool:
        return TODO not in field.values() and (field.get("from") != NEXT or name in state)

    actions = {
        stream: {name: field for name, field in fields.items() if is_closed(name, field)}
        for stream, fields in values["mapping"].get("actions", {}).items()
    }
    values["mapping"]["state"] = state
    values["mapping"]["actions"] = {stream: fields for stream, fields in actions.items() if fields}
    return spec_from_json(values, "draft")


def verdicts_of(seen: Seen, right: Rows, drafted: Rows) -> list[tuple[str, str, str]]:
    """(quantity, verdict, confidence) of every quantity that the right rows have."""
    assert seen.drafted is not None
    of_hand = {
        name: guess
        for name, guess in next(iter(seen.drafted.actions.values()), {}).items()
        if name.endswith("gripper_opening")
    }
    guessed = {"state": seen.drafted.state, **seen.drafted.actions, NEXT: {**seen.drafted.state, **of_hand}}
    told = []
    for stream in ("state", *right.schema.streams):
        column = stream if stream == "state" else f"action.{stream}"
        found = {canonical_name(name): guess for name, guess in guessed.get(stream, {}).items()}
        for quantity in dict.fromkeys(".".join(n.split(".")[:2]) for n in right.schema.space(stream).names):
            told.append(
                (f"{column} {quantity}", *_verdict(found.get(quantity), right, drafted, stream, quantity))
            )
    return told


def _verdict(guess: Guess | None, right: Rows, drafted: Rows, stream: str, quantity: str) -> tuple[str, str]:
    wanted, made = _numbers(right, stream, quantity), _numbers(drafted, stream, quantity)
    if guess is None:
        # A column that has a name of its own, and that no quantity takes, is there under that name.
        return (HIT if np.array_equal(wanted, made) else ABSENT), ""
    if guess.run.is_open:
        return OPEN, guess.run.confidence
    if not made.size:
        return ABSENT, guess.run.confidence
    if len(wanted) != len(made):  # bags are brought onto frames of another rate: the same ranges
        same = np.allclose(
            np.percentile(wanted, [5, 95], axis=0), np.percentile(made, [5, 95], axis=0), atol=0.1
        )
    else:
        # What one of the two flags holds zeros there.
        flags = Flag.INVALID_STATE | Flag.INVALID_ACTION
        valid = np.concatenate(
            [
                (one.flags_N | other.flags_N) & flags == 0
                for one, other in zip(right.episodes, drafted.episodes, strict=True)
            ]
        )
        same = wanted.shape == made.shape and bool(np.abs(wanted - made)[valid].max() < SAME)
    return HIT if same else MISS, guess.run.confidence


def _numbers(rows: Rows, stream: str, quantity: str) -> NDArray[np.float32]:
    """[N, d], with no columns where there is no such quantity."""
    if stream != "state" and stream not in rows.schema.streams:
        return np.zeros((0, 0), np.float32)
    space = rows.schema.space(stream)
    columns = [
        space.index(name) for name in space.names if name == quantity or name.startswith(f"{quantity}.")
    ]
    values = [e.state_ND if stream == "state" else e.streams[stream] for e in rows.episodes]
    return np.concatenate(values)[:, columns]
