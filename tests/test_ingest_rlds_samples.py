"""RLDS recordings, record by record, against a wire parser of its own, SciPy and tarfile.

None of robot_foundry's readers and no protocol-buffer library is used on the other side. Legend: T steps.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.engine import run
from robot_foundry.ingest.sources.rlds.tfrecord import find_records, read_record

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
BRIDGE, DROID = "rlds/bridge_dataset", "rlds/droid_like"


def sample(path):
    return Path(str(SAMPLES)) / path


def raw_records(path):
    """Every record of a TFRecord file, by the lengths alone."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + length]
        at += length + 16
    assert at == len(data)


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data):
    """(field number, value) of a message that holds numbers and length-delimited values."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        else:
            assert tag & 7 == 0
        yield tag >> 3, value


def features(message):
    """{name: list of bytes, or array of numbers} of a tf.train.Features message."""
    found = {}
    for _, entry in fields(message):
        name, feature = (value for _, value in fields(entry))
        for kind, values in fields(feature):
            packed = [value for _, value in fields(values)]
            if kind == 2:
                packed = np.frombuffer(b"".join(packed), "<f4")
            elif kind == 3:
                numbers, at = [], 0
                joined = b"".join(packed)
                while at < len(joined):
                    number, at = varint(joined, at)
                    numbers.append(number)
                packed = np.array(numbers, np.uint64).view(np.int64)
            found[name.decode()] = packed
    return found


def episodes_of(folder):
    """{(file, record): features} of all records beneath a folder."""
    return {
        (path.name, number): features(next(value for _, value in fields(record)))
        for path in sorted(folder.rglob("*.tfrecord-*"))
        for number, record in enumerate(raw_records(path))
    }


class Ingested:
    """A version as its files tell it, without the package."""

    def __init__(self, store, report):
        self.folder = store / "datasets" / report.dataset / report.version.version_id
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        self.tars = {
            shard["key"]: store / "shards" / report.dataset / f"{shard['key']}.tar"
            for shard in self.manifest["shards"]
        }
        self.annotations = self.table("annotations").to_pylist()
        self.dims = {"state": self.manifest["schema"]["state"], **self.manifest["schema"]["streams"]}

    def table(self, name):
        return pa.ipc.open_file(self.folder / f"{name}.arrow").read_all()

    def episodes(self):
        """(row of the episodes table, its frames, its episode.json, its arrays, {member: bytes})."""
        rows = self.table("episodes").to_pylist()
        for ordinal, (shard, place) in enumerate(self.tars.items()):
            frames = pa.ipc.open_file(self.folder / "frames" / f"{shard}.arrow").read_all()
            with tarfile.open(place) as tar:
                members = {member.name: tar.extractfile(member).read() for member in tar}
            for row in rows:
                if row["shard"] == ordinal:
                    own = {name: data for name, data in members.items() if name.startswith(row["key"])}
                    described = json.loads(own[f"{row['key']}.episode.json"])
                    arrays = np.load(io.BytesIO(own[f"{row['key']}.source.npz"]), allow_pickle=False)
                    yield row, frames.slice(row["row_start"], row["num_frames"]), described, arrays, own

    def columns(self, frames, stream):
        """{name of dim: values [T]}."""
        name = stream if stream == "state" else f"action.{stream}"
        values_TD = np.array(frames[name].to_pylist())
        return {dim["name"]: values_TD[:, d] for d, dim in enumerate(self.dims[stream])}


def stacked(columns, quantity):
    return np.stack([columns[name] for name in columns if name.startswith(f"right.{quantity}.")], axis=1)


def rot6d(turned):
    matrix_T33 = turned.as_matrix()
    return np.concatenate([matrix_T33[:, :, 0], matrix_T33[:, :, 1]], axis=1)


def assert_pose(columns, position_T3, turned):
    np.testing.assert_allclose(stacked(columns, "ee_position"), position_T3, atol=1e-5)
    np.testing.assert_allclose(stacked(columns, "ee_rot6d"), rot6d(turned), atol=1e-5)


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    store = tmp_path_factory.mktemp("bridge")
    return Ingested(store, run("bridge", sample(BRIDGE), store=store, name="bridge"))


@pytest.fixture(scope="module")
def droid(tmp_path_factory):
    store = tmp_path_factory.mktemp("droid")
    return Ingested(store, run("droid", sample(DROID), store=store, name="droid"))


def test_counts_of_every_split_agree_with_the_raw_records(bridge, droid):
    for version, folder, splits in ((bridge, BRIDGE, {"train", "val"}), (droid, DROID, {"train"})):
        raw = episodes_of(sample(folder))
        counts = version.manifest["counts"]
        assert counts["discovered"] == counts["written"] == counts["episodes"] == len(raw)
        assert counts["quarantined"] == 0
        assert counts["frames"] == sum(len(record["steps/is_first"]) for record in raw.values())
        assert {described["attributes"]["split"] for _, _, described, _, _ in version.episodes()} == splits


@pytest.mark.parametrize("name", ["bridge", "droid"])
def test_every_image_and_every_array_is_in_the_tar_as_it_was(name, request):
    version = request.getfixturevalue(name)
    raw = episodes_of(sample({"bridge": BRIDGE, "droid": DROID}[name]))
    seen = set()
    for row, _, described, arrays, members in version.episodes():
        place = Path(row["source"]).name, int(row["id"].removeprefix("record_"))
        seen.add(place)
        record = raw[place]
        num_steps = len(record["steps/is_first"])
        images = {path for path in record if path.startswith("steps/observation/") and "image" in path}
        assert {camera["array"] for camera in described["cameras"].values()} == images
        for camera, about in described["cameras"].items():
            stored = [members[f"{row['key']}-{step:06d}.{camera}.jpg"] for step in range(num_steps)]
            assert stored == record[about["array"]]
        texts = {path for path in record if isinstance(record[path], list)} - images
        expected = set(record) - images - texts - set(described["left_out"])
        assert set(arrays.files) == expected | {"timestamp"}
        for path in expected:
            np.testing.assert_array_equal(arrays[path].ravel(), record[path])
        for path in texts - {path for path in texts if path.startswith("steps/")}:
            assert described["attributes"][path] == record[path][0].decode()
        np.testing.assert_allclose(np.diff(arrays["timestamp"]), 1 / row["fps"])
    assert seen == set(raw)
    assert set(described["left_out"]) == ({"steps/language_embedding"} if name == "bridge" else set())


# The tool in the frame of Bridge's rotations: x along its y, z along its −z, so y along its x.
TOOL_OF_BRIDGE = Rotation.from_matrix([[0, 1, 0], [1, 0, 0], [0, 0, -1]])


def test_states_and_actions_of_bridge(bridge):
    raw = episodes_of(sample(BRIDGE))
    for row, frames, _, _, _ in bridge.episodes():
        record = raw[Path(row["source"]).name, int(row["id"].removeprefix("record_"))]
        state_T7 = record["steps/observation/state"].reshape(-1, 7).astype(float)
        action_T7 = record["steps/action"].reshape(-1, 7).astype(float)
        turned = Rotation.from_euler("xyz", state_T7[:, 3:6]) * TOOL_OF_BRIDGE
        columns = bridge.columns(frames, "state")
        assert_pose(columns, state_T7[:, :3], turned)
        np.testing.assert_allclose(columns["right.gripper_opening"], np.clip(state_T7[:, 6], 0, 1), atol=1e-6)
        columns = bridge.columns(frames, "command")
        delta = Rotation.from_euler("xyz", action_T7[:, 3:6])
        assert_pose(columns, state_T7[:, :3] + action_T7[:, :3], delta * turned)
        np.testing.assert_allclose(columns["right.gripper_opening"], action_T7[:, 6], atol=1e-6)
        following = np.minimum(np.arange(1, len(state_T7) + 1), len(state_T7) - 1)
        assert_pose(bridge.columns(frames, "next_state"), state_T7[following, :3], turned[following])


def test_the_commands_of_bridge_are_displacements_in_base_axes():
    """The arm's motion follows the commanded rotation better in these axes than in the tool's or in XYZ."""
    found = {"xyz base": [], "xyz tool": [], "XYZ base": []}
    for record in episodes_of(sample(BRIDGE)).values():
        state_T7 = record["steps/observation/state"].reshape(-1, 7)
        command_T3 = record["steps/action"].reshape(-1, 7)[:-1, 3:6]
        for sequence in ("xyz", "XYZ"):
            turned = Rotation.from_euler(sequence, state_T7[:, 3:6])
            asked_T3 = Rotation.from_euler("xyz", command_T3).as_rotvec()
            base_T3 = (turned[1:] * turned[:-1].inv()).as_rotvec()
            found[f"{sequence} base"].append((asked_T3, base_T3))
            if sequence == "xyz":
                found["xyz tool"].append((asked_T3, (turned[:-1].inv() * turned[1:]).as_rotvec()))
    agreement = {}
    for name, pairs in found.items():
        asked, moved = (np.concatenate(side) for side in zip(*pairs, strict=True))
        agreement[name] = np.mean([np.corrcoef(asked[:, i], moved[:, i])[0, 1] for i in range(3)])
    assert agreement["xyz base"] > 0.85
    assert agreement["xyz base"] > max(agreement["xyz tool"], agreement["XYZ base"]) + 0.02


def test_states_and_actions_of_droid(droid):
    raw = episodes_of(sample(DROID))
    for row, frames, _, _, _ in droid.episodes():
        record = raw[Path(row["source"]).name, int(row["id"].removeprefix("record_"))]
        pose_T6 = record["steps/observation/cartesian_position"].reshape(-1, 6).astype(float)
        target_T6 = record["steps/action_dict/cartesian_position"].reshape(-1, 6).astype(float)
        columns = droid.columns(frames, "state")
        assert_pose(columns, pose_T6[:, :3], Rotation.from_euler("xyz", pose_T6[:, 3:]))
        opening_T = 1 - record["steps/observation/gripper_position"]
        np.testing.assert_allclose(columns["right.gripper_opening"], opening_T, atol=1e-6)
        joints_T7 = record["steps/observation/joint_position"].reshape(-1, 7)
        np.testing.assert_allclose(stacked(columns, "joint_position"), joints_T7, atol=1e-6)
        columns = droid.columns(frames, "command")
        assert_pose(columns, target_T6[:, :3], Rotation.from_euler("xyz", target_T6[:, 3:]))
        asked_T = 1 - record["steps/action_dict/gripper_position"]
        np.testing.assert_allclose(columns["right.gripper_opening"], asked_T, atol=1e-6)
        columns = droid.columns(frames, "command_joint")
        asked_T7 = record["steps/action_dict/joint_position"].reshape(-1, 7)
        np.testing.assert_allclose(stacked(columns, "joint_position"), asked_T7, atol=1e-6)


def test_poses_compose_back_through_the_turn_of_the_roll_angle(droid):
    """The roll of these recordings jumps between π and −π; steps between stored poses stay small."""
    jumps = 0
    raw = episodes_of(sample(DROID))
    for row, frames, _, _, _ in droid.episodes():
        record = raw[Path(row["source"]).name, int(row["id"].removeprefix("record_"))]
        angles_T3 = record["steps/observation/cartesian_position"].reshape(-1, 6)[:, 3:]
        jumps += int((np.abs(np.diff(angles_T3[:, 0])) > np.pi).sum())
        columns = droid.columns(frames, "state")
        six_T6 = stacked(columns, "ee_rot6d")
        third_T3 = np.cross(six_T6[:, :3], six_T6[:, 3:])
        turned = Rotation.from_matrix(np.stack([six_T6[:, :3], six_T6[:, 3:], third_T3], axis=-1))
        steps = turned[:-1].inv() * turned[1:]
        assert steps.magnitude().max() < 0.1
        position_T3, at, pose = stacked(columns, "ee_position"), None, turned[0]
        at = position_T3[0]
        for t, step in enumerate(steps):
            relative = turned[t].inv().apply(position_T3[t + 1] - position_T3[t])
            at, pose = at + pose.apply(relative), pose * step
        last = Rotation.from_euler("xyz", angles_T3[-1].astype(float))
        assert (pose.inv() * last).magnitude() < 1e-5
        np.testing.assert_allclose(at, position_T3[-1], atol=1e-5)
    assert jumps > 0


def test_language_success_and_roles(bridge, droid):
    raw = episodes_of(sample(DROID))
    told = {}
    for annotation in droid.annotations:
        told.setdefault(annotation["key"], set()).add(
            (annotation["start"], annotation["end"], annotation["kind"], annotation["text"])
        )
    successes = []
    for row, _, _, _, _ in droid.episodes():
        record = raw[Path(row["source"]).name, int(row["id"].removeprefix("record_"))]
        expected = {
            (0, row["num_frames"], "instruction", text.decode())
            for path in record
            if path.startswith("steps/language_instruction")
            for text in record[path]
            if text
        }
        assert told.get(row["key"], set()) == expected
        assert row["success"] is (b"/success/" in record["episode_metadata/file_path"][0])
        successes.append(row["success"])
    assert set(successes) == {True, False} and any(told.values())
    assert {camera["role"] for camera in droid.manifest["schema"]["cameras"]} == {
        "primary",
        "secondary",
        "wrist_right",
    }
    raw = episodes_of(sample(BRIDGE))
    texts = {annotation["key"]: annotation for annotation in bridge.annotations}
    for row, _, _, _, _ in bridge.episodes():
        record = raw[Path(row["source"]).name, int(row["id"].removeprefix("record_"))]
        (instruction,) = {text.decode().strip() for text in record["steps/language_instruction"]}
        annotation = texts[row["key"]]
        assert annotation["text"] == instruction and annotation["source"] == "steps/language_instruction"
        assert (annotation["start"], annotation["end"]) == (0, row["num_frames"])


@pytest.mark.parametrize("path", ["tfrecord/example.tfrecord", "tfrecord/sequence_example.tfrecord"])
def test_records_of_any_tfrecord_file_are_found(path):
    expected = list(raw_records(sample(path)))
    found = find_records(sample(path))
    assert found.damage is None and len(found.spans) == len(expected) > 1
    assert [read_record(sample(path), number) for number in range(len(expected))] == expected
