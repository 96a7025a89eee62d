"""Ingest as a process: same bytes whatever happens, only new work done, nothing lost without a name."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.plan import plan
from robot_foundry.ingest.sources import SourceFile, Unit, layout
from robot_foundry.ingest.spec import load_spec
from robot_foundry.runtime.errors import FoundryError, UsageError

make = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "make_robomimic.py"))["make"]
KEPT = ("shards", "datasets", "refs", "builds")
# One shard a file or less, so that a few small files make several shards.
SMALL_SHARDS = ["content.shard_bytes=20000"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three files of three demonstrations."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(3):
        make(folder / f"part_{i}.hdf5", seed=i, episodes=3, frames=6, size=16)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    """A store after one run without trouble."""
    store = tmp_path_factory.mktemp("undisturbed")
    report = ingest(source, store)
    assert (report.discovered, report.written, report.quarantined) == (9, 9, ())
    assert report.shards_written >= 3
    return store


def ingest(source, store, *, overrides=SMALL_SHARDS, dry_run=False, **options):
    spec = load_spec("robomimic", overrides)
    return run(spec, source, store=store, name="reach", options=Options(**options), dry_run=dry_run)


def content(store):
    """Bytes of all that a store keeps; not of its cache, nor of what a killed writer left behind."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for top in KEPT
        for path in sorted((store / top).rglob("*"))
        if path.is_file() and not path.name.startswith(".tmp-")
    }


def stamps(store, suffix):
    found = (path for path in (store / "shards").rglob(f"*{suffix}") if not path.name.startswith(".tmp-"))
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def frames_of(report, store):
    """(episode id, source) and number of rows of each episode, in the version's order."""
    import pyarrow as pa

    folder = Path(store) / "datasets" / report.dataset / report.version.version_id
    episodes = pa.ipc.open_file(folder / "episodes.arrow").read_all().to_pylist()
    return [(row["source"], row["id"], row["num_frames"]) for row in episodes]


def test_workers_do_not_change_a_byte(source, undisturbed, tmp_path):
    """One test for 1 and 2 workers, because starting Ray takes seconds."""
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": 40}
    ray.init(address="local", num_cpus=2, object_store_memory=1 << 27, **quiet)
    try:
        for workers in (1, 2):
            report = ingest(source, tmp_path / str(workers), workers=workers)
            assert not report.noop and report.written == 9
            assert content(tmp_path / str(workers)) == content(undisturbed)
    finally:
        ray.shutdown()


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


