"""Remap: new tables from the same tars, and the commands around it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from foundry_testing import reach_stores
from make_robomimic import make

from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.cli.data.ingest import command as ingest_command
from robot_foundry.cli.data.remap import command as remap_command
from robot_foundry.ingest import ingest, remap
from robot_foundry.ingest.remapping import run, spec_of
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.reader import ShardReader

# Fixtures.
made, store = reach_stores.made, reach_stores.store
FLIP = [
    "mapping.actions.command.right.gripper_opening.closed=-1",
    "mapping.actions.command.right.gripper_opening.open=1",
]


def frames(store, version):
    folder = Path(store) / "datasets" / version.dataset / version.version_id / "frames"
    return {path.stem: pa.ipc.open_file(path).read_all() for path in sorted(folder.iterdir())}


def column(table, name):
    return np.array(table[name].to_pylist())


def tars(store):
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in (Path(store) / "shards").rglob("*")
        if path.is_file()
    }


def test_flipping_the_gripper_writes_no_tar_and_reads_no_image(store, monkeypatch):
    shutil.rmtree(store / "cache")
    before, read = tars(store), []
    original = ShardReader.read
    monkeypatch.setattr(
        ShardReader, "read", lambda self, row: read.append(self.name(row)) or original(self, row)
    )
    version = resolve(Store(store), "reach")
    flipped = remap(version, spec_of("reach", None, FLIP, store=store), store=store)
    assert str(flipped) == "reach@v2"
    assert tars(store) == before
    assert read and not [name for name in read if name.endswith(".jpg")]

    old, new = frames(store, version), frames(store, flipped)
    assert list(old) == list(new)
    for key in old:
        was, now = column(old[key], "action.command"), column(new[key], "action.command")
        np.testing.assert_array_equal(now[:, :9], was[:, :9])
        np.testing.assert_allclose(now[:, 9], 1 - was[:, 9])
        assert 0 < was[:, 9].mean() < 1
        for name in ("state", "action.next_state", "timestamp"):
            assert old[key][name].equals(new[key][name])
    manifest = read_manifest(Store(store), flipped)
    assert manifest.provenance["remap_of"] == version.version_id
    assert manifest.shards == read_manifest(Store(store), version).shards


def test_remapping_needs_no_image_to_be_whole(store):
    """The images are overwritten; only episode.json and source.npz may matter."""
    for path in (store / "shards").rglob("*.tar"):
        data = bytearray(path.read_bytes())
        start = 0
        while (start := data.find(b"\xff\xd8\xff", start)) >= 0:
            data[start : start + 3] = b"xxx"
        path.write_bytes(data)
    flipped = remap("reach", load_spec("robomimic", FLIP), store=store)
    assert flipped.seq == 2


def test_remapping_equals_ingesting_with_that_mapping(made, store, tmp_path):
    remapped = remap("reach", load_spec("robomimic", FLIP), store=store)
    direct = ingest(load_spec("robomimic", FLIP), made / "source", store=tmp_path / "new", name="reach")
    assert remapped.version_id == direct.version_id
    back = remap("reach@v2", load_spec("robomimic"), store=store)
    assert (back.seq, back.version_id) == (1, resolve(Store(store), "reach@v1").version_id)


def test_ingesting_again_with_another_mapping_reuses_every_tar(made, store):
    before = tars(store)
    version = ingest(load_spec("robomimic", FLIP), made / "source", store=store, name="reach")
    assert version.seq == 2 and tars(store) == before


def test_repeating_a_remap_does_nothing(store):
    first = run("reach", load_spec("robomimic", FLIP), store=store)
    again = run("reach@v1", load_spec("robomimic", FLIP), store=store)
    assert again.noop and not first.noop and again.version == first.version


def test_the_way_back_says_that_the_name_means_the_newest_version_still(store):
    assert run("reach", load_spec("robomimic", FLIP), store=store).version.seq == 2
    back = run("reach@v2", load_spec("robomimic"), store=store)
    assert str(back.version) == "reach@v1"
    assert back.warnings[-1] == "this is reach@v1, and 'reach' alone still means reach@v2, the newest"
    assert str(resolve(Store(store), "reach")) == "reach@v2"


def test_a_mapping_that_fits_nothing_makes_no_version(store):
    broken = load_spec("robomimic", ["mapping.state.right.ee_position.key=obs/eef"])
    with pytest.raises(FoundryError, match="nothing was written, 4 units were refused: part_0.hdf5#demo_0"):
        run("reach", broken, store=store)
    assert resolve(Store(store), "reach").seq == 1


def test_an_episode_that_a_mapping_did_not_fit_comes_back_with_one_that_does(tmp_path):
    make(tmp_path / "a.hdf5", episodes=3, frames=4, size=16)
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        del file["data/demo_1/obs/robot0_gripper_qpos"]
    strict = load_spec("robomimic", ["mapping.state.right.gripper_opening.optional=false"])
    version = ingest(strict, tmp_path / "a.hdf5", store=tmp_path / "s", name="reach")
    manifest = read_manifest(Store(tmp_path / "s"), version)
    assert [entry.unit for entry in manifest.quarantined] == ["a.hdf5#demo_1"]
    assert "right.gripper_opening names the array 'obs/robot0_gripper_qpos'" in manifest.quarantined[0].reason
    assert "right.gripper_opening" in manifest.schema.state_space().names

    report = run("reach", load_spec("robomimic"), store=tmp_path / "s")
    assert (report.written, report.quarantined) == (3, ())
    assert "right.gripper_opening of state is left out: 1 of 3 episodes lack it" in report.warnings[0]
    schema = read_manifest(Store(tmp_path / "s"), report.version).schema
    assert "right.gripper_opening" not in schema.state_space().names


def test_units_that_no_tar_holds_stay_quarantined_with_their_reason(tmp_path):
    (tmp_path / "source").mkdir()
    make(tmp_path / "source" / "a.hdf5", episodes=1, frames=4, size=16)
    (tmp_path / "source" / "b.hdf5").write_bytes(b"")
    ingest("robomimic", tmp_path / "source", store=tmp_path / "s", name="reach")
    report = run("reach", load_spec("robomimic", FLIP), store=tmp_path / "s")
    assert (report.discovered, report.written) == (2, 1)
    assert report.quarantined == (("b.hdf5", "the file is empty"),)


def test_content_cannot_be_overridden_after_the_fact(store):
    with pytest.raises(UsageError, match="content is in the tars already"):
        spec_of("reach", None, ["content.resize=[8, 8]"], store=store)
    with pytest.raises(UsageError, match="mapping.stat: is not a key here, did you mean 'state'"):
        spec_of("reach", None, ["mapping.stat=1"], store=store)


def invoke(command, *arguments):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if isinstance(result.exception, FoundryError):
        return result.exception.exit_code, "", str(result.exception)
    assert result.exception is None, result.exception
    return 0, result.stdout, result.stderr


def test_the_ingest_command_counts_on_stdout_and_warns_on_stderr(tmp_path):
    (tmp_path / "source").mkdir()
    make(tmp_path / "source" / "a.hdf5", episodes=2, frames=4, size=16)
    (tmp_path / "source" / "b.hdf5").write_bytes(b"")
    given = ("robomimic", tmp_path / "source", "--as", "reach", "--store", tmp_path / "s")

    code, out, err = invoke(ingest_command, *given, "--dry-run")
    assert (
        code == 0 and "would write 1 shard and reuse 0" in out and "3 units discovered = 2 written + 1" in out
    )
    code, out, err = invoke(ingest_command, *given, "--strict")
    assert code == 1 and "1 unit was refused and 0 allowed: b.hdf5: the file is empty" in err
    code, out, err = invoke(ingest_command, *given)
    assert code == 0 and out.startswith("reach@v1: 2 episodes, 8 frames") and "1 shard written" in out
    assert "3 units discovered = 2 written + 1 quarantined" in out
    assert "1 of 3 units left out" in err and "  b.hdf5: the file is empty" in err
    code, out, err = invoke(ingest_command, *given, "--json")
    told = json.loads(out)
    assert told["noop"] and told["version"] == "reach@v1"
    assert told["discovered"] == told["written"] + len(told["quarantined"]) == 3
    code, out, err = invoke(ingest_command, *given[:3], "Reach!", *given[4:])
    assert code == 2 and "'Reach!' is not allowed" in err
    code, out, err = invoke(ingest_command, *given, "--set", "mapping.stat=1")
    assert code == 2 and "did you mean 'state'" in err


def test_the_remap_command(store, tmp_path):
    flips = [argument for flip in FLIP for argument in ("--set", flip)]
    code, out, _ = invoke(remap_command, "reach", "--store", store, *flips, "--json")
    assert code == 0 and json.loads(out)["version"] == "reach@v2"
    mine = tmp_path / "mine.yaml"
    mine.write_text(json.dumps(load_spec("robomimic", ["mapping.actions.command=null"]).to_json()))
    code, out, _ = invoke(remap_command, "reach", "--store", store, "--spec", mine)
    assert code == 0 and out.startswith("reach@v3: 4 episodes, 160 frames")
    assert list(read_manifest(Store(store), resolve(Store(store), "reach")).schema.streams) == ["next_state"]
    code, _, err = invoke(remap_command, "reach", "--store", store)
    assert code == 2 and "nothing to change" in err
    code, _, err = invoke(remap_command, "raech", "--store", store, *flips)
    assert code != 0 and "did you mean" in err


@pytest.mark.parametrize(("variant", "rotates"), [("sim", True), ("real", False)])
def test_the_tabletop_spec_reads_what_the_collector_writes(tmp_path, variant, rotates):
    from robot_foundry.evaluation.collection import Request, collect

    request = Request("reach_single", variant, episodes=2, seed=0, cameras=("primary",), size=32)
    collect(request, tmp_path / "reach.hdf5", quiet=True)
    version = ingest("tabletop", tmp_path / "reach.hdf5", store=tmp_path / "store", name="reach")
    manifest = read_manifest(Store(tmp_path / "store"), version)
    assert manifest.counts["episodes"] == 2 and not manifest.quarantined
    assert manifest.schema.embodiment == f"tabletop_{variant}"
    assert [camera.role for camera in manifest.schema.cameras] == ["primary"]
    names = [dim.name for dim in manifest.schema.streams["command"]]
    assert len(manifest.schema.state) == 10 and len(names) == (10 if rotates else 4)
    (rows,) = frames(tmp_path / "store", version).values()
    with h5py.File(tmp_path / "reach.hdf5") as file:
        demos = [file[f"data/demo_{i}"] for i in range(2)]
        action_NC = np.concatenate([demo["actions"][()] for demo in demos])
        position_N3 = np.concatenate([demo["obs/eef_pos"][()] for demo in demos])
        texts = [demo.attrs["instruction"] for demo in demos]
    command = column(rows, "action.command")
    np.testing.assert_allclose(command[:, :3], action_NC[:, :3], atol=1e-6)
    np.testing.assert_allclose(command[:, -1], action_NC[:, -1], atol=1e-6)
    if rotates:
        from scipy.spatial.transform import Rotation

        matrix_N33 = Rotation.from_rotvec(action_NC[:, 3:6]).as_matrix()
        np.testing.assert_allclose(command[:, 3:6], matrix_N33[:, :, 0], atol=1e-6)
    np.testing.assert_allclose(column(rows, "state")[:, :3], position_N3, atol=1e-6)
    folder = tmp_path / "store" / "datasets" / "reach" / version.version_id
    annotations = pa.ipc.open_file(folder / "annotations.arrow").read_all().to_pylist()
    assert [row["text"] for row in annotations] == texts
