"""Observations with one row more than actions: the last is the state that the last action led to.

Legend: N frames.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels, smooth
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.runtime.errors import FoundryError, UsageError

FRAMES = 5
MAPPING = """
mapping:
  embodiment: arm
  tool_frame: {position: [0, 0, 0.1]}
  cameras: {base: primary}
  instruction: [{spans: '*words'}]
  intervention: [{key: obs/taken_over, is: true}]
  state:
    right.ee_position: {key: obs/pose, columns: [0, 3]}
    right.ee_rotation: {key: obs/pose, columns: [3, 7], from: quaternion, order: wxyz}
    right.joint_position: {key: states}
  actions:
    command:
      right.ee_position: {key: actions, columns: [0, 3], from: delta, clip: 1, scale: 0.05}
    next_state:
      right.ee_position: {from: next_state}
      right.ee_rotation: {from: next_state}
      right.joint_position: {from: next_state}
"""
CONTENT = {
    "hdf5": """
content:
  hdf5: {length: actions, episodes: data/*, images: {base: obs/base_rgb}, time: {key: t}}
""",
    "robomimic": "content: {}",
}


def write(path):
    """One demonstration whose obs and states go on for a row after the last action."""
    turned = Rotation.from_rotvec(np.linspace(0, 0.5, FRAMES + 1)[:, None] * [0, 1, 0])
    position = np.arange(3 * (FRAMES + 1)).reshape(-1, 3) / 10
    pictures = np.stack([smooth(n) for n in range(FRAMES + 1)])
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"] = np.full((FRAMES, 7), 0.5)
        demo["states"] = np.arange(2.0 * (FRAMES + 1)).reshape(-1, 2)
        demo["obs/pose"] = np.c_[position, turned.as_quat()[:, [3, 0, 1, 2]]]
        demo["obs/base_rgb"] = pictures
        demo["obs/taken_over"] = np.arange(FRAMES + 1) == 2
        demo["obs/words"] = np.array(["go"] * (FRAMES + 1), dtype=h5py.string_dtype())
        demo["t"] = np.arange(FRAMES + 1) / 10
    return position, turned, pictures


@pytest.fixture(params=CONTENT)
def spec(request, tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text(f"layout: {request.param}\n{CONTENT[request.param]}\n{MAPPING}")
    return path


def test_the_last_row_is_the_state_that_the_last_action_led_to(tmp_path, spec):
    position, turned, pictures = write(tmp_path / "in.hdf5")
    made = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "store", ["content.extra_row=next_state"])
    (name,) = made.rows
    tool = position + turned.apply([0, 0, 0.1])
    rot6d = turned.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    joints = np.arange(2.0 * (FRAMES + 1)).reshape(-1, 2)
    reached = np.c_[tool, rot6d, joints]
    assert made.dims("state") == made.dims("next_state")
    np.testing.assert_allclose(made.column(name, "state"), reached[:-1], atol=1e-6)
    np.testing.assert_allclose(made.column(name, "action.next_state"), reached[1:], atol=1e-6)
    np.testing.assert_allclose(made.column(name, "action.command"), tool[:-1] + 0.025, atol=1e-6)
    assert np.flatnonzero(made.column(name, "flags") & int(Flag.INTERVENTION)).tolist() == [2]
    assert made.instructions() == {name: "go"}

    stored = made.images(name, "base")
    assert len(stored) == FRAMES
    for shown, picture in zip(stored, pictures, strict=False):
        assert np.abs(pixels(shown).astype(int) - picture).max() <= 8
    told = "'obs/base_rgb' has an image of the row after the last frame, which is left out"
    assert f"1 of 1 episodes: {told}" in made.report.warnings
    assert len(made.source(name)["obs/pose"]) == FRAMES + 1
    assert made.episode(name)["extra_row"] == "next_state"


def test_without_the_option_the_refusal_names_it(tmp_path, spec):
    write(tmp_path / "in.hdf5")
    with h5py.File(tmp_path / "in.hdf5", "r+") as file:
        times = file["data/demo_0/t"][:FRAMES]
        del file["data/demo_0/t"]
        file["data/demo_0/t"] = times
    with pytest.raises(FoundryError, match=r"--set content.extra_row=next_state") as caught:
        Ingested(spec, tmp_path / "in.hdf5", tmp_path / "store")
    assert caught.value.message.count("--set content.extra_row") == 1


def test_any_other_length_stays_refused_and_the_option_has_its_layouts(tmp_path, spec):
    write(tmp_path / "in.hdf5")
    with h5py.File(tmp_path / "in.hdf5", "r+") as file:
        longer = np.zeros((FRAMES + 2, 7))
        del file["data/demo_0/obs/pose"]
        file["data/demo_0/obs/pose"] = longer
    with pytest.raises(FoundryError, match=r"obs/pose.* 7") as caught:
        Ingested(spec, tmp_path / "in.hdf5", tmp_path / "store", ["content.extra_row=next_state"])
    assert "--set content.extra_row" not in caught.value.message
    mapping = {"embodiment": "arm", "state": {"right.ee_position": {"key": "p"}}}
    with pytest.raises(UsageError, match="content.extra_row: belongs to the layouts aloha, hdf5"):
        spec_from_json({"layout": "rlds", "content": {"extra_row": "next_state"}, "mapping": mapping}, "test")


@pytest.mark.parametrize("key", ["states", "obs/pose"])
def test_optional_columns_are_left_out_where_the_longer_array_has_fewer(tmp_path, spec, key):
    write(tmp_path / "in.hdf5")
    field = f"{{key: {key}, columns: [7, 8], from: width, closed: 0, open: 1, optional: true}}"
    changes = ["content.extra_row=next_state", f"mapping.state.right.gripper_opening={field}"]
    made = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "store", changes)
    assert made.reasons == {} and not any("gripper" in name for name in made.dims("state"))


def test_texts_of_one_row_more_are_cut_by_the_option_alone(tmp_path):
    words = [f"word {n}" for n in range(FRAMES + 1)]
    with h5py.File(tmp_path / "in.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"], demo["q"] = np.zeros((FRAMES, 2)), np.arange(2.0 * FRAMES).reshape(-1, 2)
        demo["words"] = np.array(words, dtype=h5py.string_dtype())
    spec = tmp_path / "lab.yaml"
    spec.write_text(
        "layout: hdf5\ncontent: {hdf5: {length: actions, episodes: data/*}}\n"
        "mapping: {embodiment: arm, state: {right.joint_position: {key: q}}}"
    )
    made = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "plain")
    (name,) = made.rows
    assert made.episode(name)["attributes"]["words"] == words and not made.table("annotations.arrow")
    made = Ingested(spec, tmp_path / "in.hdf5", tmp_path / "cut", ["content.extra_row=next_state"])
    assert "words" not in made.episode(name)["attributes"]
    assert [row["text"] for row in made.table("annotations.arrow")] == words[:FRAMES]
