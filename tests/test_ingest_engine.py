"""Ingest as a process: same bytes whatever happens, and only new work done."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from foundry_testing import robomimic_ingests
from foundry_testing.robomimic_ingests import content, frames_of, ingest, stamps
from make_robomimic import make

from robot_foundry.ingest.plan import plan
from robot_foundry.ingest.sources import SourceFile, Unit
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError, UsageError

# Fixtures.
source, undisturbed = robomimic_ingests.source, robomimic_ingests.undisturbed


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_byte(workers, source, undisturbed, tmp_path, ray_workers):
    report = ingest(source, tmp_path, workers=workers)
    assert not report.noop and report.written == 9
    assert content(tmp_path) == content(undisturbed)


def test_the_place_of_the_source_and_the_age_of_its_files_have_no_meaning(source, undisturbed, tmp_path):
    moved = shutil.copytree(source, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    ingest(moved, tmp_path / "store")
    assert stored(tmp_path / "store") == stored(undisturbed)
    assert {"manifest.json"} == {
        Path(name).name
        for name, data in content(tmp_path / "store").items()
        if content(undisturbed)[name] != data and not name.startswith("builds/")
    }


def stored(store):
    """As `content`, without the files that tell where the source was."""
    told = ("manifest.json",)
    return {
        name: data
        for name, data in content(store).items()
        if Path(name).name not in told and not name.startswith("builds/")
    }


def test_a_repeated_run_does_nothing(source, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()}
    report = ingest(source, undisturbed)
    assert report.noop and str(report.version) == "reach@v1"
    assert (report.discovered, report.written, report.shards_written) == (9, 9, 0)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path.is_file()} == before


def test_an_added_file_touches_only_its_own_shards(source, undisturbed, tmp_path):
    grown = shutil.copytree(source, tmp_path / "source")
    store = shutil.copytree(undisturbed, tmp_path / "store")
    before = stamps(store, ".tar")
    make(grown / "part_05.hdf5", seed=5, episodes=2, frames=6, size=16)
    report = ingest(grown, store)
    assert str(report.version) == "reach@v2"
    assert (report.discovered, report.written) == (11, 11)
    after = stamps(store, ".tar")
    assert {name: after[name] for name in before} == before
    assert report.shards_reused == len(before)
    assert 1 <= report.shards_written == len(after) - len(before) <= 2
    names = [(source, name) for source, name, _ in frames_of(report, store)]
    assert names == sorted(names) and len(names) == 11


def test_demonstrations_come_in_numeric_order(tmp_path):
    make(tmp_path / "many.hdf5", episodes=12, frames=3, size=16)
    report = ingest(tmp_path / "many.hdf5", tmp_path / "store", overrides=[])
    assert [name for _, name, _ in frames_of(report, tmp_path / "store")] == [f"demo_{i}" for i in range(12)]


def test_a_glob_a_limit_and_a_dry_run(source, tmp_path):
    dry = ingest(source, tmp_path, limit=4, dry_run=True)
    assert dry.version is None and dry.written == 4 and dry.shards_written >= 2
    assert not (tmp_path / "shards").exists() and not (tmp_path / "datasets").exists()
    report = ingest(f"{source}/part_[02].hdf5", tmp_path, limit=4)
    assert [(s, e) for s, e, _ in frames_of(report, tmp_path)] == [
        *(("part_0.hdf5", f"demo_{i}") for i in range(3)),
        ("part_2.hdf5", "demo_0"),
    ]
    with pytest.raises(UsageError, match="limit must be 1 or more"):
        ingest(source, tmp_path, limit=0)
    with pytest.raises(UsageError, match="no file matches"):
        ingest(f"{source}/nothing_*.hdf5", tmp_path)


def test_content_settings_reach_the_tar(tmp_path):
    from robot_foundry.catalog.robot.tars import open_robot_shard
    from robot_foundry.catalog.store import Store
    from robot_foundry.shards.images import probe

    make(tmp_path / "a.hdf5", episodes=1, frames=3, size=24)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        demo = file["data/demo_0"]
        demo["obs/agentview_depth"] = np.zeros((3, 80, 80, 1), np.float32)
        demo["obs/secret"] = np.zeros((3, 2))
        demo["note"] = "text"
        demo.attrs["nan"] = np.nan
        demo.attrs["blob"] = np.frombuffer(b"\xff\xfe", np.uint8)
        demo["controller_info/longer"] = np.zeros((5, 2))
    overrides = [
        "content.cameras=[agentview]",
        "content.resize=[12, 16]",
        "content.skip=['obs/secret']",
        "content.fps=15",
    ]
    report = ingest(tmp_path / "a.hdf5", tmp_path / "s", overrides=overrides)
    (tar,) = (tmp_path / "s" / "shards" / "reach").glob("*.tar")
    shard = open_robot_shard(Store(tmp_path / "s"), "reach", tar.stem)
    assert shard.cameras == ["agentview"]
    assert probe(shard.reader.read(int(shard.image_rows("agentview")[0]))) == ("jpg", 12, 16)
    episode = shard.episode_json(shard.episodes[0])
    assert episode["left_out"] == {
        "obs/agentview_depth": "a row has 6400 numbers",
        "obs/robot0_eye_in_hand_image": "not among the spec's cameras",
        "obs/secret": "skipped by the spec",
    }
    assert (episode["fps"], episode["fps_source"]) == (15.0, "spec")
    assert episode["attributes"]["note"] == "text"
    assert episode["attributes"]["nan"] == "nan" and episode["attributes"]["blob"] == [255, 254]
    assert shard.source(shard.episodes[0])["controller_info/longer"].shape == (5, 2)
    assert report.written == 1
    with pytest.raises(FoundryError, match="it has no camera 'agentvie', did you mean 'agentview'"):
        ingest(tmp_path / "a.hdf5", tmp_path / "s", overrides=["content.cameras=[agentvie]"])


def test_no_gripper_is_no_error(tmp_path):
    make(tmp_path / "wipe.hdf5", episodes=1, frames=4, size=16, gripper=False)
    report = ingest(tmp_path / "wipe.hdf5", tmp_path / "s")
    folder = tmp_path / "s" / "datasets" / "reach" / report.version.version_id
    schema = json.loads((folder / "manifest.json").read_text())["schema"]
    names = {dim["name"] for dims in (schema["state"], *schema["streams"].values()) for dim in dims}
    assert len(names) == 9 and not any("gripper" in name for name in names)
    assert not report.warnings


def units(sizes, alone=True):
    """Units of one file each, or all of one file."""
    paths = [f"{i}.hdf5" if alone else "all.hdf5" for i in range(len(sizes))]
    return [
        Unit(SourceFile("/", path, 1, "1", f"{i:064d}"), f"e{i}", f"e-{i}", size, alone)
        for i, (path, size) in enumerate(zip(paths, sizes, strict=True))
    ]


def test_the_plan_is_local_and_near_its_target():
    spec = load_spec("robomimic", ["content.shard_bytes=1000"])

    def planned(given, codec="1"):
        return plan(given, spec, {"codec": codec})

    given = units([100] * 2000)
    groups = planned(given)
    assert sorted(u.key for g in groups for u in g.units) == sorted(u.key for u in given)
    sizes = [group.num_bytes for group in groups]
    assert 700 < np.mean(sizes) < 1300 and max(sizes) <= 4000
    names = {group.shard_key for group in groups}
    for removed in (0, 777, 1999):
        fewer = {group.shard_key for group in planned(given[:removed] + given[removed + 1 :])}
        assert len(names - fewer) <= 2 and len(fewer - names) <= 2
    assert names.isdisjoint({group.shard_key for group in planned(given, codec="2")})

    # A file with several episodes shares a shard with no other.
    mixed = [*units([10] * 5), *units([10] * 5, alone=False), *units([10] * 5)]
    for group in planned(mixed):
        assert len({unit.alone for unit in group.units}) == 1
