"""The dims of a field's columns: of the naming scheme, or of names that the field gives itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from robot_foundry.ingest.robot.spec.quantities import canonical_name
from robot_foundry.ingest.robot.spec.spec import Field
from robot_foundry.normalization.space import ActionSpace, Dim, dims_for

# The unit of numbers of which nobody says what they are.
UNKNOWN_UNIT = "unknown"


def dims_of(quantity: str, field: Field, count: int, unit: str | Sequence[str] | None = None) -> list[Dim]:
    """The dims of `count` columns, in their order. `unit` is that of all, or of each, None the usual one.

    A quantity beyond the scheme means something on one embodiment only.
    """
    if field.names is not None:
        dims = [Dim(f"{quantity}.{name}", UNKNOWN_UNIT, "other", shared=False) for name in field.names]
    else:
        dims = list(dims_for(canonical_name(quantity), count=count))
    units = [unit] * len(dims) if unit is None or isinstance(unit, str) else unit
    return [replace(dim, unit=one) if one else dim for dim, one in zip(dims, units, strict=False)]


def places_in(space: ActionSpace, quantity: str, field: Field) -> list[int]:
    """Where the dims of a field lie in a space, in the order of its columns; none if it lacks them."""
    name = canonical_name(quantity)
    if field.names is not None:
        names = [f"{name}.{component}" for component in field.names]
        return [space.index(dim) for dim in names] if all(dim in space for dim in names) else []
    names = [name] if name in space else [n for n in space.names if n.rpartition(".")[0] == name]
    return [space.index(dim) for dim in names]
