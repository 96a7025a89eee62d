"""Links inside HDF5 files: judged by where the opened object lies, and told where they lead nowhere."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from foundry_testing.ingested import Ingested
from make_robomimic import make

from robot_foundry.runtime.errors import FoundryError

HERE = Path(__file__).parent
PLACES = """
layout: hdf5
content:
  hdf5: {length: action, episodes: 'runs/*', images: {front: rgb}, time: {key: /clock, unit: s}}
mapping:
  embodiment: panda
  instruction: [{text: go}]
  state: {right.joint_position: {key: action}}
  actions: {command: {right.joint_position: {key: action}}}
"""


@pytest.fixture
def source(tmp_path):
    """lift.hdf5 of six demonstrations of five frames, and other.h5 beside it."""
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder / "lift.hdf5", seed=0, episodes=6, frames=5, size=16)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["pos"] = np.full((5, 3), 7.0)
    return folder / "lift.hdf5"


def relink(path, change):
    with h5py.File(path, "a") as file:
        change(file, [file[f"data/demo_{number}/obs"] for number in range(6)])


def virtual(group, name, file_name, source, shape=(5, 3)):
    layout = h5py.VirtualLayout(shape, "f8")
    layout[:] = h5py.VirtualSource(file_name, source, shape)
    group.create_virtual_dataset(name, layout)


def test_what_lies_in_another_file_is_refused_whatever_leads_there(source, tmp_path):
    def change(file, obs):
        file["elsewhere"] = h5py.ExternalLink("../other.h5", "/")
        file["twice"] = h5py.SoftLink("/elsewhere")
        obs[0]["more"] = h5py.SoftLink("/elsewhere/pos")
        obs[1]["more"] = h5py.SoftLink("/twice/pos")
        virtual(obs[2], "more", "../other.h5", "pos")
        virtual(obs[3], "more", ".", "elsewhere/pos")
        obs[4].create_dataset("more", (5, 3), "f8", external=[("../other.h5", 0, 120)])

    relink(source, change)
    made = Ingested("robomimic", source, tmp_path / "store")
    assert list(made.rows) == ["demo_5"] and len(made.reasons) == 5
    assert all("another file" in reason for reason in made.reasons.values())


def test_links_and_virtual_datasets_of_one_file_are_read(source, tmp_path):
    def change(file, obs):
        file["shared/pos"] = np.arange(15.0).reshape(5, 3)
        file["to"] = h5py.SoftLink("/shared")
        obs[0]["soft"] = h5py.SoftLink("/to/pos")
        obs[0]["hard"] = file["shared/pos"]
        virtual(obs[0], "virtual", ".", "/to/pos")
        virtual(obs[0], "of_virtual", ".", obs[0].name + "/virtual")
        virtual(obs[1], "gone", ".", "/to/nothing")

    relink(source, change)
    made = Ingested("robomimic", source, tmp_path / "store")
    for name in ("soft", "hard", "virtual", "of_virtual"):
        assert np.array_equal(made.source("demo_0")[f"obs/{name}"], np.arange(15.0).reshape(5, 3)), name
    assert made.reasons == {"lift.hdf5#demo_1": "'gone' is made of '/to/nothing', which is not there"}


def test_links_that_lead_nowhere_are_told(source, tmp_path):
    def change(file, obs):
        for number, name in ((0, "agentview_image"), (1, "robot0_eef_pos")):
            del obs[number][name]
            obs[number][name] = h5py.SoftLink("/images/gone")
        for number, name in ((2, "obs"), (3, "actions")):
            demo = obs[number].parent
            del demo[name]
            demo[name] = h5py.SoftLink(f"/data/demo_{number}/{name}" if number == 3 else "/no/such")
        file["data/demo_9"] = h5py.SoftLink("/data/demo_10")

    relink(source, change)
    made = Ingested("robomimic", source, tmp_path / "store")
    assert sorted(made.rows) == ["demo_0", "demo_4", "demo_5"]
    nowhere = "it is a soft link that leads nowhere: there is no "
    assert made.episode("demo_0")["left_out"]["obs/agentview_image"] == f"{nowhere}'/images/gone'"
    assert list(made.episode("demo_0")["cameras"]) == ["robot0_eye_in_hand"]
    reasons = {unit.rpartition("#")[2]: reason for unit, reason in made.reasons.items()}
    assert "robot0_eef_pos" in reasons["demo_1"]
    assert reasons["demo_2"] == f"it has no group obs: {nowhere}'/no/such'"
    assert reasons["demo_3"] == (
        "it has no array 'actions' (it is a soft link in a circle: it leads to '/data/demo_3/actions')"
    )
    assert reasons["demo_9"] == f"{nowhere}'/data/demo_10'"


def test_a_demonstration_that_two_names_lead_to_is_taken_once(source, tmp_path):
    def change(file, obs):
        file["data/best"] = h5py.SoftLink("/data/demo_3")
        file["data/demo_8"] = file["data/demo_2"]

    relink(source, change)
    made = Ingested("robomimic", source, tmp_path / "store")
    assert sorted(made.rows) == [f"demo_{number}" for number in range(6)]
    assert made.reasons == {
        "lift.hdf5#best": "it is 'demo_3' again, by a link",
        "lift.hdf5#demo_8": "it is 'demo_2' again, by a link",
    }


def test_a_damaged_object_is_not_taken_for_absent(source, tmp_path):
    with h5py.File(source) as file:
        address = h5py.h5o.get_info(file["data/demo_1/obs/robot0_eef_quat"].id).addr
    content = bytearray(source.read_bytes())
    content[address : address + 4] = b"\xff" * 4
    source.write_bytes(content)
    made = Ingested("robomimic", source, tmp_path / "store")
    assert len(made.rows) == 5
    (reason,) = made.reasons.values()
    assert reason.startswith("'robot0_eef_quat' is damaged (")


def test_places_follow_links_inside_the_file_only(tmp_path):
    spec, source = tmp_path / "own.yaml", tmp_path / "in.h5"
    spec.write_text(PLACES)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["clock"] = np.arange(4) / 10
    with h5py.File(source, "w") as file:
        for name in "abc":
            file[f"runs/{name}/action"] = np.linspace(0, 1, 28).reshape(4, 7)
            file[f"runs/{name}/rgb"] = np.zeros((4, 16, 16, 3), np.uint8)
        file["clock"] = h5py.ExternalLink("other.h5", "/clock")
    outside = "'clock' lies in another file: ingest that file itself"
    with pytest.raises(FoundryError, match=outside):
        Ingested(spec, source, tmp_path / "outside")
    with h5py.File(source, "a") as file:
        del file["clock"]
        file["runs/again"] = h5py.SoftLink("/runs/b")
        file["runs/lost"] = h5py.SoftLink("/runs/z")
        del file["runs/c/rgb"]
        file["runs/c/rgb"] = h5py.SoftLink("/pictures")
        file["times/clock"] = np.arange(4) / 10
        file["clock"] = h5py.SoftLink("/times/clock")
    made = Ingested(spec, source, tmp_path / "store")
    assert sorted(made.rows) == ["runs/a", "runs/b"] and made.rows["runs/a"]["fps"] == 10.0
    assert {unit.rpartition("/")[2]: reason for unit, reason in made.reasons.items()} == {
        "again": "it is 'runs/b' again, by a link",
        "lost": "it is a soft link that leads nowhere: there is no '/runs/z'",
        "c": "it has no array 'rgb', which content.hdf5.images.front names: it is a soft link that leads "
        "nowhere: there is no '/pictures'",
    }
