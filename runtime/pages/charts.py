"""Small charts for pages: inline SVG without axes, which whoever shows one says beside it.

Legend: C lines of N points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.pages.html import COLOURS


def lines(
    values_CN: NDArray[np.float64],
    low: float,
    high: float,
    *,
    width: int,
    height: int,
    colours: Sequence[str] = COLOURS,
) -> str:
    """Each line over equal steps from left to right, `low` at the bottom; points that are not finite are
    left out. As many lines as there are colours; '' where there are not two points."""
    count = values_CN.shape[1]
    if count < 2:
        return ""
    span = high - low or 1.0
    drawn = []
    for value_N, colour in zip(values_CN, colours, strict=False):
        points = " ".join(
            f"{n * width / (count - 1):.1f},{height * (1 - (value - low) / span):.1f}"
            for n, value in enumerate(value_N)
            if np.isfinite(value)
        )
        drawn.append(f'<polyline fill="none" stroke="{colour}" points="{points}"/>')
    box = f'viewBox="0 -2 {width} {height + 4}" width="{width}" height="{height}"'
    return f"<svg {box}>{''.join(drawn)}</svg>"
