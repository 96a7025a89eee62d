"""`foundry-data inspect` on files of every format, by content, and on damaged, odd and hostile ones."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from foundry_testing import lerobot_datasets, rlds_directories
from foundry_testing.pair_ingests import picture, some_samples, write_tar
from foundry_testing.ros_bags import arm, text, write_bag
from foundry_testing.stranger_files import FPS, motion, write_raw_robosuite, write_stranger
from foundry_testing.zarr_buffers import write_buffer
from scipy.spatial.transform import Rotation

from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


@pytest.fixture
def foundry_data(capsys):
    def told(*arguments):
        code = run(group, "foundry-data", [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return told


@pytest.fixture
def inspect(foundry_data):
    def told(*arguments):
        code, out, err = foundry_data("inspect", *arguments, "--json")
        return code, json.loads(out) if out else None, err

    return told


def only(found):
    (one,) = found["found"]
    return one


def test_hdf5_is_known_by_its_content_whatever_it_is_called(inspect, tmp_path):
    write_stranger(tmp_path / "x.h5")
    (tmp_path / "x.h5").rename(tmp_path / "run.data")
    code, found, _ = inspect(tmp_path / "run.data")
    one = only(found)
    assert code == 0 and one["layout"] == "hdf5" and one["episodes"] == 4 and one["frames"] == 360
    assert one["fps"]["value"] == FPS and one["fits"] == []
    assert [(c["name"], c["height"], c["width"]) for c in one["cameras"]] == [("rgb", 16, 24)]
    assert one["instruction"][0]["rule"] == {"attr": "language"}
    assert one["arrays"]["tool/pose"] == {"shape": [7], "dtype": "float64", "columns": []}


@pytest.mark.parametrize("form", ["bag", "mcap", "db3"])
def test_a_bag_has_its_joints_its_camera_and_its_words(form, inspect, tmp_path):
    write_bag(tmp_path / "take", [*arm(), text("/task", 0.5, "lift it")], form)
    code, found, _ = inspect(tmp_path)
    one = only(found)
    assert code == 0 and one["layout"] == "ros"
    assert one["state"]["right.joint_position"]["field"] == {"key": "joint_states"}
    assert [camera["array"] for camera in one["cameras"]] == ["/camera"]
    assert "lift it" in one["instruction"][0]["why"]


def test_rlds_lerobot_and_zarr_are_read_by_specs_of_the_package(inspect, tmp_path):
    rlds_directories.simple(tmp_path / "a", 6, 5)
    lerobot_datasets.write_dataset(tmp_path / "b")
    write_buffer(tmp_path / "c.zarr")
    code, found, _ = inspect(tmp_path)
    layouts = {one["layout"]: one for one in found["found"]}
    assert code == 0 and set(layouts) == {"rlds", "lerobot", "zarr"}
    assert "lerobot" in [fit["spec"] for fit in layouts["lerobot"]["fits"]]
    assert {"spec": "diffusion_policy", "needs": "--set content.fps=HZ"}.items() <= layouts["zarr"]["fits"][
        0
    ].items()
    assert layouts["lerobot"]["episodes"] == 3 and layouts["rlds"]["episodes"] == 2


def test_pairs_texts_and_tables_are_told_apart(inspect, tmp_path):
    write_tar(tmp_path / "pairs.tar", some_samples(3))
    (tmp_path / "web.jsonl").write_text('{"text": "a b", "url": "u"}\n' * 3)
    pq.write_table(
        pa.table({"image": [{"bytes": picture(1), "path": "x"}], "caption": ["c"]}), tmp_path / "p.parquet"
    )
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "table.parquet")
    code, found, _ = inspect(tmp_path)
    read_by = {Path(one["place"]).name: one["layout"] for one in found["found"]}
    assert code == 0 and read_by == {"pairs.tar": "pairs", "web.jsonl": "text", "p.parquet": "pairs"}
    assert found["others"] == {"parquet": 1}
    fields = {field["name"]: field for one in found["found"] for field in one["fields"]}
    assert fields["text"] == {"name": "text", "type": "str", "example": "a b"}
    assert "a picture" in fields["image"]["example"]


def test_what_is_no_data_is_told_by_a_sentence_each(inspect, tmp_path):
    (tmp_path / "pointer.hdf5").write_text(LFS)
    (tmp_path / "empty.h5").write_bytes(b"")
    write_stranger(tmp_path / "whole.h5", with_pictures=False)
    whole = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-6])
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(0).bytes(500))
    code, found, _ = inspect(tmp_path)
    problems = {entry["path"]: entry["problem"] for entry in found["problems"]}
    assert code == 0 and only(found)["place"].endswith("whole.h5")
    assert "Git LFS pointer" in problems["pointer.hdf5"] and problems["empty.h5"] == "is empty"
    assert "truncated" in problems["cut.h5"] and "cut off" in problems["cut.parquet"]
    assert found["others"]["unknown bytes"] == 1


def test_nothing_that_can_be_read_is_exit_code_3_and_nothing_at_all_2(inspect, tmp_path):
    (tmp_path / "pointer.hdf5").write_text(LFS)
    code, _, err = inspect(tmp_path / "pointer.hdf5")
    assert code == 3 and "holds nothing that a spec reads" in err
    (tmp_path / "empty").mkdir()
    code, _, err = inspect(tmp_path / "empty")
    assert code == 2 and "is empty" in err
    assert inspect(tmp_path / "nowhere")[0] == 2


def test_a_damaged_chunk_refuses_its_episode_and_the_rest_is_read(inspect, tmp_path):
    write_stranger(tmp_path / "x.h5", with_pictures=False)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        take = file["runs/day/take_1"]
        pose = take["tool/pose"][:]
        del take["tool/pose"]
        take.create_dataset("tool/pose", data=pose, chunks=pose.shape, compression="gzip")
        chunk = take["tool/pose"].id.get_chunk_info(0)
    with (tmp_path / "x.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset + 5)
        raw.write(b"\xff" * 40)
    code, found, _ = inspect(tmp_path / "x.h5")
    one = only(found)
    assert code == 0 and len(one["read"]) == 3
    (refused,) = one["refused"]
    assert "take_1" in refused["unit"] and "damaged" in refused["reason"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress])
def test_a_damaged_compression_is_told_and_the_rest_is_read(pack, inspect, tmp_path):
    (tmp_path / "good.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    packed = bytearray(pack(bytes(range(256)) * 9))
    packed[-1] ^= 1  # of a checksum
    (tmp_path / "bad.jsonl.gz").write_bytes(packed)
    code, found, _ = inspect(tmp_path)
    assert code == 0 and only(found)["layout"] == "text"
    (told,) = found["problems"]
    assert told["path"] == "bad.jsonl.gz" and "cannot be unpacked: its " in told["problem"]


def test_absurd_sizes_take_neither_memory_nor_time(inspect, tmp_path):
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("action", shape=(1 << 40, 7), chunks=(1, 7), dtype="f4")
        file.create_dataset("obs/image", shape=(1 << 40, 4000, 4000, 3), chunks=(1, 64, 64, 3), dtype="u1")
    before = time.monotonic()
    code, found, _ = inspect(tmp_path / "huge.h5")
    assert code == 3 and only(found)["refused"] and time.monotonic() - before < 60


def test_hostile_names_stay_text(foundry_data, tmp_path):
    evil = "a'\"{}: <script>alert(1)</script>\n# x: !!python"
    write_stranger(tmp_path / "x.h5", with_pictures=False)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        for take in file["runs/day"].values():
            take[evil.replace("/", "|")] = take["tool/jaw"][:]
            take.attrs["task"] = evil
    page, draft = tmp_path / "x.html", tmp_path / "x.yaml"
    code, out, _ = foundry_data("inspect", tmp_path / "x.h5", "--html", page, "--spec", draft)
    assert code == 0 and "\n# x" not in out
    assert "<script" not in page.read_text() and "&lt;script&gt;" in page.read_text()
    lines = [line for line in draft.read_text().splitlines() if "script" in line]
    assert lines and all(line.lstrip().startswith(("#", "- {attr")) for line in lines)


def test_the_page_shows_pictures_and_plots_by_itself(foundry_data, tmp_path):
    write_stranger(tmp_path / "x.h5")
    page = tmp_path / "x.html"
    assert foundry_data("inspect", tmp_path / "x.h5", "--html", page)[0] == 0
    text_of_page = page.read_text()
    assert text_of_page.count("data:image/jpeg;base64,") == 1 and text_of_page.count("<polyline") >= 7
    assert "http" not in text_of_page
    code, _, err = foundry_data("inspect", tmp_path / "x.h5", "--html", page)
    assert code == 2 and "is there already" in err


def test_of_several_sources_none_is_drafted_and_each_is_named(foundry_data, tmp_path):
    write_buffer(tmp_path / "a.zarr")
    lerobot_datasets.write_dataset(tmp_path / "b")
    code, _, err = foundry_data("inspect", tmp_path, "--spec", tmp_path / "x.yaml")
    assert code == 2 and "holds 2 sources" in err and "a.zarr" in err and not (tmp_path / "x.yaml").exists()


def test_a_strangers_file_goes_from_inspect_to_a_version(foundry_data, tmp_path):
    source, draft, store = tmp_path / "lab.h5", tmp_path / "lab.yaml", tmp_path / "store"
    write_stranger(source)
    code, _, told = foundry_data("inspect", source, "--spec", draft)
    line = next(n for n, text in enumerate(draft.read_text().splitlines(), 1) if "embodiment: TODO" in text)
    assert code == 0 and f"  line {line}: mapping.embodiment\n" in told
    assert told.endswith(f"Next: foundry-data ingest {draft} {source} --dry-run\n")
    code, _, err = foundry_data("ingest", draft, source, "--store", store)
    assert code == 2 and f"line {line}: mapping.embodiment" in err and not store.exists()
    assert f"`foundry-data ingest {draft} SOURCE --dry-run`" in err
    draft.write_text(draft.read_text().replace("embodiment: TODO", "embodiment: lab_arm"))
    code, out, err = foundry_data("ingest", draft, source, "--store", store, "--dry-run")
    assert code == 0 and "state: 10 dims" in out and "command: 10 dims" in out, err
    code, out, err = foundry_data("ingest", draft, source, "--store", store, "--json")
    assert code == 0 and json.loads(out)["written"] == 4, err
    check_rows(store)


def test_all_that_is_left_to_the_user_is_said_at_once(foundry_data, tmp_path):
    source, draft = tmp_path / "a.zarr", tmp_path / "a.yaml"
    write_buffer(source)
    _, _, told = foundry_data("inspect", source, "--spec", draft)
    code, _, err = foundry_data("ingest", draft, source, "--store", tmp_path / "store")
    left = [line.strip() for line in draft.read_text().splitlines() if line.strip().endswith(": TODO")]
    assert code == 2 and len(left) > 1
    for key in ("content.fps", "mapping.embodiment"):
        assert f": {key}\n" in told and f": {key}\n" in err
    assert f"leaves {len(left)} values to you" in err


def test_joints_and_fingers_of_raw_demonstrations_of_robosuite_are_told_by_their_speeds(
    foundry_data, tmp_path
):
    write_raw_robosuite(tmp_path / "demo.hdf5")
    code, out, _ = foundry_data("inspect", tmp_path / "demo.hdf5", "--json")
    (one,) = json.loads(out)["found"]
    assert code == 0 and one["layout"] == "robosuite"
    fields = {name: guess["field"] for name, guess in one["state"].items()}
    assert fields == {
        "right.joint_position": {"key": "states", "columns": [1, 8]},
        "right.joint_velocity": {"key": "states", "columns": [17, 24]},
        "right.gripper_opening": {
            "key": "states", "columns": [8, 10], "from": "fingers", "closed": 0.0, "open": 0.08,
        },
    }  # fmt: skip
    hand = {"key": "actions", "columns": [6, 7], "from": "command", "closed": 1.0, "open": -1.0}
    assert one["actions"] == {
        "command": {"right.gripper_opening": one["actions"]["command"]["right.gripper_opening"]}
    }
    assert one["actions"]["command"]["right.gripper_opening"]["field"] == hand


def test_an_attribute_of_some_words_may_be_the_instruction_whatever_it_is_called(foundry_data, tmp_path):
    write_stranger(tmp_path / "x.h5", with_pictures=False)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        for take in file["runs/day"].values():
            del take["language"]
            take.attrs["what"] = "lift the red cube"
            take.attrs["model"] = "<mujoco model='a b'/> of it"
            take.attrs["place"] = "/data/some where/else now"
    foundry_data("inspect", tmp_path / "x.h5", "--spec", tmp_path / "x.yaml")
    draft = (tmp_path / "x.yaml").read_text()
    assert (
        "    # low: some words, as 'lift the red cube'\n    - {attr: what}\n  # nothing tells success"
        in draft
    )


def test_truths_that_are_called_for_a_flag_are_drafted_as_one(foundry_data, tmp_path):
    write_stranger(tmp_path / "x.h5", with_pictures=False)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        for take in file["runs/day"].values():
            count = len(take["tool/jaw"])
            take["skip_action"] = np.arange(count) < 9
            take["human_intervention"] = np.arange(count) >= 80
    foundry_data("inspect", tmp_path / "x.h5", "--spec", tmp_path / "x.yaml")
    draft = (tmp_path / "x.yaml").read_text()
    assert "  invalid_action:\n    # low: zeros and ones, by its name; so 10.0% of the frames" in draft
    assert (
        '    - {key: skip_action, "is": true}\n' in draft or "    - {key: skip_action, is: true}\n" in draft
    )
    assert "    - {key: human_intervention, is: true}\n" in draft


def check_rows(store):
    """The rows of the first episode against the motion itself, which SciPy wrote."""
    version = next((store / "datasets").glob("*/*/frames"))
    with pa.ipc.open_file(sorted(version.glob("*.arrow"))[0]) as file:
        table = file.read_all()
    state, command = (np.array(table[name].to_pylist()) for name in ("state", "action.command"))
    position, rotation, opening, asked = motion(0)
    count = len(position)
    columns = Rotation.as_matrix(rotation)
    six = np.concatenate([columns[:, :, 0], columns[:, :, 1]], axis=1)
    wanted = np.concatenate([position, six, opening], axis=1)
    assert np.abs(state[:count] - wanted).max() < 1e-5
    assert np.abs(command[: count - 1, :9] - wanted[1:, :9]).max() < 1e-5
    assert np.abs(command[:count, 9:] - asked).max() < 1e-6


def test_a_copy_of_the_same_place_is_drafted_alike(foundry_data, tmp_path):
    write_stranger(tmp_path / "x.h5", with_pictures=False)
    foundry_data("inspect", tmp_path / "x.h5", "--spec", tmp_path / "1.yaml")
    shutil.copy(tmp_path / "x.h5", tmp_path / "y.h5")
    foundry_data("inspect", tmp_path / "y.h5", "--spec", tmp_path / "2.yaml")
    first, second = ((tmp_path / name).read_text().split("layout:")[1] for name in ("1.yaml", "2.yaml"))
    assert first == second
