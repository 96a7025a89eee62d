"""Formats of demonstrations: each read by its own library, and there whole or not at all.

Shape suffixes: N frames; HW3 picture.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import tensorflow_datasets as tfds
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation import collection
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.recorders import rlds
from robot_foundry.evaluation.recorders.formats import FORMATS
from robot_foundry.evaluation.recorders.recorder import Parts
from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Recording
from robot_foundry.evaluation.worlds.tabletop.demonstrations import TabletopDemonstrator
from robot_foundry.ingest.files.scan import choose
from robot_foundry.ingest.sources.rlds.tfrecord import find_records, read_record
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.images import decode, encode_jpeg

REQUEST = Request("reach_pair", "real", 3, seed=1, cameras=("primary",), size=16)


def recorded(request: Request = REQUEST) -> list[Recording]:
    """What the expert does in these episodes."""
    demonstrator = request.demonstrator()
    return [demonstrator.record(scene_seed("collect", request.seed, n)) for n in range(request.episodes)]


def files(place: Path) -> dict[str, bytes]:
    if place.is_file():
        return {"": place.read_bytes()}
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_rosbags_reads_a_bag_an_episode(tmp_path: Path) -> None:
    collect(REQUEST, tmp_path / "bags", to="mcap", quiet=True)
    assert sorted(files(tmp_path / "bags")) == [f"episode-{n:06d}.mcap" for n in range(3)]
    for index, recording in enumerate(recorded()):
        parts, bag = Parts.of(recording), read_bag(tmp_path / "bags" / f"episode-{index:06d}.mcap")
        received_N = [at for at, _ in bag["/command"]]
        assert np.diff(received_N).tolist() == [100_000_000] * (len(received_N) - 1)
        for topic in ("/front/image_raw", "/tool_pose", "/gripper"):
            assert [at for at, _ in bag[topic]] == received_N
            stamps = [message.header.stamp for _, message in bag[topic]]
            assert [stamp.sec * 10**9 + stamp.nanosec for stamp in stamps] == received_N
        commands = [message for _, message in bag["/command"]]
        np.testing.assert_array_equal([command.data for command in commands], parts.action_NC)
        assert commands[0].layout.dim[0].label == "right.x right.y right.z right.gripper"
        poses = [message.pose for _, message in bag["/tool_pose"]]
        positions = [[pose.position.x, pose.position.y, pose.position.z] for pose in poses]
        np.testing.assert_array_equal(positions, parts.numbers["eef_pos"])
        assert [pose.orientation.w for pose in poses] == parts.numbers["eef_quat"][:, 3].tolist()
        pictures = [message.data.reshape(16, 16, 3) for _, message in bag["/front/image_raw"]]
        np.testing.assert_array_equal(pictures, parts.pictures["front"])
        ((_, task),), ((_, success),), ((_, seed),) = bag["/task"], bag["/success"], bag["/seed"]
        assert (task.data, success.data) == (recording.instruction, recording.success)
        assert seed.data == scene_seed("collect", 1, index)


def read_bag(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Messages by topic, each with the time of its receipt."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        for connection, at, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            found.setdefault(connection.topic, []).append((at, message))
    return found


def test_tensorflow_datasets_opens_rlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several files, which it names as it would itself; TensorFlow is not there."""
    monkeypatch.setattr(rlds, "SHARD_BYTES", 1)
    collect(REQUEST, tmp_path / "rlds", to="rlds", quiet=True)
    info = tfds.builder_from_directory(tmp_path / "rlds" / "1.0.0").info
    assert (info.name, info.splits["train"].shard_lengths) == ("tabletop_reach_pair", [1, 1, 1])
    assert json.loads(info.description)["env_kwargs"]["variant"] == "real"
    paths = [Path(path) for path in info.splits["train"].filepaths]
    assert info.splits["train"].num_bytes == sum(path.stat().st_size for path in paths)
    for index, (path, recording) in enumerate(zip(paths, recorded(), strict=True)):
        assert len(find_records(path).spans) == 1
        episode = info.features.deserialize_example_np(read_record(path, 0))
        parts, steps = Parts.of(recording), list(episode["steps"])
        assert episode["episode_metadata"] == {
            "embodiment": b"tabletop_real", "seed": scene_seed("collect", 1, index), "success": True,
        }  # fmt: skip
        np.testing.assert_array_equal([step["action"] for step in steps], parts.action_NC.astype(np.float32))
        for name, numbers_N in parts.numbers.items():
            found_N = [step["observation"][name] for step in steps]
            np.testing.assert_array_equal(found_N, numbers_N.astype(np.float32))
        for step, picture_HW3 in zip(steps, parts.pictures["front"], strict=True):
            np.testing.assert_array_equal(step["observation"]["front"], decode(encode_jpeg(picture_HW3)))
        assert {step["language_instruction"].decode() for step in steps} == {recording.instruction}
        assert [step["is_first"] for step in steps] == [n == 0 for n in range(len(steps))]
        for name in ("is_last", "is_terminal", "reward"):
            assert [bool(step[name]) for step in steps] == [n == len(steps) - 1 for n in range(len(steps))]
    assert "tensorflow" not in sys.modules


