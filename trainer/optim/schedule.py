"""Learning-rate schedules: pure functions of the step, so that there is nothing to save."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "trapezoid", "constant")
DECAY = 0.25  # share of the steps over which `trapezoid` falls


def multiplier(step: int, total: int, *, kind: str, warmup: float) -> float:
    """Factor on the peak rate at `step` of `total`: a linear rise over the share `warmup`, then `kind`.

    `cosine` falls to zero after the last step, `trapezoid` stays at 1 and falls to zero in a line over the
    last quarter (Zhai et al. 2022, "Scaling Vision Transformers"), `constant` stays at 1.
    """
    rise = round(warmup * total)
    if step < rise:
        return (step + 1) / rise
    if kind == "constant":
        return 1.0
    if kind == "trapezoid":
        return min(1.0, (total - step) / max(DECAY * total, 1.0))
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))
