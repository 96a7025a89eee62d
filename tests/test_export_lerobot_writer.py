"""LeRobotWriter, which takes a dataset episode by episode."""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from foundry_testing.lerobot_exports import Exported, content

from robot_foundry.export.lerobot.dataset.features import Features
from robot_foundry.export.lerobot.dataset.statistics import sampled_frames
from robot_foundry.export.lerobot.dataset.video import VideoFile
from robot_foundry.export.lerobot.dataset.writer import LeRobotWriter
from robot_foundry.export.lerobot.export import video_jobs
from robot_foundry.export.lerobot.plan import plan_of
from robot_foundry.export.lerobot.videos import write_video
from robot_foundry.ingest import ingest
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.images import encode_jpeg

LENGTHS = (6, 3, 4)
SIZE = (64, 96)
KEY = "observation.images.top"


def features(images: str = "video", **more: Any) -> Features:
    return Features.of(
        ["a", "b"], {"action": ["a"]}, {"top": SIZE}, {"next.done": "bool"}, images=images, **more
    )


def shade(episode: int, frame: int) -> int:
    return 20 + episode * 60 + frame * 8


def columns(episode: int, length: int) -> dict[str, Any]:
    rows = np.random.default_rng(episode).normal(size=(length, 2)).astype(np.float32)
    return {"observation.state": rows, "action": rows[:, :1], "next.done": np.arange(length) == length - 1}


def pictures(episode: int, length: int) -> dict[str, list[Any]]:
    return {"top": [np.full((*SIZE, 3), shade(episode, n), np.uint8) for n in range(length)]}


def write(folder: Path, images: str = "video", **how: Any) -> Exported:
    with LeRobotWriter(folder, fps=10, features=features(images), codec="h264", **how) as writer:
        for number, length in enumerate(LENGTHS):
            tasks = ["reach"] * 2 + [f"grasp {number}"] * (length - 2)
            own = {"score": number / 2} if number else {}
            made = writer.add_episode(
                columns(number, length), pictures(number, length), task=tasks, attributes=own
            )
            assert made == number
    return Exported(folder)


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
@pytest.mark.parametrize("images", ["video", "image"])
def test_episodes_are_read_as_they_were_given(tmp_path: Path, version: str, images: str) -> None:
    # So small that each file of v3.0 has one episode.
    made = write(tmp_path / "out", images, version=version, data_bytes=1, video_bytes=1)
    assert made.tasks() == ["reach", "grasp 0", "grasp 1", "grasp 2"]
    assert [row["length"] for row in made.episodes] == list(LENGTHS)
    assert len(list((tmp_path / "out/data/chunk-000").iterdir())) == 3
    for number, length in enumerate(LENGTHS):
        for key, value in columns(number, length).items():
            assert np.array_equal(made.column(key, number), value.reshape(length, -1).squeeze()), key
        assert made.episodes[number]["tasks"] == ["reach", f"grasp {number}"]
        assert made.episodes[number].get("score") == (number / 2 if number else None)
        assert made.column("task_index", number).tolist() == [0] * 2 + [number + 1] * (length - 2)
        if images == "video":
            shown = [frame.mean() for frame in made.frames(number, KEY)]
            assert shown == pytest.approx([shade(number, n) for n in range(length)], abs=4)
    ingest("lerobot", tmp_path / "out", store=tmp_path / "store", name="back")


def test_several_episodes_share_a_file(tmp_path: Path) -> None:
    made = write(tmp_path / "out")
    assert [row[f"videos/{KEY}/from_timestamp"] for row in made.episodes] == pytest.approx([0, 0.6, 0.9])
    assert sorted(path.name for path in (tmp_path / "out").rglob("file-*")) == [
        "file-000.mp4", "file-000.parquet", "file-000.parquet"
    ]  # fmt: skip
    for number, length in enumerate(LENGTHS):
        shown = [frame.mean() for frame in made.frames(number, KEY)]
        assert shown == pytest.approx([shade(number, n) for n in range(length)], abs=4)