def test_pyarrow_reads_lerobot_with_images(tmp_path: Path) -> None:
    collect(REQUEST, tmp_path / "lerobot", to="lerobot", options={"images": True}, quiet=True)
    info = json.loads((tmp_path / "lerobot/meta/info.json").read_text())
    assert (info["robot_type"], info["fps"], info["total_episodes"]) == ("tabletop_real", 10, 3)
    names = info["features"]["observation.state"]["names"]
    assert names == [*(f"eef_pos.{c}" for c in "xyz"), *(f"eef_quat.{c}" for c in "xyzw"), "gripper"]
    assert info["features"]["action"]["names"] == ["right.x", "right.y", "right.z", "right.gripper"]
    rows = parquet.read_table(tmp_path / "lerobot/data/chunk-000/file-000.parquet").to_pydict()
    tasks = parquet.read_table(tmp_path / "lerobot/meta/tasks.parquet").to_pydict()
    task_of = dict(zip(tasks["task_index"], tasks["task"], strict=True))
    start = 0
    for recording in recorded():
        parts = Parts.of(recording)
        span = slice(start, start := start + len(parts.action_NC))
        state_ND = np.concatenate([parts.numbers[name] for name in ("eef_pos", "eef_quat", "gripper")], 1)
        np.testing.assert_array_equal(rows["observation.state"][span], state_ND.astype(np.float32))
        np.testing.assert_array_equal(rows["action"][span], parts.action_NC.astype(np.float32))
        encoded = [picture["bytes"] for picture in rows["observation.images.front"][span]]
        assert encoded == [encode_jpeg(picture_HW3) for picture_HW3 in parts.pictures["front"]]
        assert {task_of[number] for number in rows["task_index"][span]} == {recording.instruction}
        last = [False] * (len(encoded) - 1) + [True]
        assert rows["next.done"][span] == rows["next.success"][span] == rows["next.reward"][span] == last
    assert start == len(rows["action"])


