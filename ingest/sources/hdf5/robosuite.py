"""Raw robosuite demonstrations: /data/demo_<i>/{actions, states}, no observations and no images.

`states` holds MuJoCo's [time, qpos, qvel]; which columns mean what is for the mapping to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.hdf5 import hdf5, links
from robot_foundry.ingest.sources.hdf5.layouts import ROBOSUITE
from robot_foundry.ingest.sources.hdf5.robomimic import Robomimic, demo_structure
from robot_foundry.ingest.sources.hdf5.structure import NOTHING, Structure


class Robosuite(Robomimic):
    """See `Layout`."""

    declared = ROBOSUITE
    version = 3
    advice = "this file has no obs, only states: use `foundry-data ingest robosuite`"

    def recognises(self, file: h5py.File, demos: Sequence[str], *, is_asked: bool) -> bool:
        return any(hdf5.holds(file, demo, "states") for demo in demos)

    def structure(self, demo: h5py.Group, content: Content) -> Structure:
        if not isinstance(links.child(demo, "states"), h5py.Dataset):
            raise Refused(f"it has no array 'states' (it has {', '.join(sorted(demo)) or 'nothing'})")
        return demo_structure(demo, content, NOTHING)

    def environment(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The file's attributes, with `env_info` parsed as `env_args.env_kwargs`, and `env_name`."""
        info = hdf5.json_attribute(attributes, "env_info")
        rest = {name: value for name, value in attributes.items() if name != "env_info"}
        if not isinstance(info, dict) and "env_info" in attributes:
            return {**rest, "env_args": attributes["env_info"], "env_name": attributes.get("env")}
        settings = info or {}
        name = attributes.get("env") or settings.get("env_name")
        return {**rest, "env_args": {"env_kwargs": settings}, "env_name": name}

    def rate(
        self, attributes: Mapping[str, Any], arrays: Mapping[str, Any], content: Content
    ) -> tuple[float, str]:
        """As stated, else by the simulated time in the first column of `states`."""
        fps, source = super().rate(attributes, arrays, content)
        states = arrays["states"]
        if source != "default" or states.ndim != 2 or len(states) < 2 or states.shape[1] == 0:
            return fps, source
        times_N = states[:, 0].astype(np.float64)
        step_s = float(np.median(np.diff(times_N))) if np.isfinite(times_N).all() else 0.0
        if step_s <= 0:
            return fps, source
        return round(1.0 / step_s, 6), "states.time"
