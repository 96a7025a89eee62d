"""The overrides of a spec that would mend a finding: mapping.<where>.<quantity>.<setting>=<value>."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robot_foundry.runtime.overrides import set_options

OTHER_READING = {"xyzw": "wxyz", "wxyz": "xyzw", "rot6d_columns": "rot6d_rows", "rot6d_rows": "rot6d_columns"}
# A gain within this ratio of a unit's factor is taken for it: 57.3 and 100 stay apart.
_NEAR = 1.3


# Between units that are mixed up, and how to say so; the inverse of each counts too.
DEGREES = "degrees for radians"
FACTORS = {
    "millimetres for metres": 1000.0,
    "centimetres for metres": 100.0,
    DEGREES: 180.0 / math.pi,
    "decimetres for metres": 10.0,
}
DISPLACEMENTS = ("delta", "osc")
CLOCK_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def nearest_unit(gain: float) -> str:
    """The mistake whose factor is near the gain or its inverse, '' if none is."""
    for name, factor in FACTORS.items():
        if any(1 / _NEAR < abs(gain) * by < _NEAR for by in (factor, 1 / factor)):
            return name
    return ""


def near_unit(gain: float, is_angle: bool) -> str:
    """', as millimetres for metres would' or nothing."""
    name = nearest_unit(gain)
    return f", as {name} would" if name and is_angle == (name == DEGREES) else ""


def unit_factor(gain: float) -> float | None:
    """The factor of the unit mistake that is near the gain, above or below 1; None if none is."""
    name = nearest_unit(gain)
    if not name:
        return None
    return FACTORS[name] if gain > 1 else 1 / FACTORS[name]


@dataclass(frozen=True)
class Remedy:
    """Overrides for one dataset; `mapping` and `content` are those of its spec as JSON, {} where it is not
    known."""

    mapping: Mapping[str, Any]
    content: Mapping[str, Any] = field(default_factory=dict)

    def swapped_gripper(self, column: str, dim: str, other: str) -> tuple[str, tuple[str, ...]]:
        """What to do where the openings of two columns oppose, and the override that does it. Numbers that
        are the gap between fingers prove which is wrong; without them an image has to tell."""
        gaps = {side: self._is_gap(side, dim) for side in (column, other)}
        proven = {side for side, is_gap in gaps.items() if is_gap is False}
        proven |= {column} if gaps[other] and gaps[column] is None else set()
        proven |= {other} if gaps[column] and gaps[other] is None else set()
        swaps = {side: self._swapped(side, dim) for side in (column, other)}
        if len(proven) == 1:
            wrong = proven.pop()
            return f"swap closed and open of {wrong}: the gap between the fingers tells", swaps[wrong]
        told = "swap closed and open of the one that is wrong; look at an image of a closed gripper"
        if swaps[column] and swaps[other]:
            return f"{told} ({'; '.join(f'{side}: {set_options(own)}' for side, own in swaps.items())})", ()
        return told, swaps[column]

    def _swapped(self, column: str, dim: str) -> tuple[str, ...]:
        path, settings = self._field(column, dim)
        if "closed" not in settings or "open" not in settings:
            return ()
        return (f"{path}.closed={settings['open']:g}", f"{path}.open={settings['closed']:g}")

    def _is_gap(self, column: str, dim: str) -> bool | None:
        """Whether the numbers are the gap between fingers and grow with the opening (False: they are and do
        not); None where the form does not say what they are."""
        _, settings = self._field(column, dim)
        if settings.get("from") not in ("fingers", "width"):
            return None
        return bool(settings["open"] > settings["closed"])

    def other_rotation(self, column: str, part: str, *, jumps: bool = False) -> tuple[str, ...]:
        """The other order of a quaternion, the other reading of rot6d, or of angles that jump, degrees."""
        path, settings = self._field(column, f"{part}.ee_rotation")
        form = settings.get("from")
        if form == "quaternion" and settings.get("order") in OTHER_READING:
            return (f"{path}.order={OTHER_READING[settings['order']]}",)
        if form == "euler" and jumps:
            return (f"{path}.degrees={'false' if settings.get('degrees') else 'true'}",)
        return (f"{path}.from={OTHER_READING[form]}",) if form in OTHER_READING else ()

    def either_rotation(self, column: str, part: str) -> tuple[str, tuple[str, ...]]:
        """What to do where orientations of state and action disagree: the override, where only one of the two
        has a convention that may be the other."""
        told = "correct the convention of one of the two (quaternion order, Euler sequence, rows or columns)"
        of_state, of_action = self.other_rotation("state", part), self.other_rotation(column, part)
        if of_state and of_action:
            return f"{told}: {set_options(of_state)} or {set_options(of_action)}", ()
        return told, (*of_state, *of_action)

    def form(self, column: str, quantity: str) -> str | None:
        """The form (`from`) that the quantity has in the spec, None where that is not known."""
        form: str | None = self._field(column, _in_spec(quantity))[1].get("from")
        return form

    def displaces(self, column: str, quantity: str) -> bool | None:
        """Whether targets are displacements of the state; None where the spec is not known."""
        form = self.form(column, quantity)
        return None if form is None else form in DISPLACEMENTS

    def scale(self, column: str, quantity: str) -> float | None:
        """The one scale that the quantity has in the spec, None where it has none or several."""
        scale = self._field(column, _in_spec(quantity))[1].get("scale")
        return float(scale) if isinstance(scale, int | float) else None

    def scaled(
        self,
        column: str,
        quantity: str,
        factor: float | None,
        dims: Sequence[str] = (),
        of: Sequence[str] = (),
    ) -> tuple[str, ...]:
        """The field's scale times the factor; for some `dims` only, where these are not all `of` it."""
        path, settings = self._field(column, _in_spec(quantity))
        if "scale" not in settings or factor is None:
            return ()
        scale, chosen = settings["scale"], set(dims)
        if not isinstance(scale, list | tuple):
            if chosen == set(of):
                return (f"{path}.scale={scale * factor:.8g}",)
            scale = [scale] * len(of)
        if len(of) != len(scale):
            return ()
        values = [s * factor if dim in chosen else s for s, dim in zip(scale, of, strict=True)]
        return (f"{path}.scale={json.dumps([float(f'{value:.8g}') for value in values])}",)

    def opened(self, column: str, dim: str, factor: float) -> tuple[str, ...]:
        """The value of an open gripper times the factor, where closed is 0."""
        path, settings = self._field(column, dim)
        if settings.get("closed") != 0 or "open" not in settings:
            return ()
        return (f"{path}.open={settings['open'] * factor:.8g}",)

    def clock_unit(self, ratio: float) -> tuple[str, ...]:
        """The unit in which times would run `ratio` times as slow, where that is a unit."""
        for section, options in self.content.items():
            time = options.get("time") if isinstance(options, Mapping) else None
            unit = time.get("unit") if isinstance(time, Mapping) else None
            if unit not in CLOCK_UNITS:
                continue
            wanted = CLOCK_UNITS[unit] * ratio
            for name, seconds in CLOCK_UNITS.items():
                if name != unit and 1 / _NEAR < wanted / seconds < _NEAR:
                    return (f"content.{section}.time.unit={name}",)
        return ()

    def _field(self, column: str, quantity: str) -> tuple[str, Mapping[str, Any]]:
        stream = column.removeprefix("action.")
        if stream == column:
            path, fields = f"mapping.state.{quantity}", self.mapping.get("state", {})
        else:
            path = f"mapping.actions.{stream}.{quantity}"
            fields = self.mapping.get("actions", {}).get(stream, {})
        return path, fields.get(quantity, {})


def _in_spec(quantity: str) -> str:
    """As the quantity is written in a spec."""
    return quantity.replace("ee_rot6d", "ee_rotation")
