"""Two poses of one arm as state, measured and set-point: the second is a part with a name of its own."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from foundry_testing import trainer_runs
from foundry_testing.trainer_runs import TINY
from make_robomimic import make
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.loader.load import load
from robot_foundry.loader.open import open as open_dataset
from robot_foundry.policy import Policy
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

GOAL = ("obs/goal_pos", "obs/goal_quat")
SETPOINT = [
    "mapping.state.right_setpoint.ee_position={key: obs/goal_pos}",
    "mapping.state.right_setpoint.ee_rotation={key: obs/goal_quat, from: quaternion, order: xyzw}",
    "mapping.tool_frame={approach: [0, 0, 1], lateral: [0, 1, 0], position: [0, 0, 0.05]}",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    path = folder.parent / "goals.hdf5"
    make(path, episodes=3, frames=10, size=32)
    rng = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            measured = Rotation.from_quat(demo["obs/robot0_eef_quat"][()])
            offset = rng.normal(scale=0.02, size=(10, 3))
            demo[GOAL[0]] = demo["obs/robot0_eef_pos"][()] + offset
            demo[GOAL[1]] = (Rotation.from_rotvec(offset) * measured).as_quat()
    run(load_spec("robomimic", SETPOINT), path, store=folder / "store", name="goals")
    return Store(folder / "store")


def test_both_poses_are_state_and_the_measured_one_is_the_reference(store: Store) -> None:
    dataset = open_dataset("goals", store)
    names = dataset.space().names
    assert names[10:] == (
        *(f"right_setpoint.ee_position.{axis}" for axis in "xyz"),
        *(f"right_setpoint.ee_rot6d.{i}" for i in range(6)),
    )
    tool = np.stack([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], axis=1)
    with h5py.File(Path(store.url).parent.parent / "goals.hdf5") as file:
        goal = file["data/demo_1"]
        rotation = Rotation.from_quat(goal[GOAL[1]][()])
        position = goal[GOAL[0]][()] + rotation.apply([0, 0, 0.05])
        columns = (rotation.as_matrix() @ tool)[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    stored = dataset.episode("demo_1").rows["state"][:, 10:]
    np.testing.assert_allclose(stored, np.hstack([position, columns]), atol=1e-6)

    window = read_recipe(None, [*TINY, "data.mix=goals", f"data.store={store.url}"]).data.window
    with load("goals", window, seed=0, global_batch=4, store=store, threads=0) as loader:
        batch = loader.batch(0)
        space = loader.state_space if hasattr(loader, "state_space") else None
    assert space is None or space.names == names
    rows = dataset.frames()
    states, targets = (np.array(rows[c].to_pylist()) for c in ("state", "action.next_state"))
    for row in range(4):
        state = batch.state_BHD[row, -1]
        at = int(np.abs(states - state).sum(axis=1).argmin())
        measured = np.stack([state[3:6], state[6:9]], axis=1)
        measured = np.column_stack([measured, np.cross(measured[:, 0], measured[:, 1])])
        np.testing.assert_allclose(
            batch.action_BTA[row, 0, :3], measured.T @ (targets[at, :3] - state[:3]), atol=1e-5
        )


def test_statistics_checks_training_and_acting_know_both(store: Store, tmp_path: Path) -> None:
    for arguments in (["stats", "goals", "-r", "relative_tool"], ["show", "goals"], ["validate", "goals"]):
        done = CliRunner().invoke(group, [*arguments, "--store", store.url, "--json"])
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert arguments[0] == "validate" or "right_setpoint.ee_position.x" in json.dumps(told)
    trainer_runs.run(store, tmp_path, "data.mix=goals", "run.steps=2", "run.save_every=2")
    policy = Policy.load(tmp_path)
    episode = open_dataset("goals", store).episode("demo_0")
    state = episode.rows["state"][0].copy()
    known = policy.act({"state": state}, "lift", seed=0)
    assert known.values_TA.shape == (4, 10) and np.isfinite(known.values_TA).all()
    state[10:] = np.nan  # the set-point may be unknown: nothing is relative to it
    assert np.isfinite(policy.act({"state": state}, "lift", seed=0).values_TA).all()
    sent = policy.command(known, episode.rows["state"][0], stream="command")
    assert sent.shape == (4, 7)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("rigth", "state.rigth.ee_position: is not a part, did you mean 'right'?"),
        ("rigt", "state.rigt.ee_position: is not a part, did you mean 'right'?"),
        ("lefts", "state.lefts.ee_position: is not a part, did you mean 'left'?"),
        ("right_hend", "state.right_hend.ee_position: is not a part, did you mean 'right_hand'?"),
        ("Right", "state.Right.ee_position: is not a quantity, did you mean 'right.ee_position'"),
        ("right2", None),
        ("right_goal", None),
        ("gantry", None),
    ],
)
def test_a_misspelt_part_is_no_name_of_one_s_own(part: str, message: str | None) -> None:
    mapping = {"embodiment": "arm", "state": {f"{part}.ee_position": {"key": "p"}}}
    values = {"layout": "robomimic", "mapping": mapping}
    if message is None:
        assert list(spec_from_json(values, "t").mapping.state) == [f"{part}.ee_position"]
        return
    with pytest.raises(UsageError) as error:
        spec_from_json(values, "t")
    assert message in error.value.message
