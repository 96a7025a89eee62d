"""Specs that contradict their data: five confusions, told from a right spec, and whether findings name them.

A confusion is put into a spec wherever the spec states what may be confused; whether the data could show it
at all is judged here by what the spec maps, and by nothing that the checks say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GRIPPER, DEGREES, RADIANS, ORDER, MAJOR, DELTA = (
    "gripper swapped",
    "degrees read as radians",
    "radians read as degrees",
    "quaternion order",
    "rows for columns",
    "delta for absolute",
)
ERRORS = (GRIPPER, DEGREES, RADIANS, ORDER, MAJOR, DELTA)
OTHER_ORDER = {"xyzw": "wxyz", "wxyz": "xyzw"}
OTHER_MAJOR = {"rows": "columns", "columns": "rows"}
# Of angles by their joints, turns and wheels; a scale makes them radians.
ANGLES = ("joint_position", "joint_velocity", "ee_angular_velocity", "yaw")
DEGREE = math.pi / 180
# What a finding says, in lower case, that has found the cause: any of these.
NAMES = {
    GRIPPER: ("closed and open swapped",),
    DEGREES: ("degrees",),
    RADIANS: ("degrees",),
    ORDER: ("other order of its quaternion",),
    MAJOR: ("rows for columns",),
    DELTA: ("read as absolute", "read as displacements"),
}

Fields = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Confusion:
    """`overrides` put the error in at `place`, state or action. `hidden` says why no data could show it, ''
    where they could. `from_degrees` wants recordings whose angles are in degrees."""

    error: str
    place: str
    overrides: tuple[str, ...]
    hidden: str = ""
    from_degrees: bool = False


def confusions(mapping: Mapping[str, Any]) -> list[Confusion]:
    """All that a spec's mapping (as JSON) may confuse."""
    makers = (_grippers, _angles, _orders, _majors, _displacements)
    return [confusion for maker in makers for confusion in maker(mapping)]


def in_degrees(mapping: Mapping[str, Any]) -> tuple[str, ...]:
    """What a right spec says of recordings whose angles are in degrees."""
    return tuple(
        override
        for path, name, field in _fields(mapping)
        for override in _angle_settings(path, name, field, degrees=True)
    )


def names_cause(error: str, findings: Sequence[Mapping[str, Any]]) -> bool:
    said = [finding["message"].lower() for finding in findings]
    return any(words in message for message in said for words in NAMES[error])