def test_the_same_episodes_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a"), write(tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"action": np.zeros((6, 2), np.float32)},
            r"'action' of an episode has the shape \(6, 2\), not \(6,\)",
        ),
        ({"next.done": None}, "'next.done' of an episode is missing"),
        ({"reward": np.zeros(6, np.float32)}, "'reward' of an episode is not among the features"),
        ({"top": [np.zeros((*SIZE, 3), np.uint8)] * 5}, "has 5 of 6 images"),
        ({"top": [np.zeros((*SIZE, 3), np.uint8)] * 7}, "has more than 6 images"),
        ({"top": [np.zeros((32, 32, 3), np.uint8)] * 6}, "has an image of 32 x 32 pixels"),
        ({"side": []}, "is no camera of the features"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changed: Mapping[str, Any], sentence: str) -> None:
    given, seen = columns(0, 6), pictures(0, 6)
    for key, value in changed.items():
        target = seen if key in ("top", "side") else given
        target.update({key: value})
        if value is None:
            del target[key]
    with (
        pytest.raises(FoundryError, match=sentence),
        LeRobotWriter(tmp_path / "out", fps=10, features=features(), codec="h264") as writer,
    ):
        writer.add_episode(given, seen, task="reach")
    assert not (tmp_path / "out/meta").exists()


def test_a_folder_with_something_in_it_and_no_episode_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no empty folder"):
        LeRobotWriter(tmp_path, fps=10, features=features())
    with pytest.raises(FoundryError, match="at least one episode"):
        LeRobotWriter(tmp_path / "out", fps=10, features=features()).close()
    with pytest.raises(UsageError, match="hevc takes no frames of 9 x 9 pixels"):
        LeRobotWriter(tmp_path / "out", fps=10, features=Features.of(cameras={"top": (9, 9)}), codec="hevc")


def test_a_video_is_the_same_in_another_process(tmp_path: Path) -> None:
    from make_robomimic import make

    from robot_foundry.catalog.store import Store
    from robot_foundry.export.formats import options_of
    from robot_foundry.export.request import ExportRequest, selected

    make(tmp_path / "in.hdf5", seed=3, episodes=2, frames=6, size=64)
    ingest("robomimic", tmp_path / "in.hdf5", store=tmp_path / "store", name="reach")
    request = ExportRequest("reach", tmp_path / "out", options=options_of("lerobot", {"codec": "h264"}))
    (part,) = selected(request, Store(tmp_path / "store")).mixture.parts
    for path, job in video_jobs(plan_of(part, request)).items():
        facts = [write_video(tmp_path / f"{n}.mp4", one) for n, one in enumerate((job, _shipped(job)))]
        assert facts[0] == facts[1] and (tmp_path / "0.mp4").read_bytes() == (tmp_path / "1.mp4").read_bytes()
        assert path.endswith("file-000.mp4") and len(facts[0]["stats"][job.key]) == 2


def _shipped(job: Any) -> Any:
    return pickle.loads(pickle.dumps(job))


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="this user gets no real time")
def test_an_encoder_that_asks_for_real_time_does_not_keep_it() -> None:
    def policies() -> set[int]:
        return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}

    before = policies()  # those of other libraries' threads, such as OpenGL's, among them
    with VideoFile(io.BytesIO(), "av1", 10.0, SIZE) as video:
        video.add(np.zeros((*SIZE, 3), np.uint8))
        assert policies() <= before
    assert not before & {os.SCHED_FIFO, os.SCHED_RR}


@pytest.mark.parametrize("fps", [0.0004, 7.123456])
def test_frames_have_their_times_at_any_rate(tmp_path: Path, fps: float) -> None:
    with LeRobotWriter(tmp_path / "out", fps=fps, features=features(), codec="h264") as writer:
        writer.add_episode(columns(0, 6), pictures(0, 6), task="wait")
    with av.open(str(next((tmp_path / "out").rglob("*.mp4")))) as video:
        times = [float(frame.time or 0) for frame in video.decode(video=0)]
    assert times == pytest.approx(np.arange(6) / fps, rel=1e-9)  # 0.1 ms in a day


def test_every_image_that_is_embedded_has_the_size_of_its_camera(tmp_path: Path) -> None:
    length, odd = 200, 100  # statistics look at 100 of these, and not at this one
    small = encode_jpeg(np.zeros((8, 8, 3), np.uint8), 90)
    given = [small if n == odd else encode_jpeg(np.zeros((*SIZE, 3), np.uint8), 90) for n in range(length)]
    assert odd not in sampled_frames(length)
    with (
        pytest.raises(FoundryError, match="episode 0 has an image of 8 x 8 pixels"),
        LeRobotWriter(tmp_path / "out", fps=10, features=features("image")) as writer,
    ):
        writer.add_episode(columns(0, length), {"top": given}, task="wait")
