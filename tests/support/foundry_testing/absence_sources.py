"""Files of robomimic in which something is not taken, or not found, and what is told of it.

Legend: N frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import ArrayLike

from robot_foundry.cli import foundry_data
from robot_foundry.cli.output import run as run_command

FRAMES = 6
OSC = {"type": "OSC_POSE", "output_max": [0.05] * 6, "output_min": [-0.05] * 6}
QUIET = {"instruction": "lift the cube"}
# Calls foundry-data.
Command = Callable[..., Any]


def demo(
    group: h5py.Group,
    name: str,
    *,
    columns: int = 7,
    attributes: Mapping[str, Any] = QUIET,
    arrays: Mapping[str, ArrayLike] | Sequence[tuple[str, ArrayLike]] = (),
) -> h5py.Group:
    made = group.create_group(name)
    random = np.random.default_rng(3)
    made["actions"] = random.uniform(-1, 1, (FRAMES, columns))
    made["rewards"] = np.eye(FRAMES)[-1]
    made["obs/robot0_eef_pos"] = random.uniform(0, 1, (FRAMES, 3))
    made["obs/robot0_eef_quat"] = np.tile([0.0, 0, 0, 1], (FRAMES, 1))
    made["obs/robot0_gripper_qpos"] = np.tile([0.02, -0.02], (FRAMES, 1))
    for path, values in dict(arrays).items():
        made[path] = values
    for key, value in attributes.items():
        made.attrs[key] = value
    return made


def make(path: Path, *demos: Mapping[str, Any], env: str = "Custom", **attributes: Any) -> Path:
    """A robomimic file of these demonstrations, each the keywords of `demo`."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        settings = {"controller_configs": OSC, "control_freq": 20}
        data.attrs["env_args"] = json.dumps({"env_name": env, "env_kwargs": settings})
        for key, value in attributes.items():
            data.attrs[key] = value
        for n, keywords in enumerate(demos or ({},)):
            demo(data, f"demo_{n}", **keywords)
    return path


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """foundry-data with the store of the test: what it printed, and the JSON if that was asked for."""

    def call(*arguments: object) -> Any:
        code = run_command(
            foundry_data.group, "foundry-data", [*map(str, arguments), "--store", str(tmp_path / "store")]
        )
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return json.loads(shown.out) if "--json" in arguments else shown

    return call


def warnings(command: Command, path: Path, *overrides: str, spec: str = "robomimic") -> list[str]:
    sets = [word for override in overrides for word in ("--set", override)]
    return command("ingest", spec, path, "--as", "made", "--json", *sets)["warnings"]