def _fields(mapping: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(path of the override, quantity without its part, settings) of what is read from a key."""
    columns = {"state": mapping["state"]} | {f"actions.{name}": of for name, of in mapping["actions"].items()}
    for column, fields in columns.items():
        for quantity, field in fields.items():
            if "key" in field:
                yield f"mapping.{column}.{quantity}", quantity.partition(".")[2], field


def _place(path: str) -> str:
    return path.split(".")[1].removesuffix("s") if path.startswith("mapping.actions") else "state"


def _of_place(mapping: Mapping[str, Any], place: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [each for each in _fields(mapping) if _place(each[0]) == place]


def _grippers(mapping: Mapping[str, Any]) -> Iterator[Confusion]:
    sides = {
        place: [each for each in _of_place(mapping, place) if each[1] == "gripper_opening"]
        for place in ("state", "action")
    }
    for place, other in (("state", "action"), ("action", "state")):
        swaps = [
            f"{path}.{name}={field[from_]:g}"
            for path, _, field in sides[place]
            for name, from_ in (("closed", "open"), ("open", "closed"))
        ]
        hidden = "" if sides[other] else f"no opening in the {other}"
        if any(field["from"] in ("width", "fingers") for _, _, field in sides[place]):
            hidden = ""  # a gap grows as it opens
        if swaps:
            yield Confusion(GRIPPER, place, tuple(swaps), hidden)


def _angles(mapping: Mapping[str, Any]) -> Iterator[Confusion]:
    """Of each place all angles, which one who confuses units confuses alike."""
    for place in ("state", "action"):
        fields = _of_place(mapping, place)
        wrong = [o for path, name, field in fields for o in _angle_settings(path, name, field, degrees=True)]
        if not wrong:
            continue
        yield Confusion(RADIANS, place, tuple(wrong))
        kept = [o for path, name, f in _fields(mapping) for o in _angle_settings(path, name, f, degrees=True)]
        others = tuple(override for override in kept if override not in wrong)
        yield Confusion(DEGREES, place, others, from_degrees=True)


def _angle_settings(path: str, name: str, field: Mapping[str, Any], *, degrees: bool) -> Iterator[str]:
    """What makes radians of Euler angles and joints in degrees; those with limits are shares of a step."""
    if field.get("clip") is not None:
        return
    if name == "ee_rotation" and field["from"] == "euler":
        yield f"{path}.degrees={json.dumps(degrees)}"
    elif (name == "ee_rotation" and field["from"] == "delta" and len(field["rotation"]) == 3) or (
        name in ANGLES and "scale" in field
    ):
        yield f"{path}.scale={field['scale'] * DEGREE:.10g}"


def _orders(mapping: Mapping[str, Any]) -> Iterator[Confusion]:
    state = {name for _, name, _ in _of_place(mapping, "state")}
    turns = [name for _, name, _ in _of_place(mapping, "action") if "rotation" in name or "angular" in name]
    for path, name, field in _fields(mapping):
        setting = "rotation" if field["from"] == "delta" else "order"
        if name == "ee_rotation" and field.get(setting) in OTHER_ORDER:
            override = f"{path}.{setting}={OTHER_ORDER[field[setting]]}"
            told = (
                {"joint_position", "ee_rotation"} & state
                if _place(path) == "action"
                else (turns or {"joint_position", "ee_angular_velocity"} & state)
            )
            yield Confusion(ORDER, _place(path), (override,), "" if told else "nothing else turns with it")


def _majors(mapping: Mapping[str, Any]) -> Iterator[Confusion]:
    for path, _, field in _fields(mapping):
        if field.get("major") in OTHER_MAJOR:
            yield Confusion(MAJOR, _place(path), (f"{path}.major={OTHER_MAJOR[field['major']]}",))


def _displacements(mapping: Mapping[str, Any]) -> Iterator[Confusion]:
    """Of each stream all displacements read as targets, or all targets as displacements."""
    for stream, fields in mapping["actions"].items():
        overrides = []
        for quantity, field in fields.items():
            other = _other_of(quantity.partition(".")[2], field) if "key" in field else None
            if other is not None and "key" in mapping["state"].get(quantity, {}):
                overrides.append(f"mapping.actions.{stream}.{quantity}={json.dumps(other)}")
        if overrides:
            yield Confusion(DELTA, "action", tuple(overrides))


def _other_of(name: str, field: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The same numbers as targets, or as displacements; None where they are neither."""
    kept = {key: field[key] for key in ("key", "columns", "names") if field.get(key) is not None}
    if field["from"] == "osc":
        return {**kept, "from": "axis_angle" if name == "ee_rotation" else "value"}
    if name == "ee_rotation":
        if field["from"] == "delta":
            return {**kept, **_rotation_form(field["rotation"])}
        if field["from"] in ("euler", "quaternion", "axis_angle"):
            turn = field.get("sequence") or field.get("order") or "axis_angle"
            return {**kept, "from": "delta", "rotation": turn}
        return None
    if field["from"] == "delta":
        return {**kept, "scale": field["scale"]}
    if field["from"] == "value" and name in ("ee_position", "joint_position"):
        return {**kept, "from": "delta", "scale": field["scale"]}
    return None


def _rotation_form(turn: str) -> Mapping[str, Any]:
    if turn == "axis_angle":
        return {"from": "axis_angle"}
    return {"from": "quaternion", "order": turn} if len(turn) == 4 else {"from": "euler", "sequence": turn}
