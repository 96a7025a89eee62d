"""LeRobot datasets of all versions by the packaged spec, against the numbers that were written into them."""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels
from foundry_testing.lerobot_datasets import (
    FPS,
    TASKS,
    Recording,
    png,
    recordings,
    shade,
    write_dataset,
    write_json,
)

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.robot.interface import interface_of
from robot_foundry.ingest.sources.robot.shared_video import SharedVideo

NAMES = ["shoulder_pan.pos", "kElbow", "gripper.pos"]
DIMS = ["robot.value.gripper_pos", "robot.value.k_elbow", "robot.value.shoulder_pan_pos"]
BY_NAME = [2, 1, 0]  # the columns in the order of the dims


def shades(made, episode):
    return [float(pixels(data).mean()) for data in made.images(episode, "top")]


@pytest.mark.parametrize(
    ("version", "images", "codec"),
    [
        ("v2.0", "video", "h264"),
        ("v2.1", "video", "av1"),
        ("v3.0", "video", "h264"),
        ("v3.0", "image", "h264"),
    ],
)
def test_rows_and_pictures_are_those_of_the_source(tmp_path, version, images, codec):
    episodes = write_dataset(tmp_path / "in", version=version, images=images, codec=codec, names=NAMES)
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store")
    assert not made.reasons and made.manifest["counts"]["frames"] == 17
    assert made.dims("state") == made.dims("command") == made.dims("next_state") == DIMS
    assert {dim["unit"] for dim in made.manifest["schema"]["state"]} == {"unknown"}
    assert made.manifest["schema"]["embodiment"] == "so101" and made.manifest["schema"]["fps"] == FPS
    for number, episode in enumerate(episodes):
        name = f"episode_{number:06d}"
        assert np.array_equal(made.column(name, "state"), episode.columns["observation.state"][:, BY_NAME])
        assert np.array_equal(made.column(name, "action.command"), episode.columns["action"][:, BY_NAME])
        assert np.array_equal(made.source(name)["action"], episode.columns["action"])
        np.testing.assert_allclose(made.column(name, "timestamp"), np.arange(episode.length) / FPS, atol=1e-6)
        expected = [shade(number, frame) for frame in range(episode.length)]
        np.testing.assert_allclose(shades(made, name), expected, atol=0 if images == "image" else 3)
        assert made.instructions()[name] == TASKS[number % 2]
        about = made.episode(name)
        assert about["attributes"]["split"] == "train" and about["fps_source"] == "meta/info.json"
    if images == "image":
        assert made.images("episode_000001", "top")[3] == png(shade(1, 3))


def test_the_same_bytes_for_any_workers(tmp_path, ray_workers):
    write_dataset(tmp_path / "in")
    versions = set()
    for workers in (0, 1, 2):
        from robot_foundry.ingest.engine import Options

        report = run(
            "lerobot", tmp_path / "in", store=tmp_path / f"store{workers}", name="made",
            options=Options(workers=workers),
        )  # fmt: skip
        versions.add(report.version.version_id)
    assert len(versions) == 1


def test_one_file_of_several_episodes_is_decoded_once(tmp_path, monkeypatch):
    made = write_dataset(tmp_path / "in", recordings((6, 6, 6, 6)))
    jumps = []
    seek = SharedVideo._go_to

    def counted(self, av, first):
        before = self._decoded
        seek(self, av, first)
        jumps.extend([first] if self._decoded is not before else [])

    monkeypatch.setattr(SharedVideo, "_go_to", counted)
    ingested = Ingested("lerobot", tmp_path / "in", tmp_path / "store")
    assert jumps == [0] and len(ingested.rows) == len(made)


def test_names_of_every_form_and_none(tmp_path):
    for n, (names, dims) in enumerate(
        [
            ({"motors": ["a", "b", "c"]}, ["a", "b", "c"]),
            ([["a", "b", "c"]], ["a", "b", "c"]),
            ({"c": 0, "a": 1, "b": 2}, ["a", "b", "c"]),
            (["a", "a", "A"], ["a", "a_1", "a_2"]),
            (None, ["0", "1", "2"]),
            (["too", "few"], ["0", "1", "2"]),
        ]
    ):
        write_dataset(tmp_path / f"in{n}", names=names, images="none")
        made = Ingested("lerobot", tmp_path / f"in{n}", tmp_path / f"store{n}")
        assert made.dims("state") == [f"robot.value.{dim}" for dim in dims], names


def test_groups_of_modality_json_are_parts(tmp_path):
    write_dataset(tmp_path / "in", recordings(width=5), images="none")
    groups = {"left_arm": {"start": 0, "end": 2}, "gripper": {"start": 3, "end": 4}}
    write_json(tmp_path / "in/meta/modality.json", {"state": groups, "action": groups})
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store")
    dims = ["gripper.value.3", "left_arm.value.0", "left_arm.value.1", "robot.value.2", "robot.value_2.4"]
    assert made.dims("state") == made.dims("command") == dims


