"""LeRobot datasets that are wrong: each episode that cannot be read is named with why, the rest goes on."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.ingested import Ingested, pixels
from foundry_testing.lerobot_datasets import (
    CAMERA,
    recordings,
    shade,
    write_dataset,
    write_json,
    write_video,
)
from pyarrow import parquet

from robot_foundry.ingest.engine import Options, run
from robot_foundry.runtime.errors import FoundryError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def changed_info(folder, **values):
    info = json.loads((folder / "meta/info.json").read_text())
    write_json(folder / "meta/info.json", info | values)


def data_of(folder, number=0):
    return folder / f"data/chunk-000/episode_{number:06d}.parquet"


def video_of(folder, number=0):
    return folder / f"videos/chunk-000/{CAMERA}/episode_{number:06d}.mp4"


@pytest.fixture
def v21(tmp_path):
    write_dataset(tmp_path / "in", version="v2.1")
    return tmp_path / "in"


def made_of(folder):
    made = Ingested("lerobot", folder, folder.parent / "store")
    report = made.report
    assert report.discovered == report.written + report.num_refused
    return made


def only_reason(made, written=2):
    assert len(made.rows) == written
    (entry,) = made.reasons.items()
    return entry


def test_files_that_belong_to_a_dataset_and_say_nothing_more_are_not_told(v21):
    known = ("meta/stats.json", "meta/episodes_stats.jsonl", "README.md", ".gitattributes")
    of_the_hub = ".cache/huggingface/download/README.md.metadata"
    for name in (*known, of_the_hub, ".foundry-export.jsonl", ".foundry-export.lock", "meta/notes.txt"):
        (v21 / name).parent.mkdir(parents=True, exist_ok=True)
        (v21 / name).write_text("{}")
    told = [said for said in made_of(v21).report.warnings if "passed over" in said]
    assert told == ["passed over 1 file that the layout lerobot does not read: meta/notes.txt"]


def test_templates_that_lie(v21):
    changed_info(
        v21, data_path="data/{episode_index}/x.parquet", video_path="../../{video_key}/{episode_index}.mp4"
    )
    made = made_of(v21)
    assert len(made.rows) == 3 and len(made.images("episode_000001", "top")) == 8


def test_a_template_that_is_true_of_an_unusual_place(v21):
    for number in range(3):
        video_of(v21, number).rename(v21 / f"cam_{number}.mp4")
    changed_info(v21, video_path="cam_{episode_index:01d}.mp4")
    made = made_of(v21)
    # Videos that no name ties to an episode are not looked for among those of other episodes.
    assert "meta/info.json declares its video" in made.episode("episode_000000")["left_out"][CAMERA]


def test_a_video_that_is_declared_and_missing(v21):
    video_of(v21, 1).unlink()
    made = made_of(v21)
    assert len(made.rows) == 3 and not made.reasons
    assert made.episode("episode_000001")["cameras"] == {}
    told = f"1 of 3 episodes: '{CAMERA}' is declared in meta/info.json, and its video is not there"
    assert told in made.report.warnings


def test_a_video_that_is_skipped_is_not_read_and_not_missed(v21):
    video_of(v21, 1).write_bytes(POINTER)
    made = Ingested("lerobot", v21, v21.parent / "store", [f"content.skip=[{CAMERA}]"])
    assert len(made.rows) == 3 and made.episode("episode_000000")["cameras"] == {}
    assert not [warning for warning in made.report.warnings if CAMERA in warning or "content.skip" in warning]


def test_splits_and_totals_that_exceed_the_data(v21):
    changed_info(v21, splits={"train": "0:100"}, total_frames=99, total_episodes=7)
    warnings = made_of(v21).report.warnings
    assert "meta/info.json: the split 'train' is 0:100, and there are 3 episodes" in warnings
    assert any("counts 99 frames, and meta/episodes.jsonl lists 17" in warning for warning in warnings)
    assert any("counts 7 episodes, and meta/episodes.jsonl lists 3" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (
            lambda f: video_of(f).write_bytes(POINTER),
            f"which `git lfs pull` would fetch (--set 'content.skip=[{CAMERA}]' goes without this camera)",
        ),
        (
            lambda f: video_of(f).write_bytes(without_index(video_of(f).read_bytes())),
            "has no index (moov), as one",
        ),
        (lambda f: video_of(f).write_bytes(b"\0" * 999), "cannot be read"),
        (lambda f: write_video(video_of(f), range(100, 110)), "has 10 images for 5 frames"),
        (lambda f: data_of(f).write_bytes(POINTER), "the file is a Git LFS pointer and not the data"),
        (lambda f: data_of(f).write_bytes(data_of(f).read_bytes()[:-40]), "no whole parquet file"),
        (
            lambda f: edited(f, lambda t: t.slice(0, 3)),
            "meta/episodes.jsonl says 5 frames, and its data has 3 rows",
        ),
        (
            lambda f: edited(f, lambda t: t.take(pa.array([0, 1, 3, 2, 4]))),
            "its 'frame_index' is 3 in row 2, so rows are missing or out of order",
        ),
        (
            lambda f: edited(f, lambda t: replaced(t, "action", pa.array([[1.0, 2.0]] * 5))),
            "meta/info.json says 3 numbers of 'action', and its rows have 2",
        ),
        (
            lambda f: edited(f, lambda t: replaced(t, "action", pa.array([[1.0, 2, 3]] * 4 + [[1.0]]))),
            "row 4 of its column 'action' has 1 numbers, others have 3",
        ),
        (
            lambda f: edited(f, lambda t: replaced(t, "episode_index", pa.array([7] * 5))),
            "its file holds no rows of it (episodes in it: 7)",
        ),
        (
            lambda f: edited(f, lambda t: replaced(t, "timestamp", pa.array([0.0, 0.1, 0.05, 0.3, 0.4]))),
            "the time of frame 2 is before the one of the frame before (--set 'content.skip=[timestamp]'",
        ),
        (
            lambda f: edited(f, lambda t: t.drop_columns(["action"])),
            "command: robot.value names 'action', which is no array here: meta/info.json declares it",
        ),
    ],
)
def test_an_episode_that_cannot_be_read_is_named_and_the_rest_goes_on(v21, spoil, reason):
    spoil(v21)
    place, told = only_reason(made_of(v21))
    assert place.startswith("data/chunk-000/episode_000000.parquet") and reason in told


def edited(folder, change):
    table = parquet.read_table(data_of(folder))
    parquet.write_table(change(table), data_of(folder))


def replaced(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def without_index(data):
    """The boxes of an mp4 but the moov."""
    kept, at = b"", 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        kept += b"" if data[at + 4 : at + 8] == b"moov" else data[at : at + size]
        at += size
    return kept


def test_episodes_that_the_metadata_lists_and_the_folder_lacks(v21):
    data_of(v21, 1).unlink()
    place, told = only_reason(made_of(v21))
    assert place == "meta/info.json#episode_000001"
    assert told == "meta/episodes.jsonl lists it with 8 frames, and no data file holds it"


def test_lines_of_metadata_that_are_damaged(v21):
    path = v21 / "meta/episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{not json", lines[2], lines[2]]))
    made = made_of(v21)
    assert len(made.rows) == 3
    assert made.reasons == {
        "meta/info.json#line 2 of meta/episodes.jsonl": "it is no object with an episode_index",
        "meta/info.json#line 4 of meta/episodes.jsonl": "it lists episode 2 once more",
    }


def test_times_off_the_grid_are_kept_and_told(v21):
    times = np.array([0.03, 0.1, 0.3, 0.55, 0.61], np.float32)
    edited(v21, lambda t: replaced(t, "timestamp", pa.array(times)))
    made = made_of(v21)
    np.testing.assert_array_equal(
        made.column("episode_000000", "timestamp"), (times - times[0]).astype(np.float64)
    )
    np.testing.assert_array_equal(made.source("episode_000000")["source_timestamp"], times)
    assert made.episode("episode_000000")["fps"] == 10
    assert any("'timestamp' lies off the grid of 10 Hz" in warning for warning in made.report.warnings)


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        (0, "is 0, which is no rate"),
        (-30, "is -30, which is no rate"),
        (1e300, "is 1e+300, which is no rate"),
        ("fast", "is 'fast', which is no rate"),
        (None, "is not stated"),
    ],
)
def test_a_rate_that_is_none_is_told_with_the_one_that_is_taken(v21, stated, says):
    changed_info(v21, fps=stated)
    made = made_of(v21)
    assert made.episode("episode_000000")["fps"] == 10
    (told,) = [warning for warning in made.report.warnings if "fps of meta/info.json" in warning]
    taken = "so 10 Hz, by the times of 'timestamp', is taken: --set content.fps=… says it"
    assert told == f"3 of 3 episodes: 'fps of meta/info.json' {says}, {taken}"


def test_a_rate_that_the_spec_states_is_taken_whatever_the_metadata_say(v21):
    changed_info(v21, fps=-30)
    made = Ingested("lerobot", v21, v21.parent / "store", ["content.fps=12"])
    assert made.episode("episode_000000")["fps"] == 12
    assert not any("info.json" in warning for warning in made.report.warnings)


def test_a_video_of_a_frame_less_holds_the_last_one(v21):
    write_video(video_of(v21), [shade(0, frame) for frame in range(4)])
    made = made_of(v21)
    assert made.episode("episode_000000")["cameras"]["top"]["held"] == [4]
    assert len(made.images("episode_000000", "top")) == 5


def v3_table(folder, change):
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = parquet.read_table(path).to_pylist()
    change(rows)
    parquet.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda rows: rows.pop(1),
            "meta/episodes does not list it, so nothing says where its videos show it",
        ),
        (lambda rows: rows[1].update(length=7), "meta/episodes says 7 frames, and its data has 8 rows"),
        (lambda rows: rows[1].update({f"videos/{CAMERA}/from_timestamp": None}), "does not say where in"),
        (lambda rows: rows[1].update({f"videos/{CAMERA}/from_timestamp": 50.0}), "has 0 images for 8 frames"),
    ],
)
def test_rows_of_3_0_that_contradict_their_table(tmp_path, change, reason):
    write_dataset(tmp_path / "in")
    v3_table(tmp_path / "in", change)
    place, told = only_reason(made_of(tmp_path / "in"))
    assert place == "data/chunk-000/file-000.parquet#episode_000001" and reason in told


def test_the_file_that_the_table_of_3_0_names_is_not_asked(tmp_path):
    write_dataset(tmp_path / "in")
    v3_table(tmp_path / "in", lambda rows: [row.update({"data/file_index": 9}) for row in rows])
    assert len(made_of(tmp_path / "in").rows) == 3


def test_a_dataset_in_a_folder_that_is_called_data(tmp_path):
    write_dataset(tmp_path / "in" / "data")
    made = Ingested("lerobot", tmp_path / "in", tmp_path / "store")
    assert len(made.rows) == 3 and not made.reasons
    (tmp_path / "in/data/data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(
        FoundryError, match="3 units were refused: .* lists it with 5 frames, and no data file"
    ):
        run("lerobot", tmp_path / "in", store=tmp_path / "store", name="none")


def test_rows_that_lie_apart(tmp_path):
    write_dataset(tmp_path / "in", images="none")
    path = tmp_path / "in/data/chunk-000/file-000.parquet"
    table = parquet.read_table(path)
    parquet.write_table(pa.concat_tables([table.slice(1), table.slice(0, 1)]), path)
    place, told = only_reason(made_of(tmp_path / "in"))
    assert place.endswith("#episode_000000") and told.startswith("its rows lie apart in the file")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            {"codebase_version": "v1.6", "features": {"a": {}}},
            "says the version 'v1.6', and v2.0, v2.1 and v3.0",
        ),
        ({"codebase_version": "v3.0"}, "has no features"),
        ({"codebase_version": "v3.0", "features": {"a": 3}}, "says of the feature 'a' no dtype and shape"),
        ([1], "meta/info.json is no JSON object"),
    ],
)
def test_metadata_that_say_nothing_refuse_every_file(v21, content, reason):
    (v21 / "meta/info.json").write_text(json.dumps(content))
    with pytest.raises(FoundryError, match="nothing was written") as raised:
        run("lerobot", v21, store=v21.parent / "store", name="made")
    assert reason in raised.value.message


def test_data_without_metadata(v21):
    (v21 / "meta/info.json").unlink()
    with pytest.raises(FoundryError, match="3 units were refused: .*own folder, which holds meta; 2 more"):
        run("lerobot", v21, store=v21.parent / "store", name="made")


def test_actions_without_a_state_need_a_spec(tmp_path):
    episodes = recordings()
    for episode in episodes:
        del episode.columns["observation.state"]
    write_dataset(tmp_path / "in", episodes, images="none")
    with pytest.raises(FoundryError, match="the source has no state, only actions"):
        run("lerobot", tmp_path / "in", store=tmp_path / "store", name="made")


def test_hostile_names_stay_data(tmp_path):
    names = ["../../etc/passwd", "\x1b[31m", "a" * 500]
    write_dataset(
        tmp_path / "in", names=names, robot_type="../$(touch x)\n", video_path="/etc/{video_key}/passwd"
    )
    made = made_of(tmp_path / "in")
    assert made.manifest["schema"]["embodiment"] == "touch_x"
    assert made.dims("state") == ["robot.value.31m", f"robot.value.{'a' * 40}", "robot.value.etc_passwd"]
    np.testing.assert_allclose(pixels(made.images("episode_000002", "top")[1]).mean(), shade(2, 1), atol=3)


def test_a_dry_run_tells_how_much_larger_video_becomes(v21):
    report = run("lerobot", v21, store=v21.parent / "store", name="made", options=Options(), dry_run=True)
    assert report.written == 3 and report.counts["frames"] == 17
    assert "camera top: primary, 64 x 96" in report.preview.lines
    stored = made_of(v21).manifest["counts"]["bytes"]
    assert stored / 4 < report.preview.stored_bytes < stored * 4
    assert any("nothing says what columns mean" in warning for warning in report.warnings)
