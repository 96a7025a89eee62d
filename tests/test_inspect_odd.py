"""`foundry-data inspect` on takes that broke off, numbers that are none, odd names, and files of records."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from foundry_testing.pair_ingests import Sample, picture, write_tar
from foundry_testing.ros_bags import Sent, arm, truth, write_bag
from foundry_testing.stranger_files import write_stranger

from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run
from robot_foundry.ingest.inspect import survey
from robot_foundry.ingest.inspect.forms import records

COMMAND = {"key": "cmd/motion", "columns": [0, 3], "from": "delta"}


@pytest.fixture
def foundry_data(capsys):
    def told(*arguments):
        code = run(group, "foundry-data", [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return told


@pytest.fixture
def only(foundry_data):
    def told(source):
        code, out, err = foundry_data("inspect", source, "--json")
        (one,) = json.loads(out)["found"]
        return code, one, err

    return told


def changed(path, change):
    write_stranger(path, with_pictures=False)
    with h5py.File(path, "a") as file:
        change(file["runs/day"])
    return path


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_one_frame_that_is_none_hides_no_command(number, only, tmp_path):
    def spoil(takes):
        takes["take_1/tool/pose"][40] = number
        takes["take_2/tool/jaw"][0] = number

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, one, _ = only(changed(tmp_path / "x.h5", spoil))
    assert code == 0 and one["actions"]["command"]["right.ee_position"]["field"] == COMMAND
    assert "stops 40% short" in " ".join(one["state"]["right.gripper_opening"]["evidence"])


def test_a_command_without_any_number_is_told_as_one_that_nothing_takes(only, tmp_path):
    def add(takes):
        for take in takes.values():
            take["cmd/gripper"] = np.full(len(take["tool/jaw"]), np.nan)

    code, one, _ = only(changed(tmp_path / "x.h5", add))
    assert code == 0 and one["unread"]["cmd/gripper"] == "no finite numbers"
    assert one["actions"]["command"]["right.ee_position"]["field"] == COMMAND


@pytest.mark.parametrize(("take", "frames"), [("take_0", 0), ("take_1", 1)])
def test_a_take_that_broke_off_does_not_make_one_episode_of_all(take, frames, only, tmp_path):
    def cut(takes):
        for name in ("tool/pose", "tool/jaw", "clock_ns", "cmd/motion"):
            rows = takes[take][name][:frames]
            del takes[take][name]
            takes[take][name] = rows

    code, one, _ = only(changed(tmp_path / "x.h5", cut))
    assert code == 0 and one["episodes"] == 3 + frames and one["frames"] == 270 + frames
    assert [refused["unit"] for refused in one["refused"]] == [f"x.h5#runs/day/{take}"] * (1 - frames)
    assert one["actions"]["command"]["right.ee_position"]["field"] == COMMAND


def test_bags_in_folders_are_one_source(foundry_data, only, tmp_path):
    for name in ("a", "b", "c"):
        write_bag(tmp_path / "logs" / name / "take", arm(), "mcap")
        shutil.move(tmp_path / "logs" / name / "take", tmp_path / "logs" / f"take_{name}")
        (tmp_path / "logs" / name).rmdir()
    code, one, _ = only(tmp_path / "logs")
    assert code == 0 and one["place"] == str(tmp_path / "logs") and one["episodes"] == 3
    assert foundry_data("inspect", tmp_path / "logs", "--spec", tmp_path / "x.yaml")[0] == 0


def test_of_a_pose_both_parts_are_drafted_and_what_is_not_is_named(foundry_data, only, tmp_path):
    poses, truths = list[Sent](), list[Sent]()
    for n in range(20):
        tip = {"position": {"x": n / 50, "y": 0.1, "z": 0.2}, "orientation": dict(x=0.0, y=0.0, z=0.0, w=1.0)}
        poses.append(Sent("/tip", n / 10, "geometry_msgs/msg/Pose", tip))
        truths.append(truth("/closed", n / 10, n < 10))
    write_bag(tmp_path / "take", sorted([*arm(), *poses, *truths], key=lambda sent: sent.at), "mcap")
    code, one, _ = only(tmp_path / "take")
    assert code == 0 and {"tip_position", "tip_orientation"} <= one["arrays"].keys()
    left_out = "nothing is drafted of /closed (std_msgs/msg/Bool, 20 messages): "
    assert [told for told in one["told"] if told.startswith(left_out)]
    foundry_data("inspect", tmp_path / "take", "--spec", tmp_path / "x.yaml")
    assert left_out in " ".join((tmp_path / "x.yaml").read_text().replace("\n# ", " ").split())


def test_of_large_bags_those_are_read_that_are_read_soon(monkeypatch, only, tmp_path):
    for name in ("a", "b", "c"):
        write_bag(tmp_path / name, arm(), "bag")
    size = next(path.stat().st_size for path in tmp_path.rglob("*.bag"))
    monkeypatch.setattr(survey, "MOST_BAG_BYTES", int(size * 2.5))
    code, one, _ = only(tmp_path)
    assert code == 0 and one["episodes"] == 3 and len(one["read"]) == 2
    monkeypatch.setattr(survey, "MOST_BAG_BYTES", size // 2)
    code, one, _ = only(tmp_path)
    assert one["read"] == [] and "its messages were not read, for it is large" in " ".join(one["told"])


def test_a_database_is_a_bag_whatever_it_is_called(foundry_data, tmp_path):
    write_bag(tmp_path / "take", arm(), "db3")
    path = tmp_path / "run %201#a?b.db3"
    next((tmp_path / "take").glob("*.db3")).rename(path)
    code, out, _ = foundry_data("inspect", path)
    assert code == 0 and "1 episode" in out and f"`foundry-data topics '{path}'` lists" in out


def test_a_bag_that_is_packed_as_a_whole_is_one(only, tmp_path):
    write_bag(tmp_path / "take", arm(), "mcap")
    whole = next((tmp_path / "take").glob("*.mcap")).read_bytes()
    (tmp_path / "x.mcap.zstd").write_bytes(zstandard.compress(whole))
    code, one, _ = only(tmp_path / "x.mcap.zstd")
    assert code == 0 and one["layout"] == "ros" and one["episodes"] == 1


def test_the_commands_that_are_told_can_be_given(foundry_data, tmp_path):
    path = tmp_path / "my texts.jsonl"
    path.write_text('{"text": "a b"}\n' * 3)
    code, out, _ = foundry_data("inspect", path)
    assert code == 0 and f"`foundry-data ingest text '{path}'` reads this" in out


def test_a_folder_for_what_is_written_must_be_there(foundry_data, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a b"}\n')
    for option in ("--spec", "--html"):
        code, out, err = foundry_data("inspect", path, option, tmp_path / "none" / "x")
        assert code == 2 and out == "" and f"there is no folder {tmp_path / 'none'}" in err


# What the spec is told to need, or a part of why it reads none.
RECORDS = {
    "x.jsonl": (b'{"content": "some words"}\n' * 3, " --set content.key=content", None),
    "y.jsonl": (b'{"text": "only one"}\n', "", None),
    "x.json": (b'[{"text": "a"}, {"text": "b"}]', None, "it is a list"),
    "x.csv": (b"file_name,caption\npic.jpg,a square\n", "", None),
    "y.csv": (b"a,b\n1,2\n", None, "neither a caption nor a conversation"),
    "x.txt.gz": (gzip.compress(b"words of a text\n"), "", None),
    "x.txt": (b"[draft] words of a text\n", "", None),
}


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_said_to_be_read_was_read(name, foundry_data, tmp_path):
    content, needs, why = RECORDS[name]
    (tmp_path / "pic.jpg").write_bytes(picture(1))
    (tmp_path / name).write_bytes(content)
    code, out, _ = foundry_data("inspect", tmp_path / name, "--json")
    (one,) = json.loads(out)["found"]
    if needs is None:
        assert code == 3 and one["fits"] == [] and why in one["refused"][0]["reason"]
        return
    (fit,) = one["fits"]
    assert code == 0 and fit["needs"] == needs.strip() and one["refused"] == []
    store = tmp_path / "store"
    asked = ["ingest", fit["spec"], one["place"], *fit["needs"].split(), "--as", "x", "--store", store]
    assert foundry_data(*asked)[0] == 0


def test_a_tar_of_other_data_is_read_by_none(only, tmp_path):
    write_tar(tmp_path / "x.tar", [Sample("a", {"state.npy": b"xx"}, told={"a": 1})])
    code, one, _ = only(tmp_path / "x.tar")
    assert code == 3 and one["fits"] == [] and "no text is read of a .npy" in one["refused"][0]["reason"]


def test_the_beginning_of_long_json_tells_what_it_is(monkeypatch, only, tmp_path):
    monkeypatch.setattr(records, "MOST_LINE_BYTES", 4096)
    (tmp_path / "pic.jpg").write_bytes(picture(1))
    images = [{"id": number, "file_name": "pic.jpg", "height": 24} for number in range(400)]
    said = [{"id": number, "image_id": number, "caption": "a square"} for number in range(400)]
    values = {"info": {"year": 2026}, "images": images, "annotations": said}
    (tmp_path / "coco.json").write_text(json.dumps(values))
    code, one, _ = only(tmp_path / "coco.json")
    assert code == 0 and [fit["spec"] for fit in one["fits"]] == ["pairs"]
    assert [field["name"] for field in one["fields"]] == ["info", "images"]
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": 1, "text": "word " * 2000}) + "\n")
    code, one, _ = only(tmp_path / "x.jsonl")
    assert code == 0 and [field["name"] for field in one["fields"]] == ["id", "text"]


def test_why_a_file_of_records_cannot_be_read_is_told(foundry_data, tmp_path):
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "x.parquet")
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    content[-8:-4] = (2**31 - 1).to_bytes(4, "little")  # the length of the footer
    (tmp_path / "x.parquet").write_bytes(content)
    (tmp_path / "x.json").write_text('{"a": 1, "b": tru')
    (tmp_path / "run.log").write_text("[INFO] a line\n[INFO] another\n")
    code, out, _ = foundry_data("inspect", tmp_path, "--json")
    problems = {entry["path"]: entry["problem"] for entry in json.loads(out)["problems"]}
    assert code == 3 and set(problems) == {"x.parquet", "x.json"}
    assert problems["x.parquet"].startswith("cannot be read: ")
    assert problems["x.json"].startswith("begins as JSON does, and is none: ")


def test_a_damaged_file_is_named_by_its_path(foundry_data, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_stranger(tmp_path / folder / "x.h5", with_pictures=False)
    whole = Path(tmp_path / "b" / "x.h5").read_bytes()
    (tmp_path / "b" / "x.h5").write_bytes(whole[: len(whole) // 2])
    _, out, _ = foundry_data("inspect", tmp_path, "--json")
    assert [entry["path"] for entry in json.loads(out)["problems"]] == ["b/x.h5"]
