"""robosuite's operational-space controller, as far as its input: clip, then scale.

Formula: robosuite/controllers/base_controller.py, `scale_action`, and osc.py, `set_goal` (1.0 to 1.4).
With `control_delta: false` the numbers are absolute and not scaled. A rotation command of exactly zero keeps
robosuite's previous goal; here it means the orientation that the arm has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused

Array = NDArray[np.float64]
POSE_COLUMNS = 6


@dataclass(frozen=True)
class Controller:
    """Limits of the six pose columns, in the controller's units before and m or rad after."""

    input_min_6: Array
    input_max_6: Array
    output_min_6: Array
    output_max_6: Array
    is_delta: bool

    def target(
        self,
        command_Nd: Array,
        columns: tuple[int, int | None] | None,
        clip: Callable[[Array, Any, Any], Array],
    ) -> tuple[Array, bool]:
        """The command in m or rad, and whether it is a displacement.

        `columns` say where it was taken; `clip` gives the values within two limits.
        """
        if not self.is_delta:
            return command_Nd, False
        start = (columns or (0, command_Nd.shape[1]))[0]
        # Arms follow each other as six pose columns and one gripper column.
        pick = [(start + i) % (POSE_COLUMNS + 1) for i in range(command_Nd.shape[1])]
        low, high = self.input_min_6[pick], self.input_max_6[pick]
        out_low, out_high = self.output_min_6[pick], self.output_max_6[pick]
        scale = np.abs(out_high - out_low) / np.abs(high - low)
        clipped_Nd = clip(command_Nd, low, high)
        return (clipped_Nd - (high + low) / 2) * scale + (out_high + out_low) / 2, True


def controller(episode: Mapping[str, Any]) -> Controller:
    """The controller in the episode's env_args. Refused if it is not OSC_POSE with its limits."""
    configuration = find(episode["environment"], "env_args", "env_kwargs", "controller_configs")
    if not isinstance(configuration, dict):
        raise Refused("its env_args have no controller_configs, which `from: osc` needs")
    kind = configuration.get("type")
    if kind != "OSC_POSE":
        raise Refused(f"its controller is {kind!r} and not OSC_POSE, which `from: osc` needs")
    limits = {}
    for name, default in (("input_min", -1), ("input_max", 1), ("output_min", None), ("output_max", None)):
        try:
            stated = np.asarray(configuration.get(name, default), np.float64)
            limits[name] = np.broadcast_to(stated, POSE_COLUMNS)
        except (TypeError, ValueError):
            raise Refused(f"the {name} of its controller is {configuration.get(name)!r}") from None
        if not np.isfinite(limits[name]).all():
            raise Refused(f"its controller has no {name}")
    if (limits["input_max"] <= limits["input_min"]).any():
        raise Refused("the input_max of its controller is not above input_min")
    return Controller(
        limits["input_min"],
        limits["input_max"],
        limits["output_min"],
        limits["output_max"],
        is_delta=bool(configuration.get("control_delta", True)),
    )


def find(values: Any, *names: str) -> Any:
    """values[names[0]][names[1]]…, or None where a step is missing."""
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
