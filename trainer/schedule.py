"""Learning-rate schedules: pure functions of the step, so that there is nothing to save."""

from __future__ import annotations

import math


def multiplier(step: int, total: int, *, kind: str, warmup: float) -> float:
    """Factor on the peak rate at `step` of `total`: a linear rise over the share `warmup`, then `kind`.

    `cosine` falls to zero after the last step, `constant` stays at 1.
    """
    rise = round(warmup * total)
    if step < rise:
        return (step + 1) / rise
    if kind == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))
