"""Recorded demonstrations: the layout of HDF5, determinism, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import robot_foundry
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.ingest.engine import ingest
from robot_foundry.runtime.errors import FoundryError


def everything(path: Path) -> dict[str, object]:
    found: dict[str, object] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        found[name] = item[()] if isinstance(item, h5py.Dataset) else None
        found.update({f"{name}@{key}": np.asarray(value) for key, value in item.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def assert_equal_files(a: Path, b: Path) -> None:
    left, right = everything(a), everything(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name], err_msg=name)


def test_the_layout_is_robomimic_with_absolute_targets(tmp_path: Path) -> None:
    made = collect(Request("reach_single", "sim", 5, seed=3, size=32), tmp_path / "reach.hdf5", quiet=True)
    with h5py.File(made.path) as file:
        data = file["data"]
        env = json.loads(data.attrs["env_args"])
        assert env["env_name"] == "tabletop_reach_single"
        assert env["env_kwargs"]["control_freq"] == 10
        assert env["env_kwargs"]["cameras"] == {
            "front": "primary",
            "side": "secondary",
            "wrist": "wrist_right",
        }
        assert sorted(data) == [f"demo_{i}" for i in range(5)]
        assert data.attrs["total"] == made.frames == sum(g.attrs["num_samples"] for g in data.values())
        for index in range(5):
            group = data[f"demo_{index}"]
            count = group.attrs["num_samples"]
            assert group.attrs["success"] and group.attrs["embodiment"] == "tabletop_sim"
            assert group.attrs["seed"] == scene_seed("collect", 3, index)
            assert group["actions"].shape == (count, 7)
            assert [name.split(".")[1] for name in group["actions"].attrs["columns"]] == [
                "x",
                "y",
                "z",
                "rx",
                "ry",
                "rz",
                "gripper",
            ]
            assert group["obs/eef_pos"].shape == (count, 3)
            assert group["obs/gripper"].shape == (count, 1)
            images = group["obs/front_image"]
            assert (images.shape, images.dtype) == ((count, 32, 32, 3), np.uint8)
            # The scene is that of the recorded seed, and the first row is what its world measures.
            world = Tabletop("reach_single", cameras=("primary",), size=32)
            observation, info = world.reset(seed=int(group.attrs["seed"]))
            assert info["instruction"] == group.attrs["instruction"]
            np.testing.assert_array_equal(images[0], observation["images"]["primary"])
            np.testing.assert_array_equal(group["obs/eef_pos"][0], observation["state"][:3])
            measured = Rotation.from_quat(group["obs/eef_quat"][0]).as_matrix()  # SciPy reads xyzw
            np.testing.assert_allclose(measured[:, :2].T.ravel(), observation["state"][3:9], atol=1e-12)
            # Commands are absolute targets, a step ahead of where the arm is, turning it to look down.
            ahead = np.linalg.norm(group["actions"][:, :3] - group["obs/eef_pos"][:], axis=1)
            assert ahead.max() < 0.03
            down = Rotation.from_rotvec(group["actions"][-1, 3:6]).as_matrix()[:, 2]
            np.testing.assert_allclose(down, [0, 0, -1], atol=1e-9)
            touched = world.physics.touch_point(0)
            assert np.linalg.norm(group["actions"][-1, :3] - touched) < 0.012


def test_real_records_four_numbers_and_two_arms_record_both(tmp_path: Path) -> None:
    collect(Request("reach_pair", "real", 1, seed=0, size=16), tmp_path / "real.hdf5", quiet=True)
    collect(Request("handover", "sim", 1, seed=0, size=16), tmp_path / "two.hdf5", quiet=True)
    with h5py.File(tmp_path / "real.hdf5") as real, h5py.File(tmp_path / "two.hdf5") as two:
        one, both = real["data/demo_0"], two["data/demo_0"]
        assert one["actions"].shape[1] == 4 and one.attrs["embodiment"] == "tabletop_real"
        assert both["actions"].shape[1] == 14 and both.attrs["embodiment"] == "tabletop_sim_two_arms"
        assert {"right_eef_pos", "left_eef_pos", "wrist_left_image"} <= set(both["obs"])
        assert "eef_pos" not in both["obs"]  # a one-arm mapping must fail, not read half of the robot


def test_the_documented_spec_reads_two_arms_and_the_one_arm_spec_refuses_them(tmp_path: Path) -> None:
    documentation = (Path(__file__).parent.parent / "docs" / "tabletop.md").read_text(encoding="utf-8")
    spec = tmp_path / "two_arms.yaml"
    spec.write_text(documentation.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    made = collect(Request("handover", "sim", 2, seed=0, size=16), tmp_path / "two.hdf5", quiet=True)
    version = ingest(str(spec), made.path, store=tmp_path / "store", name="two")
    frames = robot_foundry.open(str(version), store=tmp_path / "store").frames()
    assert frames.num_rows == made.frames
    with h5py.File(made.path) as file:
        first = file["data/demo_0"]
        states = column_matrix(frames, "state")
        starts = [states[row] for row in np.flatnonzero(frames["frame"].to_numpy() == 0)]
        expected = np.concatenate([first[f"obs/{arm}_eef_pos"][0] for arm in ("right", "left")])
        positions = [start[[0, 1, 2, 10, 11, 12]] for start in starts]
        assert min(np.abs(position - expected).max() for position in positions) < 1e-6
    with pytest.raises(FoundryError, match="right.ee_position names the array 'obs/eef_pos'"):
        ingest("tabletop", made.path, store=tmp_path / "store", name="one")


def test_more_episodes_begin_with_the_same_ones_and_another_seed_differs(tmp_path: Path) -> None:
    for name, episodes, seed in (("few", 2, 0), ("more", 4, 0), ("other", 2, 1)):
        collect(Request("push", "sim", episodes, seed, (), 32), tmp_path / name, quiet=True)
    few, more, other = (everything(tmp_path / name) for name in ("few", "more", "other"))
    actions = [name for name in few if name.endswith("actions")]
    assert len(actions) == 2
    for name in actions:
        np.testing.assert_array_equal(few[name], more[name])
        assert few[name].shape != other[name].shape or (few[name] != other[name]).any()


def test_demonstrations_and_rollouts_share_no_scene() -> None:
    collected = {scene_seed("collect", seed, i) for seed in range(3) for i in range(2000)}
    rolled = {scene_seed("rollout", seed, i) for seed in range(3) for i in range(2000)}
    assert len(collected) == len(rolled) == 6000
    assert not collected & rolled
    assert max(collected | rolled) < 2**63


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sub" / "reach.hdf5"
    line = ["collect", "tabletop", "--task", "reach_single", "--episodes", "2", "--out", str(out), "--json"]
    line += ["--cameras", "primary", "--size", "16"]
    assert run(group, "foundry-eval", [*line, "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["cameras"] == ["primary"]
    assert not out.parent.exists()
    assert run(group, "foundry-eval", line) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["episodes"], printed["successes"]) == (2, 2)
    assert printed["bytes"] == out.stat().st_size
    for wrong, said in ((["--cameras", "primry"], "did you mean 'primary'"), (["--size", "3"], "16 to 1024")):
        assert run(group, "foundry-eval", [*line, *wrong]) == 2
        assert said in capsys.readouterr().err
    line[3] = "reach_singel"
    assert run(group, "foundry-eval", line) == 2
    assert "did you mean 'reach_single'" in capsys.readouterr().err


def test_a_recording_is_replaced_and_no_other_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reach.hdf5"
    line = [
        "collect",
        "tabletop",
        "--task",
        "reach_single",
        "--episodes",
        "1",
        "--out",
        str(out),
        "--size",
        "16",
    ]
    assert [run(group, "foundry-eval", line) for _ in range(2)] == [0, 0]
    with h5py.File(out, "w") as file:  # as robomimic writes it
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {}})
    for content in (out.read_bytes(), b"no HDF5 at all"):
        out.write_bytes(content)
        capsys.readouterr()
        assert run(group, "foundry-eval", line) == 2
        assert "is there already, and is no recording of this command" in capsys.readouterr().err
        assert out.read_bytes() == content


def test_no_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="at least 1"):
        collect(Request("reach", "sim", 0, 0), tmp_path / "x", quiet=True)
