"""Dims of their own names for columns of which the source tells a name and no field says what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from robot_foundry.checks.finding import listed
from robot_foundry.ingest.robot.absence.asked import Asked
from robot_foundry.ingest.robot.content.survey import Surveyed
from robot_foundry.ingest.robot.forms import FORMS
from robot_foundry.ingest.robot.spec.quantities import quantity_kind
from robot_foundry.ingest.robot.spec.spec import Field, MappingSpec
from robot_foundry.ingest.sources.robot.named_columns import NAMED
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError

# The stream of what the state became, where the spec has none of that name; and the form of its fields.
NEXT_STATE = "next_state"
MOST_SHOWN = 6


def with_named(asked: Asked, episodes: Sequence[Surveyed]) -> tuple[Asked, tuple[str, ...]]:
    """What is asked, with the columns that `others` wants; and a sentence on those of which nobody says more.

    What most episodes tell decides. FoundryError if there is no state then.
    """
    mapping = asked.mapping
    if mapping.others is None:
        return asked, ()
    told = _told(episodes)
    if told is None:
        if mapping.state or not episodes:
            return replace(asked, mapping=replace(mapping, others=None)), ()
        raise FoundryError("the source names no columns, so mapping.state has to say what the state is")
    state = {**mapping.state, **_free(told["state"], [mapping.state], mapping.state)}
    actions = {name: dict(fields) for name, fields in mapping.actions.items()}
    for stream, columns in told["actions"].items():
        own = actions.get(stream, {})
        own = {**own, **_free(columns, list(mapping.actions.values()), own)}
        actions |= {stream: own} if own else {}
    if not state:
        raise FoundryError(
            "the source has no state, only actions" if told["actions"] else "the source has no state",
            hint="a field of mapping.state that takes columns of another array says what the state is",
        )
    following = {name: Field(NEXT_STATE, names=field.names, unit=field.unit) for name, field in state.items()}
    actions.setdefault(NEXT_STATE, following)
    completed = replace(mapping, state=state, actions=actions, others=None)
    return replace(asked, mapping=completed), tuple(_sentence(mapping, completed))


def _told(episodes: Sequence[Surveyed]) -> Any:
    """What most episodes tell of their columns, of equally many the first; None if none tells any."""
    environments = [item.episode["environment"] for item in episodes]
    told = [environment[NAMED] for environment in environments if NAMED in environment]
    counts = Counter(map(canonical_json, told))
    return max(told, key=lambda one: counts[canonical_json(one)], default=None)


def _free(
    columns: Sequence[Sequence[Any]], takers: Sequence[Mapping[str, Field]], own: Mapping[str, Field]
) -> dict[str, Field]:
    """Fields for the named columns that no field of the takers has, a field for each run of them."""
    fields: dict[str, Field] = {}
    for quantity, key, first, names, *told in columns:
        width = max(start + len(called) for _, other, start, called, *_ in columns if other == key)
        taken = {
            column
            for taker in takers
            for field in taker.values()
            if field.key == key
            for column in field.columns_of(width)
        }
        runs = list(_runs([column for column in range(first, first + len(names)) if column not in taken]))
        meant = told[0] if told and runs == [(first, first + len(names))] else None
        if meant is not None and meant["quantity"] not in {*own, *fields}:
            fields[meant["quantity"]] = _meant(meant, key, runs[0])
            continue
        for start, stop in runs:
            name = _unlike(quantity, {*own, *fields})
            fields[name] = Field(
                "value",
                key,
                (start, stop),
                names=tuple(names[start - first : stop - first]),
                parameters={"scale": 1.0},
            )
    return fields


def _meant(meant: Mapping[str, Any], key: str, columns: tuple[int, int]) -> Field:
    """The field of columns whose meaning the source tells."""
    forms = FORMS[str(quantity_kind(meant["quantity"]))]
    kind = meant.get("form") or "value"
    names, units = meant.get("names"), meant["units"]
    return Field(
        kind,
        key,
        columns,
        names=None if names is None else tuple(names),
        unit=None if units is None else tuple(units),
        parameters={name: setting.default for name, setting in forms[kind].settings.items()},
    )


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of rising numbers, from and to (exclusive)."""
    for _, run in groupby(enumerate(numbers), key=lambda item: item[1] - item[0]):
        members = [number for _, number in run]
        yield members[0], members[-1] + 1


def _unlike(quantity: str, used: set[str]) -> str:
    numbered = (f"{quantity}_{n}" for n in range(2, len(used) + 3))
    return quantity if quantity not in used else next(name for name in numbered if name not in used)


def _sentence(asked: MappingSpec, completed: MappingSpec) -> Iterator[str]:
    before = {"state": asked.state, **asked.actions}
    dims: dict[str, None] = {}
    counts: dict[str, int] = {}
    for where, fields in {"state": completed.state, **completed.actions}.items():
        for quantity, field in fields.items():
            is_new = quantity not in before.get(where, {})
            if field.key and field.names is not None and field.unit is None and is_new:
                dims |= dict.fromkeys(f"{quantity}.{name}" for name in field.names)
                counts[field.key] = counts.get(field.key, 0) + len(field.names)
    if dims:
        columns = " and ".join(f"{count} of '{key}'" for key, count in counts.items())
        shown = listed(list(dims), MOST_SHOWN)
        yield (
            f"nothing says what columns mean ({columns}), so they are dims of this robot, of their own names "
            f"and an unknown unit ({shown}): a quantity of the mapping that takes a column gives it a meaning"
        )