@pytest.mark.parametrize(
    "point",
    [
        "storage-before-rename:4",
        "shard-tar-written:3",
        "shard-done:2",
        "tables-done",
        "commit-before-manifest",
        "commit-after-manifest",
        "commit-after-ref",
    ],
)
def test_a_killed_run_is_completed_by_the_next(source, undisturbed, tmp_path, point):
    script = (
        "import sys; from robot_foundry.ingest.engine import run, load_spec;"
        f"run(load_spec('robomimic', {SMALL_SHARDS!r}), sys.argv[1], store=sys.argv[2], name='reach')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(tmp_path)],
        env={**os.environ, "FOUNDRY_KILL_AT": point},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = stamps(tmp_path, ".index.arrow")
    tars = {name: stamp for name, stamp in stamps(tmp_path, ".tar").items() if index_of(name) in whole}
    for path in (tmp_path / "datasets").rglob("manifest.json"):
        # A version that can be seen is whole already.
        relative = path.parent.relative_to(tmp_path)
        assert content_below(tmp_path, relative) == content_below(undisturbed, relative)

    report = ingest(source, tmp_path)
    assert report.shards_reused == len(whole) and not report.noop
    assert {name: stamp for name, stamp in stamps(tmp_path, ".tar").items() if name in tars} == tars
    assert content(tmp_path) == content(undisturbed)


def index_of(tar):
    return tar.replace(".tar", ".index.arrow")


def content_below(store, relative):
    return {name: data for name, data in content(store).items() if name.startswith(f"{relative}/")}


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


def damaged_sources(folder):
    """A folder with one good file of two demonstrations and every way to be bad; what is refused, and why."""
    folder.mkdir()
    make(folder / "good.hdf5", episodes=2, frames=6, size=16)
    (folder / "empty.hdf5").write_bytes(b"")
    (folder / "pointer.hdf5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (folder / "text.h5").write_text("hello")
    (folder / "notes.txt").write_text("passed over")
    make(folder / "truncated.hdf5", episodes=2, frames=6, size=16)
    os.truncate(folder / "truncated.hdf5", 9000)
    make(folder / "mixed.hdf5", seed=2, episodes=8, frames=6, size=16)
    with h5py.File(folder / "mixed.hdf5", "r+") as file:
        data = file["data"]
        del data["demo_0/actions"]
        length = data["demo_1/obs/robot0_eef_pos"][:4]
        del data["demo_1/obs/robot0_eef_pos"]
        data["demo_1/obs/robot0_eef_pos"] = length
        data["demo_2"].attrs["num_samples"] = 7
        del data["demo_3/actions"]
        data["demo_3/actions"] = np.zeros((0, 7))
        data["demo_4/obs/robot0_eef_pos"][...] = np.nan
        chunks = data["demo_5/obs/robot0_eye_in_hand_image"].id
        broken = chunks.get_chunk_info(4)
        del data["demo_6/obs/robot0_eef_quat"]
    with (folder / "mixed.hdf5").open("r+b") as raw:
        raw.seek(broken.byte_offset + 2)
        raw.write(b"\xff" * (broken.size - 2))
    return {
        "empty.hdf5": "the file is empty",
        "pointer.hdf5": "the file is a Git LFS pointer and not the data",
        "text.h5": "the file is not HDF5",
        "truncated.hdf5": "the file is truncated at 9000 of",
        "mixed.hdf5#demo_0": "it has no array 'actions' (it has dones, obs, rewards)",
        "mixed.hdf5#demo_1": "its lengths disagree: actions has 6 frames, obs/robot0_eef_pos has 4",
        "mixed.hdf5#demo_2": "its lengths disagree: num_samples is 7, actions has 6 frames",
        "mixed.hdf5#demo_3": "it has no frames",
        "mixed.hdf5#demo_4": "no frame of it has a finite state and action",
        "mixed.hdf5#demo_5": "array 'obs/robot0_eye_in_hand_image' near frame 4 is damaged",
        "mixed.hdf5#demo_6": "state: right.ee_rotation names the array 'obs/robot0_eef_quat', did you mean",
    }


def test_bad_units_are_quarantined_by_name_and_the_rest_goes_on(tmp_path):
    reasons = damaged_sources(tmp_path / "source")
    report = ingest(tmp_path / "source", tmp_path / "store", overrides=[])
    assert {unit: reason[: len(reasons[unit])] for unit, reason in report.quarantined} == reasons
    assert (report.discovered, report.written) == (3 + 11, 3)
    assert frames_of(report, tmp_path / "store") == [
        ("good.hdf5", "demo_0", 6),
        ("good.hdf5", "demo_1", 6),
        ("mixed.hdf5", "demo_7", 6),
    ]
    assert report.warnings == ("passed over 1 file that the layout robomimic does not read",)
    folder = tmp_path / "store" / "datasets" / "reach" / report.version.version_id
    manifest = json.loads((folder / "manifest.json").read_text())
    counts = manifest["counts"]
    assert counts["discovered"] == counts["written"] + counts["quarantined"] == 14
    assert {entry["unit"] for entry in manifest["quarantined"]} == set(reasons)


def test_quarantine_is_the_same_in_every_run_with_and_without_cache(tmp_path):
    damaged_sources(tmp_path / "source")
    first = ingest(tmp_path / "source", tmp_path / "a", overrides=[])
    second = ingest(tmp_path / "source", tmp_path / "b", overrides=[])
    assert content(tmp_path / "a") == content(tmp_path / "b")
    # Forget the build and the cache: shards are there, and the reasons are found again.
    shutil.rmtree(tmp_path / "b" / "cache")
    shutil.rmtree(tmp_path / "b" / "builds")
    third = ingest(tmp_path / "source", tmp_path / "b", overrides=[])
    assert third.shards_written == 0 and not third.noop
    assert first.quarantined == second.quarantined == third.quarantined
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_rows_of_an_unusable_episode_stay_in_step_with_the_images(tmp_path):
    """demo_4 is in the tar with its images; its rows must be there, flagged, or later rows would slip."""
    import pyarrow as pa

    from robot_foundry.catalog.opening import open_robot_shard
    from robot_foundry.catalog.store import Store

    damaged_sources(tmp_path / "source")
    report = ingest(tmp_path / "source" / "mixed.hdf5", tmp_path / "store", overrides=[])
    folder = tmp_path / "store" / "datasets" / "reach" / report.version.version_id
    (path,) = (folder / "frames").iterdir()
    rows = pa.ipc.open_file(path).read_all()
    episode = pa.ipc.open_file(folder / "episodes.arrow").read_all().to_pylist()[0]
    shard = open_robot_shard(Store(tmp_path / "store"), "reach", path.stem)
    assert rows.num_rows == int(shard.row_starts[-1])
    assert shard.episodes[episode["episode"]] == episode["key"]
    assert shard.row_starts[episode["episode"]] == episode["row_start"]
    own = slice(episode["row_start"], episode["row_start"] + 6)
    assert rows["frame"].to_pylist()[own] == list(range(6))
    flags = rows["flags"].to_numpy()
    assert (np.delete(flags, range(own.start, own.stop)) & 24 == 24).all()
    assert not (flags[own] & 24).any()
    leaves = pa.ipc.open_file(folder / "leaves.arrow").read_all().to_pylist()
    from robot_foundry.normalization.digest import Digest

    assert {Digest.from_bytes(leaf["digest"]).count for leaf in leaves} == {6}


def test_limits_on_errors_fail_the_run_and_commit_nothing(tmp_path):
    damaged_sources(tmp_path / "source")
    for allowed in (0, 7, 10):
        with pytest.raises(FoundryError, match=f"refused and {allowed} allowed") as caught:
            ingest(tmp_path / "source", tmp_path / "store", overrides=[], max_errors=allowed)
        assert "max-errors" in str(caught.value.hint)
    assert not (tmp_path / "store" / "refs").exists()
    report = ingest(tmp_path / "source", tmp_path / "store", overrides=[], max_errors=11)
    assert report.shards_reused >= 1 and report.written == 3
    with pytest.raises(FoundryError, match="11 units were refused and 0 allowed"):
        ingest(tmp_path / "source", tmp_path / "store", overrides=[], max_errors=0)


def test_when_nothing_is_left_the_run_fails_with_the_reasons(tmp_path):
    (tmp_path / "a.hdf5").write_bytes(b"")
    with pytest.raises(FoundryError, match="nothing was written, 1 unit was refused: a.hdf5: the file is"):
        ingest(tmp_path / "a.hdf5", tmp_path / "store")
    make(tmp_path / "a.hdf5", episodes=2, frames=3, size=16)
    with pytest.raises(FoundryError, match="nothing was written, 2 units were refused: a.hdf5#demo_0:"):
        ingest(tmp_path / "a.hdf5", tmp_path / "s", overrides=["mapping.state.right.ee_position.key=obs/x"])
    with pytest.raises(UsageError, match="there is no file or folder"):
        ingest(tmp_path / "missing.hdf5", tmp_path / "store")
    with pytest.raises(UsageError, match="the folder .*none is empty"):
        (tmp_path / "none").mkdir()
        ingest(tmp_path / "none", tmp_path / "store")
    (tmp_path / "none" / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds no file of the layout robomimic"):
        ingest(tmp_path / "none", tmp_path / "store")
    with pytest.raises(UsageError, match="unknown scheme 's4'"):
        ingest("s4://bucket/a.hdf5", tmp_path / "store")
    assert not (tmp_path / "store" / "refs").exists()


def test_a_link_that_leads_nowhere_is_named(source, tmp_path):
    """As git-annex leaves them for what was not fetched; when it is, that is another build."""
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder / "a.hdf5", episodes=2, frames=3, size=16)
    (folder / "b.hdf5").symlink_to(tmp_path / "annex" / "b")
    (folder / "notes.txt").symlink_to(tmp_path / "annex" / "notes")
    for place in (folder, folder / "*.hdf5"):
        report = ingest(place, tmp_path / "store")
        assert (report.discovered, report.written) == (3, 2)
        assert report.quarantined == (
            ("b.hdf5", "it is a link that leads nowhere: fetch the file that it stands for"),
        )
    (tmp_path / "annex").mkdir()
    make(tmp_path / "annex" / "b", seed=1, episodes=1, frames=3, size=16)
    assert ingest(folder, tmp_path / "store").written == 3


def test_a_folder_that_cannot_be_read_stops_the_run(tmp_path):
    closed = tmp_path / "source" / "closed"
    closed.mkdir(parents=True)
    make(tmp_path / "source" / "a.hdf5", episodes=1, frames=3, size=16)
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user reads every folder")
    with pytest.raises(PermissionError, match="closed"):
        ingest(tmp_path / "source", tmp_path / "store")


def test_a_file_that_changes_under_way_stops_the_run(source, tmp_path, monkeypatch):
    from robot_foundry.ingest import engine

    copied = shutil.copytree(source, tmp_path / "source")
    listed = engine.list_units

    def list_then_write(*arguments, **options):
        result = listed(*arguments, **options)
        with (copied / "part_1.hdf5").open("ab") as file:
            file.write(b"more")
        return result

    monkeypatch.setattr(engine, "list_units", list_then_write)
    with pytest.raises(FoundryError, match="part_1.hdf5 changed while it was ingested"):
        ingest(copied, tmp_path / "store")


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
    from robot_foundry.catalog.opening import open_robot_shard
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
        "note": "its type is object",
        "obs/agentview_depth": "a row has 6400 numbers",
        "obs/robot0_eye_in_hand_image": "not among the spec's cameras",
        "obs/secret": "skipped by the spec",
    }
    assert (episode["fps"], episode["fps_source"]) == (15.0, "spec")
    assert episode["attributes"]["nan"] == "nan" and episode["attributes"]["blob"] == [255, 254]
    assert shard.source(shard.episodes[0])["controller_info/longer"].shape == (5, 2)
    assert report.written == 1
    with pytest.raises(FoundryError, match="it has no camera 'agentvie', did you mean 'agentview'"):
        ingest(tmp_path / "a.hdf5", tmp_path / "s", overrides=["content.cameras=[agentvie]"])


def test_files_that_point_elsewhere_or_at_themselves_are_refused(tmp_path):
    """What lies in another file was not hashed, and a link may point at anything on the machine."""
    make(tmp_path / "other.hdf5", episodes=1, frames=3, size=16)
    make(tmp_path / "a.hdf5", episodes=6, frames=3, size=16)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        data = file["data"]
        data.attrs["env_args"] = json.dumps({"env_name": "\ud800", **json.loads(data.attrs["env_args"])})
        data["linked"] = h5py.ExternalLink("other.hdf5", "/data/demo_0")
        data["demo_0/obs/linked"] = h5py.ExternalLink("other.hdf5", "/data/demo_0/actions")
        data["demo_1"].create_dataset("raw", (3, 2), "f4", external=[("other.hdf5", 0, 24)])
        data["demo_2/extra"] = data["demo_2"]
        data["demo_3/extra"] = h5py.SoftLink("/nowhere")
        del data["demo_4/actions"]
        data["demo_4/actions"] = h5py.SoftLink("/data/demo_4/obs")
        data["demo_5"].create_dataset("timestamp", data=[0.0, 0.2, 0.1])
    report = ingest(tmp_path / "a.hdf5", tmp_path / "s", overrides=[])
    assert dict(report.quarantined) == {
        "a.hdf5#linked": "'linked' lies in another file: ingest that file itself",
        "a.hdf5#demo_0": "'linked' lies in another file: ingest that file itself",
        "a.hdf5#demo_1": "the numbers of 'raw' lie in another file, which is not read",
        "a.hdf5#demo_2": "its groups are nested more than 16 deep, or form a circle",
        "a.hdf5#demo_4": "it has no array 'actions' (it has dones, obs, rewards)",
        "a.hdf5#demo_5": "its array 'timestamp' is not rising seconds, one a frame; skip it in the spec",
    }
    assert report.written == 1


def test_no_gripper_is_no_error(tmp_path):
    make(tmp_path / "wipe.hdf5", episodes=1, frames=4, size=16, gripper=False)
    report = ingest(tmp_path / "wipe.hdf5", tmp_path / "s")
    folder = tmp_path / "s" / "datasets" / "reach" / report.version.version_id
    schema = json.loads((folder / "manifest.json").read_text())["schema"]
    names = {dim["name"] for dims in (schema["state"], *schema["streams"].values()) for dim in dims}
    assert len(names) == 9 and not any("gripper" in name for name in names)
    assert not report.warnings


def test_a_failing_disk_stops_the_run_and_damaged_data_does_not():
    """The texts are HDF5's own. A disk may come back; an episode refused for it would stay refused."""
    from robot_foundry.ingest.sources import Refused
    from robot_foundry.ingest.sources.hdf5 import unreadable

    text = (
        "Can't synchronously read data (file read failed: time = now, errno = 5, error message = 'I/O error')"
    )
    failing = unreadable("array 'x'", OSError(text))
    assert not isinstance(failing, Refused) and "array 'x' could not be read: I/O error" in failing.message
    damaged = unreadable("array 'x'", OSError("Can't synchronously read data (inflate() failed)"))
    assert isinstance(damaged, Refused)


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
        return plan(given, spec.content, layout("robomimic"), {"codec": codec})

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


def test_odd_episodes_are_kept_and_flagged(tmp_path):
    """One frame; actions that are NaN; a camera that one episode lacks."""
    import pyarrow as pa

    import robot_foundry
    from robot_foundry.catalog.tables import Flag
    from robot_foundry.loader.window import WindowSpec

    make(tmp_path / "a.hdf5", episodes=3, frames=1, size=16)
    make(tmp_path / "b.hdf5", seed=1, episodes=1, frames=5, size=16)
    with h5py.File(tmp_path / "b.hdf5", "r+") as file:
        file["data/demo_0/actions"][2, 1] = np.nan
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["data/demo_1/obs/agentview_image"]
    report = ingest(tmp_path, tmp_path / "store", overrides=[])
    assert report.written == 4 and not report.quarantined
    rows = robot_foundry.open("reach", store=tmp_path / "store").frames()
    assert isinstance(rows, pa.Table) and rows.num_rows == 8
    flags = np.array(rows["flags"].to_pylist())
    assert ((flags & Flag.INVALID_ACTION) != 0).sum() == 1
    assert ((flags & Flag.TERMINAL) != 0).sum() == 4
    assert not (flags & Flag.HELD_IMAGE).any()

    spec = WindowSpec(cameras=("primary", "wrist_right"), horizon=3)
    loader = robot_foundry.load(
        "reach", window=spec, seed=0, global_batch=8, store=tmp_path / "store", split="all"
    )
    batch = next(iter(loader))
    seen = batch.image_mask["primary"].all(axis=1)
    assert (seen.sum(), (~batch.image_mask["primary"]).all(axis=1).sum()) == (7, 1)
    assert batch.image_mask["wrist_right"].all()
    assert np.isfinite(batch.action_BTA).all()
