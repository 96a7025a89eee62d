"""Episodes that are too long for one shard, and images that are missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from foundry_testing.kills import killed
from make_robomimic import make

import robot_foundry
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.robot.tars import open_robot_shard
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.plan import plan
from robot_foundry.ingest.remapping import remap
from robot_foundry.ingest.sources import SourceFile, Unit
from robot_foundry.ingest.sources.robot.shared import MOST_FRAMES
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.windows.window import WindowSpec

# An episode of 40 frames is estimated at about 24 kB here, and a shard holds four times the target.
CUT = ["content.shard_bytes=1500"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two short episodes and a long one between them."""
    folder = tmp_path_factory.mktemp("source")
    make(folder / "a.hdf5", seed=1, episodes=1, frames=6, size=16)
    make(folder / "b.hdf5", seed=2, episodes=1, frames=40, size=16)
    make(folder / "c.hdf5", seed=3, episodes=1, frames=6, size=16)
    return folder


@pytest.fixture(scope="module")
def cut(source, tmp_path_factory):
    store = tmp_path_factory.mktemp("cut")
    return store, ingest(source, store, CUT)


@pytest.fixture(scope="module")
def both(source, tmp_path_factory):
    """Stores with the long episode alone: in parts, and in one shard."""
    stores = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("whole")
    for store, overrides in zip(stores, (CUT, []), strict=True):
        ingest(source / "b.hdf5", store, overrides)
    return stores


def ingest(source, store, overrides, **options):
    return run(
        load_spec("robomimic", overrides), source, store=store, name="reach", options=Options(**options)
    )


def manifest(store, report):
    folder = Path(store) / "datasets" / "reach" / report.version.version_id
    return json.loads((folder / "manifest.json").read_text())


def test_a_long_episode_has_its_rows_in_one_table_and_its_images_in_several_tars(cut):
    store, report = cut
    shards = manifest(store, report)["shards"]
    entries = [(entry["num_episodes"], entry["num_frames"]) for entry in shards]
    head = entries.index((1, 40))
    segments = [entry for entry in shards[head + 1 :] if entry["num_frames"] == 0]
    assert len(segments) >= 2 and sum(frames for _, frames in entries) == 52
    assert shards[head + 1 : head + 1 + len(segments)] == segments

    shard = open_robot_shard(Store(store), "reach", shards[head]["key"])
    told = shard.episode_json(shard.episodes[0])["segments"]
    assert [part["shard"] for part in told] == [entry["key"] for entry in segments]
    assert [part["end"] for part in told] == [*(part["start"] for part in told[1:]), 40]
    assert (shard.image_rows("agentview") >= 0).all()


def test_frames_are_the_same_cut_or_whole(both):
    of_cut, of_whole = (robot_foundry.open("reach", store=store) for store in both)
    assert len(of_cut) == len(of_whole) == 40
    for one, other in zip(of_cut, of_whole, strict=True):
        assert one.keys() == other.keys() >= {"image.primary", "state"}
        assert all(np.array_equal(one[name], other[name]) for name in one)
    rows = [OpenVersions(Store(store)).open("reach").table("episodes").to_pylist() for store in both]
    assert rows[0] == rows[1]  # with the hash that decides the side of a split


@pytest.mark.parametrize("control_hz", [None, 15])
def test_windows_cross_the_borders(both, control_hz):
    """One epoch of each; the order is keyed by the version, so the rows are sorted by their states."""
    spec = WindowSpec(cameras=("primary", "wrist_right"), history=3, horizon=4, control_hz=control_hz)
    batches = []
    for store in both:
        loader = robot_foundry.load("reach", window=spec, seed=0, global_batch=40, store=store)
        batch = next(iter(loader))
        batches.append((batch, np.lexsort(batch.state_BHD[:, -1].T)))
    (one, one_B), (other, other_B) = batches
    assert len(np.unique(one.state_BHD[:, -1], axis=0)) == 40
    assert np.array_equal(one.action_BTA[one_B], other.action_BTA[other_B])
    for role in spec.cameras:
        assert one.image_mask[role].all()
        assert np.array_equal(one.images[role][one_B], other.images[role][other_B])


def files(store):
    kept = ("shards", "datasets", "refs")
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for top in kept
        for path in (Path(store) / top).rglob("*")
        if path.is_file() and not path.name.startswith(".tmp-")
    }


