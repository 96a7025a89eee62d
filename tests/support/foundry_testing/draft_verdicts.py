"""Drafts of `inspect` beside the spec that reads a source rightly: the same canonical numbers, or not.

Shape suffixes: N = frames, d = dims of one quantity.
"""

from __future__ import annotations

from collections.abc import Mapping
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

SAME = 2e-3  # m, rad, 0 … 1: of float32 and of numbers that a draft rounds
HIT, MISS, OPEN, ABSENT = "hit", "miss", "left open", "absent"


def verdicts(place: Path, name: str) -> list[tuple[str, str, str]]:
    """(quantity, verdict, confidence) of every quantity that the right spec has, but of the next state."""
    (seen,) = inspect(place).seen
    assert seen.spec is not None and seen.drafted is not None and seen.survey is not None
    # Tool frames are in no file, so both leave them out.
    spec = load_spec(name, ["mapping.tool_frame=unknown"])
    assert isinstance(spec, Spec)
    right = rows_of(spec, seen.found.place)
    drafted = rows_of(_closed(seen), seen.found.place)
    columns = [("state", "state", seen.drafted.state)]
    columns += [
        (f"action.{s}", s, seen.drafted.actions.get(s, {})) for s in right.schema.streams if s != "next_state"
    ]
    told = []
    for column, stream, guesses in columns:
        for quantity in dict.fromkeys(".".join(n.split(".")[:2]) for n in right.schema.space(stream).names):
            found = {canonical_name(q): guess for q, guess in guesses.items()}.get(quantity)
            told.append((f"{column} {quantity}", *_verdict(found, right, drafted, stream, quantity)))
    return told


def _closed(seen: Seen) -> Spec:
    """The draft without the fields that it leaves open, as a user must decide on them."""
    values = parse_yaml(str(seen.spec), "draft")
    values["mapping"]["embodiment"] = "unknown"
    if values["content"].get("fps") == TODO:
        values["content"]["fps"] = 10

    def closed(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {name: field for name, field in fields.items() if TODO not in field.values()}

    values["mapping"]["state"] = closed(values["mapping"]["state"])
    actions = {stream: closed(fields) for stream, fields in values["mapping"].get("actions", {}).items()}
    values["mapping"]["actions"] = {stream: fields for stream, fields in actions.items() if fields}
    return spec_from_json(values, "draft")


def _verdict(guess: Guess | None, right: Rows, drafted: Rows, stream: str, quantity: str) -> tuple[str, str]:
    if guess is None:
        return ABSENT, ""
    if guess.run.is_open:
        return OPEN, guess.run.confidence
    wanted, made = _numbers(right, stream, quantity), _numbers(drafted, stream, quantity)
    if len(wanted) != len(made):  # bags are brought onto frames of another rate: the same ranges
        same = np.allclose(
            np.percentile(wanted, [5, 95], axis=0), np.percentile(made, [5, 95], axis=0), atol=0.1
        )
    else:
        # Rules that flag frames are not drafted, and such frames hold zeros.
        valid = np.concatenate(
            [e.flags_N & (Flag.INVALID_STATE | Flag.INVALID_ACTION) == 0 for e in right.episodes]
        )
        same = wanted.shape == made.shape and bool(np.abs(wanted - made)[valid].max() < SAME)
    return HIT if same else MISS, guess.run.confidence


def _numbers(rows: Rows, stream: str, quantity: str) -> NDArray[np.float32]:
    space = rows.schema.space(stream)
    columns = [
        space.index(name) for name in space.names if name == quantity or name.startswith(f"{quantity}.")
    ]
    values = [e.state_ND if stream == "state" else e.streams[stream] for e in rows.episodes]
    return np.concatenate(values)[:, columns]
