"""Recorded LeRobot datasets, against pyarrow and PyAV used directly.

None of robot_foundry's readers is used on the other side. Legend: N frames, d columns.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from foundry_testing.ingested import Ingested, pixels
from pyarrow import parquet

from robot_foundry.ingest.engine import run
from robot_foundry.runtime.errors import FoundryError

SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
GR1, CR5 = "lerobot/robot_sim.PickNPlace", "lerobot_v21/cr5_banana_2ep"
G1, PUSHT = "lerobot_v21/g1_inspire_partial", "lerobot_v30/pusht_image_slice"


def sample(path):
    return Path(str(SAMPLES)) / path


def rows_of(path, column):
    return np.array(parquet.read_table(path)[column].to_pylist())


def frames_of(path, numbers):
    """Frames of a video by FFmpeg's own conversion."""
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24")
            for number, frame in enumerate(container.decode(video=0))
            if number in numbers
        ]


def check_rows(made, name, data, number_of):
    """State and command of the tables are the source's, column by column of its names."""
    for table, column in (("state", "observation.state"), ("action.command", "action")):
        source_Nd = rows_of(data, column).astype(np.float32)
        order = [number_of(column, dim) for dim in made.dims(table.removeprefix("action."))]
        assert sorted(order) == list(range(source_Nd.shape[1]))
        np.testing.assert_array_equal(made.column(name, table), source_Nd[:, order])


def instruction_of(made, name):
    key = made.rows[name]["key"]
    told = [
        row for row in made.table("annotations.arrow") if (row["key"], row["kind"]) == (key, "instruction")
    ]
    (text,) = [row["text"] for row in told]
    return text


