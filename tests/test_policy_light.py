"""What asks a policy and moves a robot may live where no torch is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "duckdb", "pyarrow", "h5py", "ray", "PIL", "simplejpeg", "draccus")
ROOMS = ("catalog", "ingest", "loader", "trainer", "evaluation", "cli")

ASKED = """
import numpy as np
import robot_foundry.policy
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.observe import check_parts, image_arrays, state_array
from robot_foundry.policy.pace import Pace

space = ActionSpace(["right.ee_position", "right.gripper_opening"])
picture = np.full((1, 4, 4, 3), 7, np.uint8)
observation = {"images": {"primary": picture[0]}, "state": {"right.gripper_opening": 0.5}}
check_parts(observation)
assert np.isnan(state_array(observation["state"], space, 1)[0, :3]).all()
images, masks = image_arrays([observation["images"]], ["primary"], 1, (4, 4))
assert (images["primary"][0] == picture).all() and masks["primary"].all()
actions = robot_foundry.policy.Actions(np.array([[0.0, 0, 0, 0], [1.0, 2, 4, 1]]), space, 0.1)
halves = Pace(step=2, history=1).targets(actions.values_TA, actions.space)
assert halves.tolist() == [[0, 0, 0, 0], [0.5, 1, 2, 0.5], [1, 2, 4, 1]]
"""
TOLD = """
import numpy as np
from robot_foundry.policy.robot import estimated_states
from robot_foundry.normalization.space import ActionSpace

space = ActionSpace(["right.gripper_opening"])
assert estimated_states(np.array([0.2]), np.array([[0.4], [0.6]]), space, space).tolist() == [[0.2], [0.4]]
"""


def imported_by(code: str) -> set[str]:
    """The top-level modules and rooms of this package that a fresh interpreter has after `code`."""
    names = "{name.removeprefix('robot_foundry.').partition('.')[0] for name in sys.modules}"
    code = f"import sys\n{code}\nprint(*{names})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


def test_observations_chunks_and_pace_need_numpy_alone() -> None:
    assert imported_by(ASKED).isdisjoint({*HEAVY, *ROOMS})


def test_the_robot_s_own_side_needs_no_torch() -> None:
    assert imported_by(TOLD).isdisjoint({"torch", "duckdb", "loader", "trainer"})


def test_the_policy_is_there_once_it_is_asked_for() -> None:
    found = imported_by("import robot_foundry.policy\nassert robot_foundry.policy.Policy.load")
    assert {"torch", "trainer"} <= found
    import robot_foundry.policy

    with pytest.raises(AttributeError, match="no attribute 'Polcy'"):
        _ = robot_foundry.policy.Polcy  # type: ignore[attr-defined]