@pytest.mark.parametrize("hit", [2, 3])
def test_a_run_that_is_killed_between_segments_is_completed(source, cut, tmp_path, hit):
    script = (
        "import sys; from robot_foundry.ingest.engine import run, load_spec;"
        f"run(load_spec('robomimic', {CUT!r}), sys.argv[1], store=sys.argv[2], name='reach')"
    )
    killed(script, source, tmp_path, at=f"shard-tar-written:{hit}")
    ingest(source, tmp_path, CUT)
    assert files(tmp_path) == files(cut[0])


def test_a_repeat_a_lost_cache_and_a_remap_reuse_every_tar(source, cut, tmp_path):
    store = shutil.copytree(cut[0], tmp_path / "store")
    assert ingest(source, store, CUT).noop
    shutil.rmtree(store / "cache")
    shutil.rmtree(store / "builds")
    assert ingest(source, store, CUT).shards_written == 0
    tars = {name: data for name, data in files(store).items() if name.startswith("shards/")}
    mapped = remap("reach", load_spec("robomimic", ["mapping.noop.position=0.5"]), store=store)
    assert {name: data for name, data in files(store).items() if name.startswith("shards/")} == tars
    assert len(robot_foundry.open(str(mapped), store=store)) == 52


def test_a_long_episode_that_fails_in_its_last_part_is_refused_whole(source, tmp_path):
    broken = shutil.copytree(source, tmp_path / "source")
    with h5py.File(broken / "b.hdf5", "r+") as file:
        place = file["data/demo_0/obs/agentview_image"].id.get_chunk_info(39)
    with (broken / "b.hdf5").open("r+b") as raw:
        raw.seek(place.byte_offset + 2)
        raw.write(b"\xff" * (place.size - 2))
    report = ingest(broken, tmp_path / "store", CUT)
    assert [unit for unit, _ in report.quarantined] == ["b.hdf5#demo_0"]
    assert "near frame 39 is damaged" in report.quarantined[0][1]
    assert sum(entry["num_frames"] for entry in manifest(tmp_path / "store", report)["shards"]) == 12
    assert ingest(broken, tmp_path / "store", CUT).quarantined == report.quarantined


def unit(num_frames, num_bytes=1):
    return Unit(SourceFile("/", "a.hdf5", 1, "1", "0"), "e", "e-1", num_bytes, True, num_frames)


@pytest.mark.parametrize(
    ("frames", "num_bytes", "parts"),
    [
        (MOST_FRAMES, 1, 1),
        (MOST_FRAMES + 1, 1, 2),
        (100_000, 1, 2),
        (999_999, 1, 20),
        (3, 1 << 34, 3),
        (1000, (1 << 30) + 1, 2),
        (None, 1 << 34, 1),
    ],
)
def test_where_an_episode_is_cut(frames, num_bytes, parts):
    spec = load_spec("robomimic", [])
    (group,) = plan([unit(frames, num_bytes)], spec, {})
    assert len(group.segments) == parts - 1
    bounds = [0, *(segment.start for segment in group.segments), frames]
    assert len({group.shard_key, *(segment.shard_key for segment in group.segments)}) == parts
    if frames is not None:
        lengths = np.diff(bounds)
        assert lengths.sum() == frames and lengths.max() - lengths.min() <= 1
        assert [segment.end for segment in group.segments] == bounds[2:]


@pytest.mark.parametrize("overrides", [[], ["content.shard_bytes=1000"]])
def test_frames_without_an_image_of_their_own_are_flagged(tmp_path, overrides):
    """A camera that is one frame short, in one shard and where the last segment lacks the image."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        for name in ("action", "observations/qpos", "observations/qvel"):
            file[name] = rng.normal(size=(12, 14)).cumsum(axis=0) / 10
        for camera, count in (("top", 12), ("cam_left_wrist", 11)):
            images = rng.integers(0, 255, (count, 16, 16, 3), np.uint8)
            file.create_dataset(f"observations/images/{camera}", data=images)
    spec = load_spec("aloha", overrides)
    report = run(spec, tmp_path / "episode_0.hdf5", store=tmp_path / "store", name="reach")
    entries = manifest(tmp_path / "store", report)["shards"]
    assert len(entries) == (2 if overrides else 1)
    dataset = robot_foundry.open("reach", store=tmp_path / "store")
    held = [bool(frame["flags"] & Flag.HELD_IMAGE) for frame in dataset]
    assert held == [False] * 11 + [True]
    assert np.array_equal(dataset[10]["image.wrist_left"], dataset[11]["image.wrist_left"])
    assert not np.array_equal(dataset[10]["image.primary"], dataset[11]["image.primary"])
