"""What lies on the table: solids that can be touched, pushed and grasped, and flat marks.

Table frame: origin in the middle of the table top, x away from the robot, y to its left, z up; metres.
Shape suffixes: N solids, 2 = (x, y).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_foundry.runtime.errors import FoundryError

TABLE_HALF = 0.30
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")


@dataclass(frozen=True)
class Shape:
    """A solid's kind. `contact` is the contact radius and `height` the half height, both per unit of size."""

    contact: float
    height: float
    flat_top: bool
    graspable: bool


SHAPES = {
    "cube": Shape(contact=1.08, height=1.0, flat_top=True, graspable=True),
    "can": Shape(contact=1.0, height=1.15, flat_top=True, graspable=True),
    "ball": Shape(contact=1.0, height=1.0, flat_top=False, graspable=True),
    "cone": Shape(contact=1.1, height=1.2, flat_top=False, graspable=False),
}
STACKABLE = tuple(name for name, shape in SHAPES.items() if shape.flat_top)
GRASPABLE = tuple(name for name, shape in SHAPES.items() if shape.graspable)


@dataclass(frozen=True)
class Solid:
    """One object standing on the table; `size` is its half width in metres, `yaw` in radians."""

    shape: str
    colour: str
    size: float
    x: float
    y: float
    yaw: float

    @property
    def contact_radius(self) -> float:
        return SHAPES[self.shape].contact * self.size

    @property
    def half_height(self) -> float:
        return SHAPES[self.shape].height * self.size


@dataclass(frozen=True)
class Mark:
    """A flat place on the table without contact: a `zone` (square) or a `plate` (disc) of `radius` metres."""

    shape: str
    colour: str
    radius: float
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """Everything on the table before the first step."""

    solids: tuple[Solid, ...]
    marks: tuple[Mark, ...] = ()


Accept = Callable[[list[tuple[float, float]]], bool]


def place(
    rng: np.random.Generator, radii: list[float], *, half: float, gap: float, accept: Accept | None = None
) -> list[tuple[float, float]]:
    """Draw one (x, y) per radius in the square of half width `half`, edges at least `gap` metres apart.

    `accept` may refuse a whole layout. Raises FoundryError when 2000 draws yield none, which only a
    crowded request can cause.
    """
    for _ in range(2000):
        points = [(float(x), float(y)) for x, y in rng.uniform(-half, half, (len(radii), 2))]
        clear = all(
            math.dist(points[i], points[j]) >= radii[i] + radii[j] + gap
            for i in range(len(points))
            for j in range(i)
        )
        if clear and (accept is None or accept(points)):
            return points
    raise FoundryError(f"no room on the table for {len(radii)} objects with {gap:.2f} m between them")
