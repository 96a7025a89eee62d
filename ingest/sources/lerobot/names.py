"""What the columns of states and actions are called: by `names` of the features, and groups of modality.json.

None of these say units or frames, so nothing is guessed from them: they are dims of their own names, to which
a spec gives a meaning. Names of our scheme have theirs (`scheme_names`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from robot_foundry.ingest.robot.spec.quantities import OWN, misspelt_part, quantity_kind
from robot_foundry.ingest.sources.lerobot.info import AUDIO, IMAGE, VIDEO, Feature, Info
from robot_foundry.ingest.sources.lerobot.json_meta import whole
from robot_foundry.ingest.sources.lerobot.scheme_names import runs_of
from robot_foundry.ingest.sources.robot.named_columns import (
    COMMAND,
    LONGEST,
    MOST_NAMED,
    ROBOT,
    VALUE,
    own_quantity,
    plain,
)

STATE, ACTION = "observation.state", "action"
_NO_NUMBERS = (VIDEO, IMAGE, AUDIO, "string")
# Quantity, key, first column, names of the columns from it on; and what they mean, where the names are dims.
Named = list[Any]


def named_columns(info: Info, modality: Mapping[str, Any], widths: Mapping[str, int]) -> dict[str, Any]:
    """Names of the columns of `state` and of each stream of `actions`; `widths` are those of the columns."""
    state: list[Named] = []
    actions: dict[str, list[Named]] = {}
    for key in sorted(widths, key=lambda key: (key not in (STATE, ACTION), key)):
        feature = info.features.get(key) or Feature(key, "float32", None, None, False)
        if feature.dtype in _NO_NUMBERS or not 0 < widths[key] <= MOST_NAMED:
            continue
        if key.startswith("observation."):
            state += _groups(feature, widths[key], modality.get("state"), STATE)
        elif key == ACTION or key.startswith(f"{ACTION}."):
            is_one = key == ACTION or ACTION not in widths
            stream = COMMAND if is_one else _stream(key)
            actions.setdefault(stream, []).extend(_groups(feature, widths[key], modality.get(ACTION), ACTION))
    return {"state": state, "actions": actions}


def _stream(key: str) -> str:
    name = plain(key.removeprefix(f"{ACTION}."))[:LONGEST]
    return name if name[:1].isalpha() and name != COMMAND else f"command_{name}"[:LONGEST].rstrip("_")


def _groups(feature: Feature, width: int, stated: Any, usual: str) -> Iterator[Named]:
    """The columns in groups: those of modality.json that are of this feature, and what none of them has."""
    names = _names(feature, width)
    quantity = VALUE if feature.key == usual else own_quantity(feature.key.partition(".")[2])
    taken: set[int] = set()
    told = feature.names if feature.names is not None and len(feature.names) == width else ()
    units = feature.units if feature.units is not None and len(feature.units) == width else None
    for meant in runs_of(told, units):
        taken.update(range(meant.first, meant.stop))
        yield [
            f"{ROBOT}.{quantity}",
            feature.key,
            meant.first,
            names[meant.first : meant.stop],
            meant.meaning,
        ]
    for name, start, end in _stated(stated, feature.key, usual):
        columns = range(start, min(end, width))
        if len(columns) and taken.isdisjoint(columns):
            taken.update(columns)
            yield [f"{_part(name)}.{quantity}", feature.key, start, names[start : columns.stop]]
    free = [column for column in range(width) if column not in taken]
    for _, run in groupby(enumerate(free), key=lambda item: item[1] - item[0]):
        columns_free = [column for _, column in run]
        first, last = columns_free[0], columns_free[-1]
        yield [f"{ROBOT}.{quantity}", feature.key, first, names[first : last + 1]]


def _stated(stated: Any, key: str, usual: str) -> Iterator[tuple[str, int, int]]:
    for name, group in stated.items() if isinstance(stated, dict) else ():
        if isinstance(group, dict) and group.get("original_key", usual) == key:
            start, end = whole(group.get("start")), whole(group.get("end"))
            if start is not None and end is not None:
                yield str(name), start, end


def _names(feature: Feature, width: int) -> list[str]:
    """One for each column, unlike the others; its number where the feature names others, or none."""
    names = feature.names if feature.names is not None and len(feature.names) == width else ()
    made: list[str] = []
    for column in range(width):
        name = plain(names[column])[:LONGEST].strip("_") if names else ""
        name = name or str(column)
        made.append(name if name not in made else f"{name}_{column}")
    return made


def _part(name: str) -> str:
    part = plain(name)[:LONGEST].strip("_")
    is_part = quantity_kind(f"{part}.{VALUE}") == OWN and misspelt_part(f"{part}.{VALUE}") is None
    return part if is_part else f"part_{part}".rstrip("_")