def test_subtasks_interventions_and_success(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    (episode,) = recordings((6,))
    episode.extra = {
        "subtask_index": [0, 0, 1, 1, 1, 1],
        "is_intervention": [False, False, True, True, False, False],
        "next.success": [False] * 5 + [True],
        "language_note": ["slow", "slow", "", "", "", ""],
    }
    write_dataset(tmp_path / "in", [episode], images="none")
    table = pa.table({"subtask_index": [0, 1], "subtask": ["reach", "grasp"]})
    parquet.write_table(table, tmp_path / "in/meta/subtasks.parquet")
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store")
    told = {(a["kind"], a["start"], a["end"], a["text"]) for a in made.table("annotations.arrow")}
    assert {("subtask", 0, 2, "reach"), ("subtask", 2, 6, "grasp"), ("language_note", 0, 2, "slow")} <= told
    assert ("instruction", 0, 6, TASKS[0]) in told
    flagged = made.column("episode_000000", "flags") & int(Flag.INTERVENTION) != 0
    assert flagged.tolist() == episode.extra["is_intervention"]
    assert made.rows["episode_000000"]["success"] is True


def test_joints_and_end_effector_by_the_users_spec(tmp_path):
    rng = np.random.default_rng(1)
    pose = np.concatenate([rng.normal(size=(6, 3)), np.tile([0.0, 0.0, 0.0, 1.0], (6, 1))], 1).astype(
        np.float32
    )
    joints = rng.normal(size=(6, 3)).astype(np.float32)
    columns = {
        "observation.state": joints,
        "observation.ee_pose": pose,
        "action": joints + 1,
        "action.pose": pose,
    }
    write_dataset(tmp_path / "in", [Recording(columns)], images="none")
    plain = Ingested("lerobot", tmp_path / "in", tmp_path / "plain")
    assert plain.dims("state") == [
        *(f"robot.ee_pose.{n}" for n in range(7)),
        *(f"robot.value.{n}" for n in range(3)),
    ]
    assert plain.dims("pose") == [f"robot.pose.{n}" for n in range(7)]
    given = [
        "mapping.state.right.joint_position={key: observation.state, columns: [0, 2]}",
        "mapping.state.right.ee_position={key: observation.ee_pose, columns: [0, 3]}",
        "mapping.state.right.ee_rotation="
        "{key: observation.ee_pose, columns: [3, 7], from: quaternion, order: xyzw}",
        "mapping.actions.command={right.joint_position: {key: action, columns: [0, 2], scale: 0.5}}",
        "content.skip=[action.pose]",
    ]
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store", given)
    xyz, rot6d = [f"right.ee_position.{x}" for x in "xyz"], [f"right.ee_rot6d.{n}" for n in range(6)]
    own = ["right.joint_position.0", "right.joint_position.1"]
    assert made.dims("state") == [*xyz, *rot6d, *own, "robot.value.2"]
    assert made.dims("command") == [*own, "robot.value.2"]
    np.testing.assert_allclose(
        made.column("episode_000000", "action.command"), (joints + 1) * [0.5, 0.5, 1], rtol=1e-6
    )
    expected = np.concatenate([pose[:, :3], np.tile([1, 0, 0, 0, 1, 0], (6, 1)), joints], 1)
    np.testing.assert_allclose(made.column("episode_000000", "state"), expected, atol=1e-6)


def test_a_robot_is_told_in_the_order_of_its_columns(tmp_path):
    from robot_foundry.catalog.manifest import read_manifest
    from robot_foundry.catalog.store import as_store
    from robot_foundry.ingest.robot.inverse import source_actions

    episodes = write_dataset(tmp_path / "in", names=NAMES, images="none")
    report = run("lerobot", tmp_path / "in", store=tmp_path / "store", name="made")
    manifest = read_manifest(as_store(tmp_path / "store"), report.version)
    interface = interface_of(manifest)
    space = manifest.schema.space("command")
    action, state = (episodes[0].columns[key] for key in ("action", "observation.state"))
    sent = source_actions(
        interface, "command", action[:, BY_NAME], state[:, BY_NAME], space, manifest.schema.state_space()
    )
    np.testing.assert_array_equal(sent["action"], action)


def test_a_remap_gives_columns_a_meaning(tmp_path):
    from robot_foundry.ingest.remapping import run as remap
    from robot_foundry.ingest.remapping import spec_of

    write_dataset(tmp_path / "in", names=NAMES, images="none")
    store = tmp_path / "store"
    run("lerobot", tmp_path / "in", store=store, name="made")
    field = "{key: observation.state, columns: [0, 2], scale: 0.0174533}"
    spec = spec_of("made", None, [f"mapping.state.right.joint_position={field}"], store=store)
    schema = remap("made", spec, store=store).version
    from robot_foundry.catalog.manifest import read_manifest
    from robot_foundry.catalog.store import as_store

    names = [dim.name for dim in read_manifest(as_store(store), schema).schema.state]
    assert names == ["right.joint_position.0", "right.joint_position.1", "robot.value.gripper_pos"]
