"""robosuite's operational-space controller, as far as its input: clip, then scale.

Formula: robosuite/controllers/base_controller.py, `scale_action`, and osc.py, `set_goal` (1.0 to 1.4).
With `control_delta: false` the numbers are absolute and not scaled. A rotation command of exactly zero keeps
robosuite's previous goal; here it means the orientation that the arm has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
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
        low, high, out_low, out_high = self._limits(columns, command_Nd.shape[1])
        scale = np.abs(out_high - out_low) / np.abs(high - low)
        clipped_Nd = clip(command_Nd, low, high)
        return (clipped_Nd - (high + low) / 2) * scale + (out_high + out_low) / 2, True

    def command(self, displacement_Nd: Array, columns: tuple[int, int | None] | None) -> Array:
        """The command that asks for a displacement in m or rad, clipped: the inverse of `target`.

        A column that moves nothing, its output limits being equal, gets the middle of its input.
        """
        low, high, out_low, out_high = self._limits(columns, displacement_Nd.shape[1])
        scale = np.abs(out_high - out_low) / np.abs(high - low)
        moved_Nd = (displacement_Nd - (out_high + out_low) / 2) / np.where(scale > 0, scale, 1.0)
        return np.clip(np.where(scale > 0, moved_Nd, 0.0) + (high + low) / 2, low, high)

    def _limits(
        self, columns: tuple[int, int | None] | None, count: int
    ) -> tuple[Array, Array, Array, Array]:
        """input_min, input_max, output_min and output_max of these columns of the command."""
        start = (columns or (0, count))[0]
        # Arms follow each other as six pose columns and one gripper column.
        pick = [(start + i) % (POSE_COLUMNS + 1) for i in range(count)]
        limits = (self.input_min_6, self.input_max_6, self.output_min_6, self.output_max_6)
        return limits[0][pick], limits[1][pick], limits[2][pick], limits[3][pick]

    def to_json(self) -> dict[str, Any]:
        return {
            name: [float(x) for x in value] if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Controller:
        read: dict[str, Any] = {
            name: np.asarray(value, np.float64) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**read)


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
