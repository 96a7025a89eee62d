"""Units that are mixed up: which mistake a factor between two columns looks like, and how to say so."""

from __future__ import annotations

import math

# A gain within this ratio of a unit's factor is taken for it: 57.3 and 100 stay apart.
NEAR = 1.3

# Between units that are mixed up, and how to say so; the inverse of each counts too.
DEGREES = "degrees for radians"
FACTORS = {
    "millimetres for metres": 1000.0,
    "centimetres for metres": 100.0,
    DEGREES: 180.0 / math.pi,
    "decimetres for metres": 10.0,
}
CLOCK_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def nearest_unit(gain: float) -> str:
    """The mistake whose factor is near the gain or its inverse, '' if none is."""
    for name, factor in FACTORS.items():
        if any(1 / NEAR < abs(gain) * by < NEAR for by in (factor, 1 / factor)):
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
