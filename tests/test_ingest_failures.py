"""Ingest in trouble: killed runs, bad files and odd episodes; nothing is lost without a name."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from foundry_testing import robomimic_ingests
from foundry_testing.kills import killed
from foundry_testing.robomimic_ingests import SMALL_SHARDS, content, frames_of, ingest, stamps
from make_robomimic import make

from robot_foundry.runtime.errors import FoundryError, UsageError

# Fixtures.
source, undisturbed = robomimic_ingests.source, robomimic_ingests.undisturbed


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
    killed(script, source, tmp_path, at=point)
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


@pytest.mark.parametrize(
    ("number", "workers", "point", "code"),
    [
        ("SIGTERM", 0, "shard-tar-written:3", 75),
        ("SIGINT", 0, "shard-tar-written:3", 130),
        ("SIGTERM", 1, "tables-done", 75),
    ],
)
def test_a_stopped_run_cleans_up_and_says_how_to_go_on(
    source, undisturbed, tmp_path, number, workers, point, code
):
    overrides = [word for override in SMALL_SHARDS for word in ("--set", override)]
    command = ["ingest", "robomimic", str(source), "--as", "reach", "--store", str(tmp_path), *overrides]
    command += ["--workers", str(workers)]
    script = "import sys; from robot_foundry.cli.foundry_data import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        env={**os.environ, "FOUNDRY_KILL_AT": point, "FOUNDRY_KILL_SIGNAL": number},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1].strip() == shlex.join(["foundry-data", *command])
    assert not list(tmp_path.rglob(".tmp-*")) and not list(tmp_path.rglob("manifest.json"))
    assert ingest(source, tmp_path).shards_reused
    assert content(tmp_path) == content(undisturbed)


def index_of(tar):
    return tar.replace(".tar", ".index.arrow")


def content_below(store, relative):
    return {name: data for name, data in content(store).items() if name.startswith(f"{relative}/")}


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
    assert report.warnings == ("passed over 1 file that the layout robomimic does not read: notes.txt",)
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

    from robot_foundry.catalog.robot.tars import open_robot_shard
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
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="the folder .*none is empty") as raised:
        ingest(tmp_path / "none", tmp_path / "store")
    assert raised.value.hint == "give a file, a folder or a quoted glob"
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


@pytest.mark.parametrize("pattern", ["", "*/*/*.hdf5", "*/*/*/*.hdf5", "**/*.hdf5"])
def test_links_that_go_in_circles_give_no_episode_twice(tmp_path, pattern):
    inner = tmp_path / "source" / "a" / "b"
    inner.mkdir(parents=True)
    make(inner / "one.hdf5", episodes=2, frames=3, size=16)
    (inner / "up").symlink_to("..")
    if "**" not in pattern:
        (inner / "self").symlink_to(".")
        (tmp_path / "source" / "all").symlink_to(tmp_path)
    if pattern == "*/*/*/*.hdf5":  # leads through the circles alone
        with pytest.raises(UsageError, match="no file matches"):
            ingest(tmp_path / "source" / pattern, tmp_path / "store")
        return
    assert ingest(tmp_path / "source" / pattern, tmp_path / "store").written == 2


@pytest.mark.parametrize("pattern", ["", "*/*.hdf5", "**/*.hdf5", "clo*/inner/*.hdf5"])
def test_a_folder_that_cannot_be_read_stops_the_run(tmp_path, pattern):
    closed = tmp_path / "source" / "closed"
    closed.mkdir(parents=True)
    make(tmp_path / "source" / "a.hdf5", episodes=1, frames=3, size=16)
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user reads every folder")
    with pytest.raises(PermissionError, match="closed"):
        ingest(tmp_path / "source" / pattern, tmp_path / "store")


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
        "a.hdf5#demo_4": "'actions' is a group, not an array",
        "a.hdf5#demo_5": "its array 'timestamp' is not rising seconds, one a frame: the time of frame 2 is "
        "before the one of the frame before (--set 'content.skip=[timestamp]' goes by the rate)",
    }
    assert report.written == 1


def test_a_failing_disk_stops_the_run_and_damaged_data_does_not():
    """The texts are HDF5's own. A disk may come back; an episode refused for it would stay refused."""
    from robot_foundry.ingest.sources import Refused
    from robot_foundry.ingest.sources.hdf5.links import unreadable

    text = (
        "Can't synchronously read data (file read failed: time = now, errno = 5, error message = 'I/O error')"
    )
    failing = unreadable("array 'x'", OSError(text))
    assert not isinstance(failing, Refused) and "array 'x' could not be read: I/O error" in failing.message
    damaged = unreadable("array 'x'", OSError("Can't synchronously read data (inflate() failed)"))
    assert isinstance(damaged, Refused)


def test_odd_episodes_are_kept_and_flagged(tmp_path):
    """One frame; actions that are NaN; a camera that one episode lacks."""
    import pyarrow as pa

    import robot_foundry
    from robot_foundry.catalog.robot.tables import Flag
    from robot_foundry.windows.window import WindowSpec

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
