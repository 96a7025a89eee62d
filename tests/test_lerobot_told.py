"""What is told of LeRobot datasets: by a dry run before anything is read, and of all that is not taken."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.ingested import Ingested
from foundry_testing.lerobot_datasets import CAMERA, FPS, png, write_dataset, write_json, write_video
from pyarrow import parquet

from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest.engine import Options, run
from robot_foundry.runtime.errors import FoundryError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
MISSING = f"'{CAMERA}' is declared in meta/info.json, and its video is not there"


@pytest.fixture
def v21(tmp_path):
    write_dataset(tmp_path / "in", version="v2.1")
    return tmp_path / "in"


def video_of(folder, number):
    return folder / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4"


def data_of(folder, number=0):
    return folder / f"data/chunk-000/episode_{number:06d}.parquet"


def dry(folder, **options):
    store = folder.parent / "none"
    report = run("lerobot", folder, store=store, name="made", options=Options(**options), dry_run=True)
    assert report.discovered == report.written + report.num_refused
    return report


def changed_info(folder, change):
    info = json.loads((folder / "meta/info.json").read_text())
    change(info)
    write_json(folder / "meta/info.json", info)


def edited(folder, change):
    for number in range(3):
        parquet.write_table(change(parquet.read_table(data_of(folder, number))), data_of(folder, number))


def test_a_dry_run_tells_of_videos_that_are_declared_and_missing_in_any_episode(v21):
    video_of(v21, 2).unlink()
    assert f"1 of 3 episodes: {MISSING}" in dry(v21).warnings
    video_of(v21, 0).unlink()
    told = [warning for warning in dry(v21).warnings if CAMERA in warning]
    assert told == [f"2 of 3 episodes: {MISSING}"]
    assert told[0] in Ingested("lerobot", v21, v21.parent / "store").report.warnings


def test_a_dry_run_counts_what_it_could_not_open(v21, capsys):
    for number in range(3):
        video_of(v21, number).write_bytes(POINTER)
    report = dry(v21)
    assert (report.written, report.num_refused, report.counts["frames"], report.shards_written) == (
        0,
        3,
        0,
        0,
    )
    assert all(f"content.skip=[{CAMERA}]" in entry.reason for entry in report.refused)
    with pytest.raises(FoundryError, match="3 units were refused and 2 allowed"):
        dry(v21, max_errors=2)
    folder = str(v21)
    assert run_command(group, "foundry-data", ["ingest", "lerobot", folder, "--dry-run"]) == 0
    assert "3 units discovered = 0 written + 3 quarantined" in capsys.readouterr().out
    video_of(v21, 2).unlink()
    report = dry(v21)  # the last episode has no video, and so can be read
    assert (report.written, report.num_refused, report.counts["frames"]) == (1, 2, 4)


def test_a_dry_run_tells_of_splits_and_totals(v21):
    changed_info(v21, lambda info: info.update(splits={"train": "0:100"}))
    assert any("the split 'train' is 0:100, and there are 3 episodes" in line for line in dry(v21).warnings)


@pytest.mark.parametrize("inside", ["data", "data/chunk-000"])
def test_a_folder_inside_of_a_dataset(v21, inside):
    with pytest.raises(FoundryError, match="give the dataset's own folder, which holds meta"):
        run("lerobot", v21 / inside, store=v21.parent / "store", name="made")


def test_parquet_of_a_dataset_that_is_no_data_is_passed_over(v21):
    shutil.copytree(v21 / "data", v21 / "old")
    made = Ingested("lerobot", v21, v21.parent / "store")
    assert len(made.rows) == 3 and any("passed over 3 files" in line for line in made.report.warnings)


def test_an_episode_that_two_files_hold_is_taken_once(tmp_path):
    write_dataset(tmp_path / "in", version="v2.1", images="none")
    (tmp_path / "in/data/chunk-001").mkdir()
    shutil.copy(data_of(tmp_path / "in"), tmp_path / "in/data/chunk-001/")
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store")
    (entry,) = made.reasons.items()
    assert entry[0] == "data/chunk-001/episode_000000.parquet#episode_000000" and len(made.rows) == 3
    assert entry[1] == "data/chunk-000/episode_000000.parquet holds the episode of that number as well"
    assert dry(tmp_path / "in").quarantined == made.report.quarantined


def test_what_is_alike_of_several_columns_is_one_line(v21):
    def wide(table):
        for name in ("frame_index", "index", "task_index"):
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, table[name].cast(pa.float64()))
        return table

    edited(v21, wide)
    named = {name: {"dtype": "int64", "shape": [1]} for name in ("frame_index", "index", "task_index")}
    changed_info(v21, lambda info: info["features"].update(named))
    told = "3 of 3 episodes: each of 'frame_index', 'index', 'task_index' is float64, and meta/info.json says"
    assert f"{told} 'int64': the data was taken" in Ingested("lerobot", v21, v21.parent / "s").report.warnings


def with_column(name, values):
    return lambda table: table.append_column(name, pa.array([values(n) for n in range(table.num_rows)]))


def cast(table):
    at = table.schema.get_field_index("action")
    return table.set_column(at, "action", table["action"].cast(pa.list_(pa.float64(), 3)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (cast, "'action' is float64, and meta/info.json says 'float32': the data was taken"),
        (
            with_column("observation.force", float),
            "'observation.force' is in the data, and meta/info.json does not declare it",
        ),
        (
            lambda table: table.rename_columns(
                ["gone" if name == "action" else name for name in table.column_names]
            ).append_column("action", table["action"]).drop_columns(["gone"]),
            None,
        ),
    ],
)  # fmt: skip
def test_columns_that_contradict_info_json(v21, change, told):
    edited(v21, change)
    made = Ingested("lerobot", v21, v21.parent / "store")
    assert len(made.rows) == 3
    lines = [line for line in made.report.warnings if line.startswith("3 of 3 episodes: ")]
    assert lines == ([] if told is None else [f"3 of 3 episodes: {told}"])


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"dtype": "float32", "shape": [6]}, "is declared in meta/info.json, and the data has no such"),
        ({"dtype": "audio", "shape": [1]}, "is audio, which is not read"),
        ({"dtype": "image", "shape": [4, 4, 3]}, "is declared in meta/info.json, and the data has no such"),
        (
            {"dtype": "video", "shape": [4, 4, 1], "info": {"video.is_depth_map": True}},
            "is a depth map in a video, which is not read",
        ),
    ],
)  # fmt: skip
def test_what_is_declared_and_not_read(v21, declared, told):
    changed_info(v21, lambda info: info["features"].update({"observation.more": declared}))
    made = Ingested("lerobot", v21, v21.parent / "store")
    assert any(f"3 of 3 episodes: 'observation.more' {told}" in line for line in made.report.warnings)
    assert "observation.more" in made.episode("episode_000001")["left_out"]


def path_of(row):
    return f"images/{row}.png"


@pytest.mark.parametrize("values", [path_of, lambda row: {"bytes": None, "path": path_of(row)}])
def test_images_in_files_beside_the_data(v21, values):
    name = "observation.images.side"
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if values(0) != path_of(0) else None
    edited(
        v21,
        lambda table: table.append_column(name, pa.array([values(n) for n in range(table.num_rows)], kind)),
    )
    changed_info(v21, lambda info: info["features"].update({name: {"dtype": "image", "shape": [4, 4, 3]}}))
    made = Ingested("lerobot", v21, v21.parent / "store")
    assert any(
        f"3 of 3 episodes: '{name}' is not read: its images are in files" in line
        for line in made.report.warnings
    )
    assert list(made.episode("episode_000000")["cameras"]) == ["top"]
    assert not any(row["kind"] == name for row in made.table("annotations.arrow"))


def test_an_embedded_image_beside_a_path_is_the_image(tmp_path):
    write_dataset(tmp_path / "in", version="v2.1", images="image")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = lambda n: {"bytes": png(90), "path": path_of(n)}  # noqa: E731
    edited(
        tmp_path / "in",
        lambda t: t.set_column(
            t.schema.get_field_index(CAMERA), CAMERA, pa.array([image(n) for n in range(t.num_rows)], kind)
        ),
    )
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store")
    assert made.images("episode_000000", "top") == [png(90)] * 5


def test_actions_without_a_state_and_the_spec_that_says_what_it_is(tmp_path):
    episodes = write_dataset(tmp_path / "a", images="none")
    for episode in episodes:
        del episode.columns["observation.state"]
    write_dataset(tmp_path / "in", episodes, images="none")
    with pytest.raises(FoundryError, match="the source has no state, only actions") as raised:
        run("lerobot", tmp_path / "in", store=tmp_path / "store", name="made")
    assert "mapping.state" in str(raised.value.hint)
    said = ["mapping.state.robot.target={key: action, names: [a, b, c]}"]
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store", said)
    np.testing.assert_array_equal(made.column("episode_000001", "state"), episodes[1].columns["action"])


@pytest.mark.parametrize(("frames", "held"), [(7, [7]), (10, None)])
def test_a_video_of_a_few_frames_more_or_fewer_than_rows(v21, frames, held):
    write_video(video_of(v21, 1), [60] * frames)
    made = Ingested("lerobot", v21, v21.parent / "store")
    about = made.episode("episode_000001")
    assert about["cameras"]["top"].get("held") == held and about["fps"] == FPS
    assert ("the last 2 of its 10 images have no frame" in str(about["left_out"])) == (frames == 10)