def check_pictures(made, name, camera, video):
    """First, middle and last stored pictures are those frames; beside any other they would be far off."""
    stored = made.images(name, camera)
    numbers = [0, len(stored) // 2, len(stored) - 1]
    for number, frame_HW3 in zip(numbers, frames_of(video, numbers), strict=True):
        difference = np.abs(pixels(stored[number]).astype(int) - frame_HW3.astype(int))
        assert difference.mean() < 2.5, (name, number)


@pytest.fixture(scope="module")
def gr1(tmp_path_factory):
    return Ingested("lerobot", sample(GR1), tmp_path_factory.mktemp("gr1"))


def test_gr1_with_its_traps(gr1):
    assert gr1.manifest["counts"]["frames"] == 2096 and not gr1.reasons
    tasks = [json.loads(line) for line in (sample(GR1) / "meta/tasks.jsonl").read_text().splitlines()]
    texts = {row["task_index"]: row["task"] for row in tasks}
    for number in range(5):
        name, data = f"episode_{number:06d}", sample(GR1) / f"data/chunk-000/episode_{number:06d}.parquet"
        check_rows(gr1, name, data, lambda column, dim: int(dim.rpartition("_")[2]))
        (task,) = set(rows_of(data, "task_index").tolist())
        assert instruction_of(gr1, name) == texts[task]
        check_pictures(
            gr1, name, "ego_view", sample(GR1) / f"videos/chunk-000/observation.images.ego_view/{name}.mp4"
        )
    groups = json.loads((sample(GR1) / "meta/modality.json").read_text())["state"]
    for part, group in groups.items():
        dims = {f"{part}.value.motor_{n}" for n in range(group["start"], group["end"])}
        assert dims <= set(gr1.dims("state"))
    warnings = "\n".join(gr1.report.warnings)
    assert "5 of 5 episodes: 'observation.images.egoview' is declared in meta/info.json, and its" in warnings
    assert "the split 'train' is 0:100, and there are 5 episodes" in warnings


def test_cr5_off_the_grid_in_av1(tmp_path):
    made = Ingested("lerobot", sample(CR5), tmp_path)
    names = {"observation.state": [f"joint_{n}" for n in range(6)]}
    names["action"] = [*(f"joint_{n}_vel" for n in range(6)), "gripper"]
    for number, length in enumerate((197, 215)):
        name, data = f"episode_{number:06d}", sample(CR5) / f"data/chunk-000/episode_{number:06d}.parquet"
        check_rows(
            made, name, data, lambda column, dim: names[column].index(dim.removeprefix("robot.value."))
        )
        times_N = parquet.read_table(data)["timestamp"].to_numpy()
        np.testing.assert_array_equal(
            made.column(name, "timestamp"), (times_N - times_N[0]).astype(np.float64)
        )
        assert len(made.images(name, "top")) == length and made.episode(name)["fps"] == 10
        video = sample(CR5) / f"videos/chunk-000/observation.images.top/{name}.mp4"
        check_pictures(made, name, "top", video)
    assert sum("off the grid of 10 Hz" in warning for warning in made.report.warnings) == 1


def test_g1_of_which_one_episode_is_here(tmp_path):
    made = Ingested("lerobot", sample(G1), tmp_path)
    report = made.report
    assert (report.discovered, report.written, report.num_refused) == (100, 1, 99)
    assert made.manifest["counts"]["frames"] == 221 and len(made.images("episode_000029", "cam_high")) == 221
    listed = [json.loads(line) for line in (sample(G1) / "meta/episodes.jsonl").read_text().splitlines()]
    # All frames are accounted for: those that are here, and those that are named as missing.
    lacking = sum(int(reason.split(" with ")[1].split()[0]) for reason in made.reasons.values())
    assert lacking + 221 == sum(row["length"] for row in listed) == 35965
    assert "robot.value.k_left_shoulder_pitch" in made.dims("state")


def test_pusht_of_which_images_are_embedded(tmp_path):
    made = Ingested("lerobot", sample(PUSHT), tmp_path)
    table = parquet.read_table(sample(PUSHT) / "data/chunk-000/file-000.parquet")
    start = 0
    for number, length in enumerate((161, 118, 141)):
        name, rows = f"episode_{number:06d}", table.slice(start, length)
        for column, key in (("state", "observation.state"), ("action.command", "action")):
            np.testing.assert_array_equal(
                made.column(name, column), np.array(rows[key].to_pylist(), np.float32)
            )
        assert made.images(name, "image") == [
            image["bytes"] for image in rows["observation.image"].to_pylist()
        ]
        assert made.rows[name]["success"] is False
        start += length
    assert start == 420


@pytest.mark.parametrize("name", ["lerobotv2", "lerobotv2-image", "lerobotv3"])
def test_datasets_of_another_writer(tmp_path, name):
    made = Ingested("lerobot", sample(f"lerobot_fixture_ioai/{name}"), tmp_path)
    assert len(made.rows) == 2 and made.manifest["counts"]["frames"] == 6
    data = sorted(sample(f"lerobot_fixture_ioai/{name}").glob("data/*/*.parquet"))
    state_N = np.concatenate([rows_of(path, "observation.state") for path in data]).astype(np.float32)
    for number, episode in enumerate(sorted(made.rows)):
        of_episode = state_N[number * 3 : number * 3 + 3, None]
        np.testing.assert_array_equal(made.column(episode, "state"), of_episode)
        assert len(made.images(episode, "cam")) == 3 and instruction_of(made, episode) == "pick cube"


@pytest.mark.parametrize(
    ("name", "count", "reason"),
    [
        ("pusht_slice", 3, "is a Git LFS pointer and not the video, which `git lfs pull` would fetch"),
        ("data_editing_slice", 2, "is a Git LFS pointer and not the video"),
        ("so101_meta_only", 50, "meta/episodes lists it with 448 frames, and no data file holds it"),
    ],
)
def test_what_is_not_there_is_refused_with_the_reason(tmp_path, name, count, reason):
    with pytest.raises(FoundryError, match=f"nothing was written, {count} units were refused") as raised:
        run("lerobot", sample(f"lerobot_v30/{name}"), store=tmp_path, name="made")
    assert reason in raised.value.message


def test_pusht_without_its_video(tmp_path):
    made = Ingested(
        "lerobot", sample("lerobot_v30/pusht_slice"), tmp_path, ["content.skip=[observation.image]"]
    )
    assert made.manifest["counts"]["frames"] == 420
    assert made.episode("episode_000000")["cameras"] == {}
