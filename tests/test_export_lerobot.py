"""Versions as LeRobot datasets: what the files hold, and that all of it comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.kills import killed
from foundry_testing.lerobot_datasets import CAMERA, FPS, TASKS, png, recordings, shade, write_dataset
from foundry_testing.lerobot_exports import Exported, came_back, content
from foundry_testing.shells import Shell
from make_robomimic import make
from pyarrow import parquet

from robot_foundry import open as open_dataset
from robot_foundry.ingest import ingest
from robot_foundry.shards.images import decode

KEY = "observation.images.primary"
NAMES = ["shoulder_pan.pos", "kElbow", "gripper.pos"]
PROGRAM = """
import sys
from robot_foundry.cli.foundry_data import main
sys.argv[0] = "foundry-data"
main()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pick`, of LeRobot with images as PNG, and `reach`, poses and a gripper of robomimic."""
    folder = tmp_path_factory.mktemp("export")
    made = recordings((5, 8, 4))
    for episode in made:
        rows = len(episode.columns["action"])
        episode.extra = {
            "subtask_index": [0] * 2 + [1] * (rows - 2),
            "is_intervention": [n == 3 for n in range(rows)],
            "next.success": [n == rows - 1 for n in range(rows)],
            "language_note": ["slow"] * 2 + [""] * (rows - 2),
        }
    write_dataset(folder / "pick", made, images="image", names=NAMES)
    _write_subtasks(folder / "pick/meta/subtasks.parquet")
    ingest("lerobot", folder / "pick", store=folder / "store", name="pick")
    make(folder / "reach.hdf5", seed=3, episodes=4, frames=12, size=32)
    ingest("robomimic", folder / "reach.hdf5", store=folder / "store", name="reach")
    return folder / "store"


def _write_subtasks(path: Path) -> None:
    import pyarrow as pa

    parquet.write_table(pa.table({"subtask_index": [0, 1], "subtask": ["reach", "grasp"]}), path)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.mark.parametrize("layout", ["v3.0", "v2.1"])
@pytest.mark.parametrize("images", [("--images",), ("--codec", "h264")])
@pytest.mark.parametrize("name", ["pick", "reach"])
def test_what_goes_out_comes_back(
    store: Path, tmp_path: Path, shell: Shell, layout: str, images: tuple[str, ...], name: str
) -> None:
    out = tmp_path / "out"
    told = shell.json(
        store, "export", name, "--to", "lerobot", "--out", str(out), "--layout", layout, *images
    )
    back = f"{name}{layout[1]}{len(images)}"
    ingest("lerobot", out, store=store, name=back)
    assert came_back(store, name, back) == told["counts"]["frames"]


@pytest.mark.parametrize("layout", ["v3.0", "v2.1"])
def test_files_are_those_that_lerobot_reads(store: Path, tmp_path: Path, shell: Shell, layout: str) -> None:
    told = shell.json(
        store, "export", "pick", "--to", "lerobot", "--out", str(tmp_path / "out"), "--layout", layout
    )
    made, info = Exported(tmp_path / "out"), told["features"]
    assert made.info["features"] == info and made.info["codebase_version"] == layout
    assert (made.info["fps"], made.info["robot_type"], made.info["total_episodes"]) == (FPS, "so101", 3)
    assert made.info["total_frames"] == made.data.num_rows == 17 and made.info["splits"] == {"train": "0:3"}
    assert info["observation.state"]["names"] == [
        "robot.value.gripper_pos",
        "robot.value.k_elbow",
        "robot.value.shoulder_pan_pos",
    ]
    assert info[KEY]["dtype"] == "video" and info[KEY]["info"]["video.codec"] == "av1"
    columns = [key for key, feature in info.items() if feature["dtype"] != "video"]
    assert made.data.column_names == columns and columns[-5:] == [
        "timestamp", "frame_index", "episode_index", "index", "task_index"
    ]  # fmt: skip
    known = json.loads(made.data.schema.metadata[b"huggingface"])["info"]["features"]
    assert known["action"] == {
        "feature": {"dtype": "float32", "_type": "Value"},
        "length": 3,
        "_type": "Sequence",
    }
    assert set(known) == set(columns) and made.tasks() == [TASKS[0], TASKS[1]]
    assert made.data["index"].to_pylist() == list(range(17))
    for number, row in enumerate(made.episodes):
        assert made.column("timestamp", number) == pytest.approx(np.arange(row["length"]) / FPS)
        assert row["tasks"] == [TASKS[number % 2]] and row["success"] is True
        shown = [float(frame.mean()) for frame in made.frames(number, KEY)]
        assert shown == pytest.approx([shade(number, n) for n in range(row["length"])], abs=4)


def test_statistics_are_those_of_the_rows(store: Path, tmp_path: Path, shell: Shell) -> None:
    shell.json(store, "export", "pick", "--to", "lerobot", "--out", str(tmp_path / "out"))
    made = Exported(tmp_path / "out")
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    state = np.array(made.data["observation.state"].to_pylist())
    assert stats["observation.state"]["count"] == [17]
    for name, value in {
        "min": state.min(0), "max": state.max(0), "mean": state.mean(0), "std": state.std(0),
        "q50": np.median(state, axis=0),
    }.items():  # fmt: skip
        assert stats["observation.state"][name] == pytest.approx(value, abs=1e-6), name
    first = made.column("observation.state", 0)
    told = made.episodes[0]
    assert told["stats/observation.state/mean"] == pytest.approx(first.mean(0))
    assert told["stats/observation.state/q90"] == pytest.approx(np.quantile(first, 0.9, axis=0))
    shades = [shade(number, n) / 255 for number, length in enumerate((5, 8, 4)) for n in range(length)]
    image = {name: np.array(values) for name, values in stats[KEY].items()}
    assert image["mean"].shape == (3, 1, 1) and image["count"].tolist() == [17]
    assert image["mean"].ravel() == pytest.approx([np.mean(shades)] * 3)
    assert image["std"].ravel() == pytest.approx([np.std(shades)] * 3)
    assert image["max"].ravel() == pytest.approx([max(shades)] * 3)


def test_images_pass_through_untouched(store: Path, tmp_path: Path, shell: Shell) -> None:
    shell.json(store, "export", "pick", "--to", "lerobot", "--out", str(tmp_path / "out"), "--images")
    made = Exported(tmp_path / "out")
    held = [image["bytes"] for image in made.data[KEY].to_pylist()]
    assert held == [png(shade(number, n)) for number, length in enumerate((5, 8, 4)) for n in range(length)]
    assert made.info["video_path"] is None and not (tmp_path / "out/videos").exists()


def test_twice_and_killed_give_the_same_bytes(store: Path, tmp_path: Path, shell: Shell) -> None:
    options = ("--to", "lerobot", "--codec", "h264", "--video-mb", "0.001", "--data-mb", "0.0001")
    first = shell.json(store, "export", "pick", *options, "--out", str(tmp_path / "a"))
    assert first["files"] == len(content(tmp_path / "a")) - 1 == 11  # and the record
    for folder, at in (("b", "export_partial:2"), ("c", "export_renamed:5"), ("d", "export_recorded:9")):
        arguments = ["export", "pick", *options, "--store", str(store), "--out", str(tmp_path / folder)]
        killed(PROGRAM, *arguments, at=at)
        assert not (tmp_path / folder / "meta/info.json").exists()
        again = shell.json(store, "export", "pick", *options, "--out", str(tmp_path / folder))
        assert again["reused"] == int(at[-1]) - (not at.startswith("export_recorded"))
        assert content(tmp_path / folder) == content(tmp_path / "a")


def test_a_dry_run_tells_and_writes_nothing(store: Path, tmp_path: Path, shell: Shell) -> None:
    code, out, _ = shell(
        store, "export", "reach", "--to", "lerobot", "--out", str(tmp_path / "out"), "--dry-run"
    )
    assert code == 0 and "4 episodes, 48 frames in 7 files" in out and "libsvtav1" in out
    assert not (tmp_path / "out").exists()


def test_selections_go_out(store: Path, tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "names").write_text("# not this one\nepisode_000001\n")

    def episodes(folder: str, *options: str) -> Exported:
        shell.json(
            store, "export", "pick", "--to", "lerobot", "--images", "--out", str(tmp_path / folder), *options
        )
        return Exported(tmp_path / folder)

    kept = episodes("excluded", "--exclude", str(tmp_path / "names"))
    assert [row["source_id"] for row in kept.episodes] == ["episode_000000", "episode_000002"]
    assert [row["length"] for row in episodes("where", "--where", "num_frames > 4").episodes] == [5, 8]
    both = episodes("both", "--val-fraction", "1/2")
    train, val = (both.info["splits"][name].split(":") for name in ("train", "val"))
    assert (train[0], train[1], val[1]) == ("0", val[0], "3")
    ids = [row["source_id"] for row in both.episodes]
    for name, (start, end) in {"train": train, "val": val}.items():
        alone = episodes(name, "--split", name, "--val-fraction", "1/2")
        assert [row["source_id"] for row in alone.episodes] == ids[int(start) : int(end)]
        assert alone.info["splits"] == {name: f"0:{len(alone.episodes)}"}
    pieces = episodes("skip", "--skip", "intervention")
    assert [(row["source_start"], row["length"]) for row in pieces.episodes] == [
        (0, 3), (4, 1), (0, 3), (4, 4), (0, 3)
    ]  # fmt: skip
    assert pieces.column("frame_index", 1).tolist() == [0]


def test_a_mixture_is_a_folder_for_each_component(store: Path, tmp_path: Path, shell: Shell) -> None:
    options = ("--to", "lerobot", "--images", "--out", str(tmp_path / "out"))
    told = shell.json(store, "export", "pick=1,reach=2", *options)
    weights = json.loads((tmp_path / "out/mixture.json").read_text())
    assert [(c["folder"], c["weight"]) for c in weights["components"]] == [("pick", "1/3"), ("reach", "2/3")]
    assert told["counts"] == {"episodes": 7, "frames": 65}
    for folder, frames in (("pick", 17), ("reach", 48)):
        assert Exported(tmp_path / "out" / folder).info["total_frames"] == frames
    assert shell.json(store, "export", "pick=1,reach=2", *options)["reused"] == told["files"] - 1
    code, _, err = shell(store, "export", "pick=3,reach=2", *options)
    assert code == 2 and "holds another mixture" in err
    assert json.loads((tmp_path / "out/mixture.json").read_text()) == weights


def test_an_episode_without_its_camera_is_black_and_says_so(tmp_path: Path, shell: Shell) -> None:
    write_dataset(tmp_path / "in", version="v2.1")
    (tmp_path / f"in/videos/chunk-000/{CAMERA}/episode_000001.mp4").unlink()
    store, out = tmp_path / "store", tmp_path / "out"
    ingest("lerobot", tmp_path / "in", store=store, name="gap")
    told = shell.json(store, "export", "gap", "--to", "lerobot", "--images", "--out", str(out))
    assert any("8 frames have no image of 'primary'" in warning for warning in told["warnings"])
    made = Exported(out)
    missing = made.data["camera_is_missing.primary"].to_pylist()
    black = [decode(image["bytes"]).max() == 0 for image in made.data[KEY].to_pylist()]
    assert missing == black == [5 <= n < 13 for n in range(17)]
    for images in ([], ["--images"]):
        again, name = tmp_path / f"again{len(images)}", f"back{len(images)}"
        shell.json(store, "export", "gap", "--to", "lerobot", *images, "--out", str(again))
        ingest("lerobot", again, store=store, name=name)
        back = open_dataset(name, store)
        assert ["image.primary" not in frame for frame in back] == missing


def test_what_lerobot_cannot_hold_is_told_in_a_sentence(store: Path, tmp_path: Path, shell: Shell) -> None:
    def refused(*arguments: str) -> str:
        code, out, err = shell(store, "export", *arguments, "--out", str(tmp_path / "out"))
        assert code == 2 and not out and "Traceback" not in err and not (tmp_path / "out").exists()
        return err

    (tmp_path / "names").write_text("episode_00001\n")
    assert "did you mean 'episode_000001'?" in refused(
        "pick", "--to", "lerobot", "--exclude", str(tmp_path / "names")
    )
    assert "no action stream 'comand', did you mean 'command'?" in refused(
        "pick", "--to", "lerobot", "--stream", "comand"
    )
    assert "--fps 0 is no rate" in refused("pick", "--to", "lerobot", "--fps", "0")
    assert "--codec is for videos" in refused("pick", "--to", "lerobot", "--images", "--codec", "h264")
    assert "v2.1 has a file for each episode" in refused(
        "pick", "--to", "lerobot", "--layout", "v2.1", "--data-mb", "3"
    )
    ingest("text", _texts(tmp_path), store=store, name="words")
    assert "takes robot datasets, and 'words' holds" in refused("words", "--to", "lerobot")


def _texts(folder: Path) -> Path:
    (folder / "words.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    return folder / "words.jsonl"


def test_times_off_the_grid_are_kept_beside(tmp_path: Path, shell: Shell) -> None:
    make(tmp_path / "in.hdf5", seed=3, episodes=1, frames=12, size=16)
    ingest("robomimic", tmp_path / "in.hdf5", store=tmp_path / "store", name="reach")
    told = shell.json(
        tmp_path / "store",
        "export",
        "reach",
        "--to",
        "lerobot",
        "--fps",
        "7.5",
        "--out",
        str(tmp_path / "out"),
    )
    (warning,) = (text for text in told["warnings"] if "recorded_timestamp" in text)
    made = Exported(tmp_path / "out")
    assert made.info["fps"] == 7.5 and "off 7.5 Hz" in warning
    assert made.column("timestamp", 0) == pytest.approx(np.arange(12) / 7.5)
    assert made.column("recorded_timestamp", 0) == pytest.approx(np.arange(12) / 20)
    assert len(made.frames(0, KEY)) == 12