@pytest.mark.parametrize("to", list(FORMATS))
def test_an_interrupted_collection_leaves_nothing_but_what_was_there(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "reach"
    if to == "hdf5":
        collect(replace(REQUEST, episodes=1), out, quiet=True)
    there = files(tmp_path)
    monkeypatch.setattr(collection, "EPISODES_PER_ITEM", 1)
    record, seeds = TabletopDemonstrator.record, []

    def interrupted(self: TabletopDemonstrator, seed: int) -> Recording:
        seeds.append(seed)
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return record(self, seed)

    monkeypatch.setattr(TabletopDemonstrator, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect(REQUEST, out, to=to, quiet=True)
    assert len(seeds) == 3
    assert files(tmp_path) == there
    assert [path.name for path in tmp_path.iterdir()] == (["reach"] if to == "hdf5" else [])


@pytest.mark.parametrize("to", ["hdf5", "mcap"])
def test_one_collection_at_a_time_writes_a_place(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "reach"
    (tmp_path / ".reach.partial").touch()  # as earlier versions left, where they were killed
    collect(REQUEST, tmp_path / "undisturbed", to=to, quiet=True)
    record, refused = TabletopDemonstrator.record, []

    def meanwhile(self: TabletopDemonstrator, seed: int) -> Recording:
        if not refused:
            refused.append(True)
            with pytest.raises(FoundryError, match="another command writes .*/reach at this moment"):
                collect(REQUEST, out, to=to, quiet=True)
        return record(self, seed)

    monkeypatch.setattr(TabletopDemonstrator, "record", meanwhile)
    assert collect(REQUEST, out, to=to, quiet=True).episodes == 3
    assert refused and files(out).keys() == files(tmp_path / "undisturbed").keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reach", "undisturbed"]


def test_what_a_killed_collection_leaves_is_taken_for_nothing(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from robot_foundry.evaluation import collection
from robot_foundry.evaluation.recorders.formats import FORMATS
from robot_foundry.evaluation.worlds.tabletop.demonstrations import TabletopDemonstrator
collection.EPISODES_PER_ITEM = 1
record, seeds = TabletopDemonstrator.record, []
def killed(self, seed):
    seeds.append(seed)
    if len(seeds) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return record(self, seed)
TabletopDemonstrator.record = killed
request = collection.Request("reach_pair", "real", 3, seed=1, cameras=("primary",), size=16)
for to in FORMATS:
    child = os.fork()
    if child == 0:
        collection.collect(request, Path({str(tmp_path)!r}, to, "reach"), to=to, quiet=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    for to in FORMATS:
        assert [path.name for path in (tmp_path / to).iterdir()] == [".reach.partial"]
        assert files(tmp_path / to), "something was written before it was killed"
        with pytest.raises(UsageError, match="holds no file of the layout"):
            choose(tmp_path / to, load_spec("tabletop"))
        again = collect(REQUEST, tmp_path / to / "reach", to=to, quiet=True)
        assert again.episodes == 3
        assert [path.name for path in (tmp_path / to).iterdir()] == ["reach"]


@pytest.mark.parametrize("to", list(FORMATS))
def test_the_command_says_what_it_would_write_writes_it_and_how_to_go_on(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sub" / ("Reach 1.hdf5" if to == "hdf5" else "Reach 1")
    line = ["collect", "tabletop", "--task", "reach_single", "--episodes", "2", "--out", str(out), "--to", to]
    line += ["--cameras", "primary", "--size", "16", "--json"]
    assert run(group, "foundry-eval", [*line, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["format"], planned["cameras"], planned["episodes"]) == (to, ["primary"], 2)
    assert not out.parent.exists()
    assert run(group, "foundry-eval", line) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert (printed["format"], printed["episodes"], printed["successes"]) == (to, 2, 2)
    assert printed["bytes"] == sum(map(len, files(out).values())) > 0
    assert printed["ingest"] == f"foundry-data ingest tabletop '{out}' --as reach_1"
    assert printed["ingest"] in captured.err
    line[3] = "handover"  # of two arms, which no spec of the package reads
    other = out.with_name("two" + out.suffix)
    assert run(group, "foundry-eval", [*line, "--out", str(other)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["ingest"] is None and "docs/tabletop.md" in captured.err
    code = run(group, "foundry-eval", [*line, "--dry-run"])
    assert (code, "is there already" in capsys.readouterr().err) == (
        (0, False) if to == "hdf5" else (2, True)
    )


def test_only_videos_need_the_package_that_encodes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError) as refused:
        collect(REQUEST, tmp_path / "lerobot", to="lerobot", quiet=True)
    assert "robot-foundry[video]" in str(refused.value.hint) and "--images" in str(refused.value.hint)
    assert list(tmp_path.iterdir()) == []
    made = collect(REQUEST, tmp_path / "lerobot", to="lerobot", options={"images": True}, quiet=True)
    assert made.episodes == 3


@pytest.mark.parametrize("way", [["--dry-run"], []])
def test_places_and_options_of_other_formats_are_refused(
    way: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for out, to, images, said in (
        ("folder", "hdf5", [], "is a folder, and hdf5 is one file"),
        ("file", "mcap", [], "is a file, and mcap is a folder"),
        ("new", "rlds", ["--images"], "--images is of --to lerobot, not of --to rlds"),
        ("folder", "rlds", [], "is there already"),  # where the user is
    ):
        monkeypatch.chdir(tmp_path / "folder")
        line = ["collect", "tabletop", "--task", "reach", "--episodes", "1", "--out", str(tmp_path / out)]
        assert run(group, "foundry-eval", [*line, "--to", to, *images, *way]) == 2
        assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    with pytest.raises(UsageError, match="not written as 'mcop', did you mean 'mcap'"):
        collect(REQUEST, tmp_path / "new", to="mcop", quiet=True)
