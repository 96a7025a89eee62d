"""What a mixture means for windows: how many rows they span, and what is allowed and probably not meant."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from robot_foundry.catalog.mixture import Weight, weight_doubts
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.robot.mixing import mixture_doubts
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.unions import component_rates
from robot_foundry.windows.timing import Timing


def window_rows(opened: OpenMixture, timing: Timing) -> int:
    """Rows from the oldest observation of a window to its last target, the most of any dataset."""
    most = 0
    for part in opened.parts:
        steps = timing.steps(schema_of(part.manifest).fps, part.name)
        step = float(steps.rows((component_rates(part) or (0.0, 0.0))[1]))
        most = max(most, ceil((steps.horizon + steps.history) * step - 1e-6))
    return most


def warnings_for(
    opened: OpenMixture, weights: Mapping[str, Weight] | None = None, *, timing: Timing | None = None
) -> list[str]:
    """What is allowed and probably not meant, one sentence each. `weights` are those that were asked for, and
    `timing` that of the windows, where it is known."""
    doubts = weight_doubts(opened.mixture, weights)
    if timing is None:
        return doubts + mixture_doubts(opened)
    return doubts + mixture_doubts(opened, one_step_time=timing.one_step_time, control_hz=timing.control_hz)
