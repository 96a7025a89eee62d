"""The overrides of a spec that would mend a finding: mapping.<where>.<quantity>.<setting>=<value>."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_OTHER = {"xyzw": "wxyz", "wxyz": "xyzw", "rot6d_columns": "rot6d_rows", "rot6d_rows": "rot6d_columns"}
# A gain within this ratio of a unit's factor is taken for it: 57.3 and 100 stay apart.
_NEAR = 1.3


# Between units that are mixed up, and how to say so; the inverse of each counts too.
FACTORS = {
    "millimetres for metres": 1000.0,
    "centimetres for metres": 100.0,
    "degrees for radians": 180.0 / math.pi,
}


def nearest_unit(gain: float) -> str:
    """The mistake whose factor is near the gain or its inverse, '' if none is."""
    for name, factor in FACTORS.items():
        if any(1 / _NEAR < abs(gain) * by < _NEAR for by in (factor, 1 / factor)):
            return name
    return ""


def near_unit(gain: float) -> str:
    """', as millimetres for metres would' or nothing."""
    name = nearest_unit(gain)
    return f", as {name} would" if name else ""


def _exact(gain: float) -> float:
    """The unit's own factor where the gain is near one, so that an override is a round number."""
    name = nearest_unit(gain)
    if not name:
        return float(f"{gain:.3g}")
    factor = FACTORS[name]
    return factor if gain > 1 else 1 / factor


@dataclass(frozen=True)
class Remedy:
    """Overrides for one dataset; `mapping` is the mapping of its spec as JSON, {} where it is not known."""

    mapping: Mapping[str, Any]

    def swapped_gripper(self, column: str, dim: str) -> tuple[str, ...]:
        """closed and open changed over."""
        path, settings = self._field(column, dim)
        if "closed" not in settings or "open" not in settings:
            return ()
        return (f"{path}.closed={settings['open']:g}", f"{path}.open={settings['closed']:g}")

    def other_rotation(self, column: str, part: str) -> tuple[str, ...]:
        """The other order of a quaternion, degrees, or the other reading of rot6d."""
        path, settings = self._field(column, f"{part}.ee_rotation")
        form = settings.get("from")
        if form == "quaternion" and settings.get("order") in _OTHER:
            return (f"{path}.order={_OTHER[settings['order']]}",)
        if form == "euler":
            return (f"{path}.degrees={'false' if settings.get('degrees') else 'true'}",)
        return (f"{path}.from={_OTHER[form]}",) if form in _OTHER else ()

    def scaled(
        self, column: str, quantity: str, gain: float, dims: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """The field's scale times the gain; for some `dims` of it only, where the scale names each."""
        path, settings = self._field(column, quantity)
        if "scale" not in settings:
            return ()
        scale, factor = settings["scale"], _exact(gain)
        if isinstance(scale, list | tuple):
            chosen = {dim.rpartition(".")[2] for dim in dims or ()}
            components = "xyz" if quantity.endswith("ee_position") else [str(i) for i in range(len(scale))]
            values = [
                s * factor if c in chosen or not chosen else s
                for s, c in zip(scale, components, strict=False)
            ]
            return (f"{path}.scale={json.dumps(values)}",)
        return (f"{path}.scale={scale * factor:.8g}",)

    def _field(self, column: str, quantity: str) -> tuple[str, Mapping[str, Any]]:
        stream = column.removeprefix("action.")
        if stream == column:
            path, fields = f"mapping.state.{quantity}", self.mapping.get("state", {})
        else:
            path = f"mapping.actions.{stream}.{quantity}"
            fields = self.mapping.get("actions", {}).get(stream, {})
        return path, fields.get(quantity, {})
