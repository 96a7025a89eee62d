"""foundry-data validate on manifests, mixtures and tables: whatever they say wrongly is found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import pyarrow as pa
import pytest
from foundry_testing import reach_stores
from foundry_testing.reach_stores import checks, folder_of, found, tar_of
from make_robomimic import make

from robot_foundry.catalog.manifest import Manifest, TableFile, commit, read_manifest
from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.ingest import ingest
from robot_foundry.ingest.remapping import remap, spec_of
from robot_foundry.normalization.digest import Digest
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.sealed import seal

# Fixtures.
made, store = reach_stores.made, reach_stores.store


def recommitted(store, **changed):
    """A manifest that says something else and is whole: as a writer with a fault would have made it."""
    opened = Store(store)
    old = read_manifest(opened, resolve(opened, "reach"))
    values = {name: getattr(old, name) for name in Manifest.__dataclass_fields__} | changed
    manifest = Manifest(**(values | {"build_id": "0" * 32}))
    source, target = folder_of(store), folder_of(store).parent / manifest.version_id
    if source != target:
        shutil.copytree(source, target)
    (target / "manifest.json").unlink()
    return commit(opened, manifest)


def with_table(store, name, table):
    """A version in which a table holds other rows and the manifest agrees with them."""
    old = read_manifest(Store(store), resolve(Store(store), "reach"))
    data = write_table(table)
    version = recommitted(
        store,
        tables=dict(old.tables) | {name: table_digest(table)},
        files=dict(old.files) | {name: TableFile.of(data)},
    )
    Store(store).storage.write(Store(store).table("reach", version.version_id, name), data)
    return version


def rows_of(store, name):
    return pa.ipc.open_file(folder_of(store) / f"{name}.arrow").read_all()


@pytest.mark.parametrize("name", ["episodes", "annotations", "leaves", "frames"])
def test_a_truncated_or_missing_table_is_found(store, name):
    path = (
        folder_of(store) / f"{name}.arrow" if name != "frames" else next((folder_of(store) / name).iterdir())
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    [finding] = found(store)
    assert finding.check == "tables" and str(path) in finding.message
    path.unlink()
    assert [f.check for f in found(store)] == ["tables"]


def test_a_changed_value_of_a_table_is_found(store):
    path = next((folder_of(store) / "frames").iterdir())
    name = f"frames/{path.stem}"
    table = rows_of(store, name)
    changed = table.set_column(3, "flags", pa.array([0] * table.num_rows, pa.uint32()))
    path.write_bytes(write_table(changed))
    [finding] = found(store)
    assert "its bytes are not those that the manifest names" in finding.message
    old = read_manifest(Store(store), resolve(Store(store), "reach"))
    for other, said in (
        (changed, "other values than the manifest"),
        (table.drop_columns(["flags"]), "columns"),
    ):
        data = write_table(other)
        version = recommitted(store, files=dict(old.files) | {name: TableFile.of(data)})
        Store(store).storage.write(Store(store).table("reach", version.version_id, name), data)
        assert said in found(store)[0].message


def test_what_the_finding_says_mends_a_table(made, store):
    (folder_of(store) / "episodes.arrow").write_bytes(b"")
    [finding] = found(store)
    [build] = (store / "builds" / "reach").iterdir()
    assert str(build) in finding.remedy
    build.unlink()
    ingest("robomimic", made / "source", store=store, name="reach")
    assert found(store) == []


def test_an_edited_manifest_is_found_whatever_was_edited(store):
    path = folder_of(store) / "manifest.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"20.0", b"30.0", 1))
    [finding] = found(store)
    assert finding.check == "manifest" and "its checksum differs" in finding.message
    content = json.loads(whole)
    del content["checksum"]
    path.write_bytes(seal(content | {"schema": content["schema"] | {"fps": 30.0}}))
    [finding] = found(store)
    assert finding.check == "manifest" and "holds" in finding.message
    content["counts"]["frames"] += 1
    path.write_bytes(seal(content))
    assert checks(store) == ["counts", "manifest"]
    path.write_bytes(whole[:100])
    assert checks(store) == ["manifest"]
    path.unlink()
    assert checks(store) == ["manifest"]


def test_counts_that_do_not_add_up_are_found(store):
    opened = Store(store)
    counts = dict(read_manifest(opened, resolve(opened, "reach")).counts)
    recommitted(store, counts=counts | {"discovered": 7, "bytes": 1})
    messages = [f.message for f in found(store) if f.check == "counts"]
    assert any("counts 7 discovered, there are 4" in message for message in messages)
    assert any("counts 1 bytes" in message for message in messages)


def test_episodes_whose_windows_leave_their_rows_are_found(store):
    episodes = rows_of(store, "episodes")
    rows = episodes.to_pylist()
    rows[1]["num_frames"] += 1
    version = with_table(store, "episodes", pa.Table.from_pylist(rows, schema=episodes.schema))
    found_now = found(store, str(version))
    assert {"windows", "counts"} <= {f.check for f in found_now}
    assert any(rows[1]["key"] in f.message for f in found_now if f.check == "windows")


def test_annotations_outside_their_episode_are_found(store):
    annotations = rows_of(store, "annotations")
    rows = annotations.to_pylist()
    rows[0]["end"] = 41
    version = with_table(store, "annotations", pa.Table.from_pylist(rows, schema=annotations.schema))
    assert [f.check for f in found(store, str(version))] == ["annotations"]


def test_leaves_that_are_not_the_statistics_of_the_rows_are_found(store):
    leaves = rows_of(store, "leaves")
    rows = leaves.to_pylist()
    rows[3]["digest"] = Digest.of([0.0, 1.0]).to_bytes()
    version = with_table(store, "leaves", pa.Table.from_pylist(rows, schema=leaves.schema))
    [finding] = [f for f in found(store, str(version)) if f.check == "tables"]
    assert rows[3]["dim"] in finding.message


def test_a_shard_of_which_every_episode_is_quarantined_is_whole(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for seed in range(2):
        make(source / f"{seed}.hdf5", seed=seed, episodes=2, frames=5, size=16)
    with h5py.File(source / "1.hdf5", "r+") as file:
        for demo in file["data"].values():
            quaternions = demo["obs/robot0_eef_quat"][()]
            del demo["obs/robot0_eef_quat"]
            demo["obs/robot0_eef_quat"] = quaternions[:, :3]
    version = ingest("robomimic", source, store=tmp_path / "store", name="reach")
    manifest = read_manifest(Store(tmp_path / "store"), version)
    assert len(manifest.shards) == 2
    assert [entry.unit for entry in manifest.quarantined] == ["1.hdf5#demo_0", "1.hdf5#demo_1"]
    [checked] = validate("reach", store=tmp_path / "store", deep=True)
    assert checked.damage == ()


def test_a_mixture_is_validated_with_its_components(store):
    opened = Store(store)
    commit_mixture(make_mixture(opened, {"reach": 1}), "mix")
    assert [str(one.version) for one in validate("mix", store=store)] == ["mix@v1", "reach@v1"]
    assert found(store, "mix") == []
    tar_of(store).unlink()
    assert [f.check for f in found(store, "mix")] == ["tar"]
    (folder_of(store) / "manifest.json").unlink()
    assert {f.check for f in found(store, "mix")} == {"mixture", "manifest"}


@pytest.mark.parametrize("damaged", ["manifest", "edited", "build", "reference"])
@pytest.mark.parametrize("made_by", ["ingest", "remap", "mix"])
def test_what_is_said_mends_what_any_command_made(made, store, made_by, damaged):
    settings = ["mapping.state.right.gripper_opening.open=0.1"]
    opened = Store(store)

    def again():
        if made_by == "mix":
            commit_mixture(make_mixture(opened, {"reach@v1": 1}), "mix")
        elif made_by == "remap":
            remap("reach@v1", spec_of("reach@v1", None, settings, store=store), store=store)

    again()
    ref = {"ingest": "reach@v1", "remap": "reach@v2", "mix": "mix@v1"}[made_by]
    version = resolve(opened, ref)
    path = {
        "manifest": store / opened.manifest(version.dataset, version.version_id),
        "build": store / opened.build(version.dataset, version.build_id),
        "reference": store / opened.ref(version.dataset, ref.partition("@")[2]),
    }[damaged.replace("edited", "manifest")]
    content = path.read_bytes()
    told = json.loads(content)
    if damaged == "edited":
        del told["checksum"]
        path.write_bytes(seal(told | {"counts": told["counts"] | {"discovered": 7}}))
    else:
        path.write_bytes(content[:-9] + b"?" + content[-8:])
    if damaged == "reference":
        with pytest.raises(FoundryError, match="is damaged") as refused:
            resolve(Store(store), ref)
        assert "ingest, remap, tokenize or mix" in str(refused.value.hint)
        path.unlink()
    else:
        remedy = found(store, ref)[0].remedy
        known = {"ingest": "same foundry-data ingest again", "remap": "remap", "mix": "same foundry-data mix"}
        assert ("ingest, remap, tokenize or mix" if damaged == "manifest" else known[made_by]) in remedy
        for gone in re.findall(r"/\S+?(?=,? )", remedy.partition(", then")[0] + " "):
            shutil.rmtree(gone) if Path(gone).is_dir() else Path(gone).unlink()
    ingest("robomimic", made / "source", store=store, name="reach")
    again()
    assert resolve(Store(store), ref) == version and found(store, ref) == []
