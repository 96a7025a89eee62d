"""Robot tables in parquet hold what a version holds, to the bit, and read as other tools read them.

Legend: N rows, D dims.
"""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from foundry_testing.exported import export, exported, hashes
from foundry_testing.kills import killed
from foundry_testing.loader_fixtures import Written, write_version
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import robot_foundry
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import column_matrix

SIZES = {"primary": (12, 16), "wrist_right": (10, 10)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def written(store: Store) -> Written:
    return write_version(store, "sim", [[13, 9], [11]], cameras=SIZES)


def frames(folder: Path) -> pa.Table:
    return pyarrow.dataset.dataset(folder / "frames", format="parquet").to_table()


def matrix(table: pa.Table, name: str) -> NDArray[np.float32]:
    """[N, D] of the columns `<name>.<dim>`."""
    return np.stack([table[c].to_numpy() for c in table.column_names if c.startswith(f"{name}.")], axis=1)


def test_frames_are_those_of_the_version_to_the_bit(store: Store, written: Written, tmp_path: Path) -> None:
    report = exported(store, "sim", "parquet", tmp_path / "out")
    table, dataset = frames(tmp_path / "out"), robot_foundry.open("sim", store=store)
    expected = dataset.frames()
    assert report["counts"] == {"episodes": 3, "frames": 33} and table.num_rows == 33
    for name in ("state", "action.next_state"):
        stream = name.removeprefix("action.")
        dims = [c.removeprefix(f"{name}.") for c in table.column_names if c.startswith(f"{name}.")]
        assert tuple(dims) == dataset.space(stream).names
        assert matrix(table, name).tobytes() == column_matrix(expected, name).tobytes()
        assert table.schema.field(f"{name}.{dims[0]}").metadata[b"unit"] == b"m"
    for ours, theirs in (("frame_index", "frame"), ("timestamp", "timestamp"), ("flags", "flags")):
        assert table[ours].to_pylist() == expected[theirs].to_pylist()
    assert table["episode_key"].to_pylist() == expected["key"].to_pylist()
    invalid = [bool(flags & Flag.INVALID_ACTION) for flags in expected["flags"].to_pylist()]
    assert table["is_invalid_action"].to_pylist() == invalid and any(invalid)
    about = json.loads(table.schema.metadata[b"robot_foundry"])
    assert about["version_id"] == written.version.version_id and about["embodiment"] == "panda"


def test_images_are_the_stored_bytes_as_datasets_reads_them(
    store: Store, written: Written, tmp_path: Path
) -> None:
    exported(store, "sim", "parquet", tmp_path / "out", "--images")
    table = frames(tmp_path / "out")
    for role in SIZES:
        images = table[f"image.{role}"].to_pylist()
        stored = [image for episode in written.episodes for image in episode.images[role]]
        assert [None if image is None else image["bytes"] for image in images] == stored
        paths = [image["path"] for image in images if image is not None]
        assert len(set(paths)) == len(paths) and all(path.endswith(f".{role}.jpg") for path in paths)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["image.primary"] == {"_type": "Image"}
    assert features["state.right.ee_position.x"] == {"dtype": "float32", "_type": "Value"}


def test_files_are_bounded_and_a_row_group_is_of_one_episode(
    store: Store, written: Written, tmp_path: Path
) -> None:
    exported(store, "sim", "parquet", tmp_path / "whole", "--images")
    exported(store, "sim", "parquet", tmp_path / "cut", "--images", "--file-bytes", "9000")
    ours, theirs = frames(tmp_path / "cut"), frames(tmp_path / "whole")
    assert matrix(ours, "action.next_state").tobytes() == matrix(theirs, "action.next_state").tobytes()
    others = [name for name in theirs.column_names if not name.startswith("action.")]
    assert ours.select(others).equals(theirs.select(others))
    [whole] = [pq.ParquetFile(path) for path in (tmp_path / "whole" / "frames").iterdir()]
    rows = [whole.metadata.row_group(i).num_rows for i in range(whole.num_row_groups)]
    assert rows == [len(episode.flags) for episode in written.episodes]
    cut = sorted((tmp_path / "cut" / "frames").iterdir())
    assert len(cut) > 3
    for path in cut:
        file = pq.ParquetFile(path)
        for i in range(file.num_row_groups):
            keys = file.read_row_group(i, columns=["episode_key"])["episode_key"]
            assert len(keys.unique()) == 1
        group = file.metadata.row_group(0)
        pictures = sum(
            group.column(i).total_uncompressed_size
            for i in range(group.num_columns)
            if group.column(i).path_in_schema.endswith(".bytes")
        )
        assert 0 < pictures < 11_000


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file_bytes=st.integers(1, 30_000), skipped=st.sets(st.sampled_from(["invalid_state", "held_image"])))
def test_any_bound_cuts_the_same_rows(
    store: Store, written: Written, tmp_path: Path, file_bytes: int, skipped: set[str]
) -> None:
    out = tmp_path / f"{file_bytes}-{len(skipped)}-{'held_image' in skipped}"
    skip = [option for flag in sorted(skipped) for option in ("--skip", flag)]
    if not out.exists():
        exported(store, "sim", "parquet", out, "--file-bytes", str(file_bytes), *skip)
    table = frames(out)
    bits = sum(int(Flag[flag.upper()]) for flag in skipped)
    expected = [
        (number, frame)
        for number, episode in enumerate(written.episodes)
        for frame in range(len(episode.flags))
        if not int(episode.flags[frame]) & bits
    ]
    assert [
        *zip(table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
    ] == expected
    assert pq.read_table(out / "episodes.parquet")["num_rows"].to_pylist() == [
        sum(number == e for e, _ in expected) for number in range(3)
    ]


def test_sql_joins_the_tables(store: Store, written: Written, tmp_path: Path) -> None:
    exported(store, "sim", "parquet", tmp_path / "out")
    rows = duckdb.sql(
        f"""
        SELECT e.episode_key, count(*), min(frame_index), any_value(e.num_rows), any_value(a.n)
        FROM '{tmp_path}/out/frames/*.parquet' f
        JOIN '{tmp_path}/out/episodes.parquet' e USING (episode_index)
        JOIN (SELECT episode_key, count(*) n FROM '{tmp_path}/out/annotations.parquet' GROUP BY ALL) a
          ON a.episode_key = e.episode_key
        GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    assert rows == [
        (episode.key, len(episode.flags), 0, len(episode.flags), len(episode.notes))
        for episode in written.episodes
    ]


def test_selections_go_out_with_the_rows_that_they_hold(
    store: Store, written: Written, tmp_path: Path
) -> None:
    skipped = ["--skip", "invalid_state", "--skip", "invalid_action"]
    exported(store, "sim", "parquet", tmp_path / "clean", *skipped, "--where", "num_frames > 9")
    table = frames(tmp_path / "clean")
    episodes = pq.read_table(tmp_path / "clean" / "episodes.parquet")
    assert episodes["num_frames"].to_pylist() == [13, 11]
    assert episodes["num_rows"].to_pylist() == [11, 9] and episodes["row_start"].to_pylist() == [0, 11]
    for number, length in enumerate((13, 11)):
        own = table.filter(pa.compute.equal(table["episode_index"], number))
        assert own["frame_index"].to_pylist() == [i for i in range(length) if i not in (3, 5)]
    listed = tmp_path / "names.txt"
    listed.write_text(f"# too short\n{written.episodes[1].key}\n")
    exported(store, "sim", "parquet", tmp_path / "some", "--exclude", str(listed))
    assert frames(tmp_path / "some")["episode_key"].unique().to_pylist() == [
        written.episodes[0].key,
        written.episodes[2].key,
    ]
    halves = [
        exported(store, "sim", "parquet", tmp_path / split, "--split", split, "--val-fraction", "1/2")
        for split in ("train", "val")
    ]
    assert sum(half["counts"]["frames"] for half in halves) == 33


def test_a_mixture_is_a_folder_for_each_component(store: Store, written: Written, tmp_path: Path) -> None:
    write_version(store, "real", [[10]], joints=3, embodiment="ur5")
    exported(store, "sim=0.6,real=0.4", "parquet", tmp_path / "out", "--images")
    told = json.loads((tmp_path / "out" / "mixture.json").read_text())
    assert {c["folder"]: c["weight"] for c in told["components"]} == {"sim": "3/5", "real": "2/5"}
    assert "state.right.joint_velocity.2" in frames(tmp_path / "out" / "real").column_names
    assert not any(name.startswith("image.") for name in frames(tmp_path / "out" / "real").column_names)


PROGRAM = """
import sys
from pathlib import Path
from foundry_testing.exported import exported
from robot_foundry.catalog.store import Store
exported(Store(sys.argv[1]), "sim", "parquet", Path(sys.argv[2]), *sys.argv[3:])
"""


@pytest.mark.parametrize("at", ["export_partial:2", "export_renamed:4"])
def test_a_killed_export_goes_on_to_the_same_bytes(
    store: Store, written: Written, tmp_path: Path, at: str
) -> None:
    options = ("--images", "--file-bytes", "9000")
    exported(store, "sim", "parquet", tmp_path / "whole", *options)
    killed(PROGRAM, store.url, tmp_path / "cut", *options, at=at)
    assert not (tmp_path / "cut" / "README.md").exists()
    report = exported(store, "sim", "parquet", tmp_path / "cut", *options)
    assert report["reused"] >= 1
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


def test_a_dry_run_writes_nothing_and_tells_how_much(store: Store, written: Written, tmp_path: Path) -> None:
    guess = exported(store, "sim", "parquet", tmp_path / "out", "--images", "--dry-run")
    assert not (tmp_path / "out").exists()
    report = exported(store, "sim", "parquet", tmp_path / "out", "--images")
    assert (guess["counts"], guess["files"]) == (report["counts"], report["files"])
    images = sum(len(i) for e in written.episodes for of in e.images.values() for i in of if i is not None)
    assert images < guess["bytes"] < report["bytes"]
    code, _, noted = export(store, "sim", "parquet", tmp_path / "no", "--file-bytes", "0")
    assert code == 2 and "--file-bytes 0 is below 1" in noted


def test_a_damaged_image_stops_the_export_and_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    write_version(store, "sim", [[9]], cameras=SIZES)
    [tar] = (tmp_path / "store").rglob("*.tar")
    data = bytearray(tar.read_bytes())
    data[data.index(b"-000004.primary_camera.jpg") // 512 * 512 + 712] ^= 0xFF
    tar.write_bytes(bytes(data))
    code, _, noted = export(store, "sim", "parquet", tmp_path / "out", "--images")
    assert code == 1 and "000004.primary_camera.jpg" in noted and "validate sim" in noted
    assert not (tmp_path / "out" / "README.md").exists()
