"""Names of columns that are dims of our naming scheme: they mean what the scheme says, and in its units.

An export of ours has such names, with the units beside them, so that what goes out comes back as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robot_foundry.ingest.robot.dims import UNKNOWN_UNIT
from robot_foundry.ingest.robot.spec.quantities import COMPONENT, OWN, quantity_kind
from robot_foundry.normalization.space import PARTS, QUANTITIES, Dim, dims_for
from robot_foundry.runtime.errors import FoundryError

ROTATION = "ee_rot6d"
LONGEST = 80


@dataclass(frozen=True)
class Run:
    """Neighbouring columns `first` … `stop` (exclusive) that are one quantity.

    `meaning` is what a field of the mapping has of it: `quantity`, for one of the scheme `form` (None: the
    usual one), for another `names` of its components; and `units`, None where they are those of the scheme.
    """

    first: int
    stop: int
    meaning: dict[str, Any]


def runs_of(names: Sequence[str], units: Sequence[str] | None) -> Iterator[Run]:
    """The runs of columns whose names and units are dims. A quantity of the scheme is whole, and in order.

    Names beyond the scheme are dims where units are told with them, as nobody else does.
    """
    column = 0
    while column < len(names):
        part, _, rest = names[column].partition(".")
        prefix = f"{part}.{rest.partition('.')[0]}"
        stop = column + 1
        while stop < len(names) and names[stop].startswith(f"{prefix}."):
            stop += 1
        of_run = None if units is None else units[column:stop]
        meaning = _meaning(prefix, names[column:stop], of_run)
        if meaning is not None:
            yield Run(column, stop, meaning)
        column = stop


def _meaning(quantity: str, names: Sequence[str], units: Sequence[str] | None) -> dict[str, Any] | None:
    part, _, name = quantity.partition(".")
    if name not in QUANTITIES:
        components = [full.removeprefix(f"{quantity}.") for full in names]
        is_own = units is not None and quantity_kind(quantity) == OWN and len(quantity) <= LONGEST
        is_sound = len(set(components)) == len(components) and all(map(COMPONENT.fullmatch, components))
        if not is_own or not is_sound:
            return None
        is_known = any(unit != UNKNOWN_UNIT for unit in units or ())
        return {"quantity": quantity, "names": components, "units": list(units or ()) if is_known else None}
    if units is None and part not in PARTS:
        return None
    try:
        dims = dims_for(quantity, count=len(names))
        if [dim.name for dim in dims] != list(names):
            return None
        told = [unit for dim, unit in zip(dims, units or (), strict=False) if _is_of(dim, unit)]
    except FoundryError:
        return None
    if units is not None and len(told) != len(dims):
        return None
    is_usual = units is None or list(units) == [dim.unit for dim in dims]
    if not is_usual and QUANTITIES[name].components is not None:
        return None
    if name == ROTATION:
        return {"quantity": f"{part}.ee_rotation", "form": "rot6d_exact", "units": None}
    return {"quantity": quantity, "units": None if is_usual else list(units or ())}


def _is_of(dim: Dim, unit: str) -> bool:
    """Whether the dim can have that unit."""
    Dim(dim.name, unit, dim.kind)
    return True
