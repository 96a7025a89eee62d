"""foundry-data validate: a whole store is clean, and each way to damage one is found and named."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import pyarrow as pa
import pytest

from robot_foundry.catalog.manifest import Manifest, commit, read_manifest
from robot_foundry.catalog.mixture import commit_mixture, make_mixture
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import read_table, table_digest, write_table
from robot_foundry.catalog.validation import validate
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.ingest import ingest
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.remapping import remap, spec_of
from robot_foundry.ingest.spec import load_spec
from robot_foundry.normalization.checks import CHECKS
from robot_foundry.normalization.digest import Digest
from robot_foundry.shards.index import read_index

make = runpy.run_path(str(Path(__file__).parent.parent / "examples" / "make_robomimic.py"))["make"]
SAMPLES = os.environ.get("FOUNDRY_SAMPLES")
LIFT = "hdf5/lift_human_replay_robomimic_image84.hdf5"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A source of two files, so two shards, and a store with reach@v1."""
    folder = tmp_path_factory.mktemp("validate")
    (folder / "source").mkdir()
    for i in range(2):
        make(folder / "source" / f"part_{i}.hdf5", seed=i, episodes=2, frames=40, size=16)
    ingest("robomimic", folder / "source", store=folder / "store", name="reach")
    return folder


@pytest.fixture(scope="module")
def cores():
    """Workers for all tests here, in one Ray session."""
    ray = pytest.importorskip("ray")
    ray.init(address="local", num_cpus=2, object_store_memory=1 << 27, log_to_driver=False)
    yield 2
    ray.shutdown()


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made / "store", tmp_path / "store")


def found(store, ref="reach", **how):
    return [finding for one in validate(ref, store=store, **how) for finding in one.findings]


def checks(store, **how):
    return sorted({finding.check for finding in found(store, **how)})


def tar_of(store, number=0):
    return sorted((store / "shards" / "reach").glob("*.tar"))[number]


def member(tar, suffix):
    index = read_index(Store(tar.parent).storage, tar.name.replace(".tar", ".index.arrow"))
    return next(row for row in index.to_pylist() if row["name"].endswith(suffix))


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def folder_of(store):
    return Path(store) / "datasets" / "reach" / resolve(Store(store), "reach").version_id


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
    tables = dict(read_manifest(Store(store), resolve(Store(store), "reach")).tables)
    version = recommitted(store, tables=tables | {name: table_digest(table)})
    Store(store).storage.write(Store(store).table("reach", version.version_id, name), write_table(table))
    return version


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_store_is_clean_and_what_was_looked_at_is_counted(made, deep):
    [one] = validate("reach", store=made / "store", deep=deep)
    assert one.findings == ()
    images = 4 * 40 * 2
    assert one.checked == {
        "shards": 2,
        "episodes": 4,
        "frames": 160,
        "members": images + 2 * 4,
        "images_decoded": images if deep else 0,
        "tables": 5,
    }


def test_workers_find_the_same(store, cores):
    flip(tar_of(store), member(tar_of(store), ".jpg")["offset"] + 200)
    assert found(store, deep=True, workers=cores) == found(store, deep=True)


def test_a_flipped_byte_of_an_image_is_found_deep_and_its_member_named(store):
    tar = tar_of(store)
    image = member(tar, ".jpg")
    flip(tar, image["offset"] + image["size"] // 2)
    assert found(store) == []
    [finding] = found(store, deep=True)
    assert finding.check == "tar" and image["name"] in finding.message and str(tar) in finding.message


def test_what_the_finding_says_mends_a_flipped_byte(made, store):
    tar = tar_of(store)
    before = tar.read_bytes()
    flip(tar, member(tar, ".jpg")["offset"] + 200)
    [finding] = found(store, deep=True)
    doomed = [tar, tar.with_suffix(".index.arrow"), *(store / "builds" / "reach").iterdir()]
    assert all(str(path) in finding.remedy for path in doomed[1:])
    for path in doomed:
        path.unlink()
    assert ingest("robomimic", made / "source", store=store, name="reach").seq == 1
    assert tar.read_bytes() == before and found(store, deep=True) == []


def test_what_the_finding_says_mends_a_version_that_was_remapped(made, store):
    settings = ["mapping.state.right.gripper_opening.open=0.1"]
    remap("reach", spec_of("reach", None, settings, store=store), store=store)
    tar = tar_of(store)
    flip(tar, member(tar, ".jpg")["offset"] + 200)
    (folder_of(store) / "leaves.arrow").write_bytes(b"")
    broken = found(store, deep=True)
    assert {finding.check for finding in broken} == {"tar", "tables"}
    assert all(f"{store}/builds/reach" in f.remedy and ".json" not in f.remedy for f in broken)
    shutil.rmtree(store / "builds" / "reach")
    for path in (tar, tar.with_suffix(".index.arrow")):
        path.unlink()
    ingest("robomimic", made / "source", store=store, name="reach")
    remap("reach@v1", spec_of("reach@v1", None, settings, store=store), store=store)
    assert [finding for ref in ("reach@v1", "reach@v2") for finding in found(store, ref, deep=True)] == []


def test_a_flipped_byte_of_the_arrays_or_a_header_is_found_without_reading_all(store):
    tar = tar_of(store)
    flip(tar, member(tar, ".episode.json")["offset"] + 3)
    assert checks(store) == ["tar"]
    flip(tar_of(store, 1), 5)
    assert len(found(store)) == 2


def test_a_tar_that_is_cut_off_or_gone_is_found(store):
    tar = tar_of(store)
    tar.write_bytes(tar.read_bytes()[:-10240])
    [finding] = found(store)
    assert finding.check == "tar" and "bytes where the manifest says" in finding.message
    tar.unlink()
    [finding] = found(store)
    assert finding.message == f"{tar} is missing"


def test_an_index_that_is_missing_damaged_or_of_another_tar_is_found(store):
    tar = tar_of(store)
    index = tar.with_suffix(".index.arrow")
    whole = index.read_bytes()
    index.unlink()
    [finding] = found(store)
    assert finding.check == "index" and finding.remedy == f"foundry-data index {tar}"
    assert run_command(group, "foundry-data", ["index", str(tar)]) == 0
    assert found(store) == []
    index.write_bytes(whole[: len(whole) // 2])
    assert checks(store) == ["index"]
    index.write_bytes(tar_of(store, 1).with_suffix(".index.arrow").read_bytes())
    assert checks(store) == ["index"]


def test_a_tar_with_other_content_under_its_own_index_is_found(store):
    """Tar and index agree with each other, and neither with the manifest."""
    for suffix in (".tar", ".index.arrow"):
        one, other = tar_of(store).with_suffix(suffix), tar_of(store, 1).with_suffix(suffix)
        one.write_bytes(other.read_bytes())
    assert {f.check for f in found(store)} <= {"tar", "index"} and found(store)


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
    table = read_table(Store(path.parent).storage, path.name)
    flags = pa.array([0] * table.num_rows, pa.uint32())
    path.write_bytes(write_table(table.set_column(3, "flags", flags)))
    [finding] = found(store)
    assert "other values than the manifest names" in finding.message
    path.write_bytes(write_table(table.drop_columns(["flags"])))
    assert "columns of its kind" in found(store)[0].message


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
    content = json.loads(whole)
    content["schema"]["fps"] = 30.0
    path.write_bytes(json.dumps(content).encode())
    [finding] = found(store)
    assert finding.check == "manifest" and "holds" in finding.message
    content = json.loads(whole)
    content["counts"]["frames"] += 1
    path.write_bytes(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
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
    episodes = read_table(Store(folder_of(store)).storage, "episodes.arrow")
    rows = episodes.to_pylist()
    rows[1]["num_frames"] += 1
    version = with_table(store, "episodes", pa.Table.from_pylist(rows, schema=episodes.schema))
    found_now = found(store, str(version))
    assert {"windows", "counts"} <= {f.check for f in found_now}
    assert any(rows[1]["key"] in f.message for f in found_now if f.check == "windows")


def test_annotations_outside_their_episode_are_found(store):
    annotations = read_table(Store(folder_of(store)).storage, "annotations.arrow")
    rows = annotations.to_pylist()
    rows[0]["end"] = 41
    version = with_table(store, "annotations", pa.Table.from_pylist(rows, schema=annotations.schema))
    assert [f.check for f in found(store, str(version))] == ["annotations"]


def test_leaves_that_are_not_the_statistics_of_the_rows_are_found(store):
    leaves = read_table(Store(folder_of(store)).storage, "leaves.arrow")
    rows = leaves.to_pylist()
    rows[3]["digest"] = Digest.of([0.0, 1.0]).to_bytes()
    version = with_table(store, "leaves", pa.Table.from_pylist(rows, schema=leaves.schema))
    [finding] = [f for f in found(store, str(version)) if f.check == "tables"]
    assert rows[3]["dim"] in finding.message


def test_a_mixture_is_validated_with_its_components(store):
    opened = Store(store)
    commit_mixture(opened, make_mixture(opened, {"reach": 1}), "mix")
    assert [str(one.version) for one in validate("mix", store=store)] == ["mix@v1", "reach@v1"]
    assert found(store, "mix") == []
    tar_of(store).unlink()
    assert [f.check for f in found(store, "mix")] == ["tar"]
    (folder_of(store) / "manifest.json").unlink()
    assert {f.check for f in found(store, "mix")} == {"mixture", "manifest"}


def test_the_command_prints_sentences_and_next_commands_and_ends_with_3(made, tmp_path, capsys):
    store = tmp_path / "store"
    arguments = ["validate", "reach", "--store", str(store)]
    ingest("robomimic", made / "source", store=store, name="reach")
    assert run_command(group, "foundry-data", arguments) == 0
    assert "reach@v1: nothing found (2 shards, 4 episodes, 160 frames" in capsys.readouterr().out

    with (
        h5py.File(made / "source" / "part_0.hdf5", "r") as file,
        h5py.File(tmp_path / "bad.hdf5", "w") as bad,
    ):
        file.copy("data", bad)
        for demo in bad["data"].values():
            demo["actions"][:, 6] *= -1
    ingest("robomimic", tmp_path / "bad.hdf5", store=store, name="reach")
    assert run_command(group, "foundry-data", arguments) == 3
    out, err = capsys.readouterr()
    of_streams = [f"gripper_polarity:action.{s} right.gripper_opening" for s in ("command", "next_state")]
    ignore = [part for name in of_streams for part in ("--ignore", name)]
    assert "validate reach --ignore 'gripper_polarity:action.command right.gripper_opening' --ignore" in err
    assert "[gripper_polarity] reach@v2: right.gripper_opening of action.command goes against" in out
    assert run_command(group, "foundry-data", [*arguments, *ignore[:2]]) == 3
    assert run_command(group, "foundry-data", [*arguments, *ignore, "--ignore", "lag"]) == 0
    told, err = capsys.readouterr()
    assert "[gripper_polarity, ignored] reach@v2: right.gripper" in told and "'lag' is of nothing" in err
    assert run_command(group, "foundry-data", [*arguments, "--ignore", "tra"]) == 2
    assert "there is no check 'tra' of the data" in capsys.readouterr().err
    override = "mapping.actions.command.right.gripper_opening.closed=-1"
    assert f"next: foundry-data remap reach@v2 --set {override}" in out
    sets = ["--set", override, "--set", override.replace("closed=-1", "open=1")]
    sets += [value.replace("command", "next_state") for value in sets]
    assert run_command(group, "foundry-data", ["remap", "reach@v2", *sets, "--store", str(store)]) == 0
    capsys.readouterr()
    assert run_command(group, "foundry-data", [*arguments, "--json"]) == 0
    [one] = json.loads(capsys.readouterr().out)["versions"]
    assert one["version"] == "reach@v3"
    follow = one["following"]["action.command right.ee_position"]
    assert follow["lag"] == 0 and follow["gain"] == pytest.approx(0.2, abs=0.01)  # as the file was made
    assert run_command(group, "foundry-data", ["validate", "raech", "--store", str(store)]) == 1


def test_every_check_is_documented_by_its_name():
    page = (Path(__file__).parent.parent / "docs" / "checks.md").read_text(encoding="utf-8")
    data = page[page.index("## Data") : page.index("## The store")]
    assert tuple(re.findall(r"^\| `(\w+)` \|", data, re.MULTILINE)) == CHECKS


@pytest.mark.parametrize(("task", "variant"), [("pick_place", "sim"), ("push", "real")])
def test_recordings_of_the_simulated_world_are_clean(task, variant, tmp_path):
    file = tmp_path / f"{task}.hdf5"
    collect(Request(task, variant, 4, 3, None, 16), file, quiet=True)
    ingest("tabletop", file, store=tmp_path / "store", name="demos")
    assert found(tmp_path / "store", "demos", deep=True) == []


def test_a_store_at_a_url_is_validated_the_same(made, tmp_path):
    far = Store(f"memory://{tmp_path.name}")
    for path in Store(made / "store").storage.list():
        far.storage.write(path, Store(made / "store").storage.read_bytes(path))
    [one] = validate("reach", store=far, deep=True)
    assert one.findings == () and one.checked["images_decoded"] == 320
    tar = next(path for path in far.storage.list("shards") if path.endswith(".tar"))
    data = bytearray(far.storage.read_bytes(tar))
    data[3000] ^= 1
    far.storage.write(tar, bytes(data))
    [finding] = found(far, deep=True)
    assert finding.check == "tar" and finding.where == f"{far.url}/{tar}"


def test_an_episode_in_several_tars_is_validated_with_all_its_images(tmp_path):
    make(tmp_path / "long.hdf5", seed=2, episodes=1, frames=40, size=16)
    spec = load_spec("robomimic", ["content.shard_bytes=1500"])
    ingest(spec, tmp_path / "long.hdf5", store=tmp_path / "store", name="reach")
    [one] = validate("reach", store=tmp_path / "store", deep=True)
    assert one.findings == () and one.checked["images_decoded"] == 80 and one.checked["shards"] > 2
    segment = member_of_a_segment(tmp_path / "store")
    flip(segment[0], segment[1] + 200)
    [finding] = found(tmp_path / "store", deep=True)
    assert str(segment[0]) in finding.message


def member_of_a_segment(store):
    for tar in sorted((store / "shards" / "reach").glob("*.tar")):
        index = read_index(Store(tar.parent).storage, tar.name.replace(".tar", ".index.arrow"))
        if not any(name.endswith(".episode.json") for name in index["name"].to_pylist()):
            return tar, member(tar, ".jpg")["offset"]
    raise AssertionError("no segment")


def test_ingest_warns_of_what_validate_finds_whatever_the_workers(made, tmp_path, cores):
    shutil.copytree(made / "source", tmp_path / "source")
    for path in (tmp_path / "source").iterdir():
        with h5py.File(path, "r+") as file:
            for demo in file["data"].values():
                demo["actions"][:, 6] *= -1
                demo["obs/robot0_eef_pos"][:] *= 1000
    manifests = []
    for workers in (0, cores):
        store = tmp_path / f"store{workers}"
        report = run("robomimic", tmp_path / "source", store=store, name="reach", options=Options(workers))
        assert any("goes against the opening" in warning for warning in report.warnings)
        assert any("millimetres for metres" in warning for warning in report.warnings)
        again = run("robomimic", tmp_path / "source", store=store, name="reach")
        assert again.noop and again.warnings == report.warnings
        kept = read_manifest(Store(store), report.version).provenance["checks"]
        assert [entry["check"] for entry in kept["findings"]] == [f.check for f in found(store)]
        manifests.append((folder_of(store) / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]
    manifest = Manifest.from_json(manifests[0])
    assert replace(manifest, provenance={}).version_id == manifest.version_id


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
@pytest.mark.parametrize(
    ("spec", "file", "wrong", "check"),
    [
        ("robomimic", LIFT, "state.right.ee_rotation.order=wxyz", "motion"),
        ("robomimic", LIFT, "actions.command.right.ee_position.columns=[3,6]", "motion"),
        ("robomimic", LIFT, "state.right.ee_position.scale=1000", "magnitude"),
        (
            "robosuite",
            "hdf5/robosuite141_lift_demo.hdf5",
            "state.right.joint_position.scale=57.3",
            "magnitude",
        ),
        ("bridge", "rlds/bridge_dataset", "state.right.ee_rotation.sequence=ZYX", "motion"),
    ],
)
def test_a_wrong_mapping_of_a_real_recording_is_found(spec, file, wrong, check, tmp_path):
    path = Path(str(SAMPLES)) / file
    ingest(load_spec(spec, [f"mapping.{wrong}"]), path, store=tmp_path, name="real")
    assert check in {finding.check for finding in found(tmp_path, "real")}


@pytest.mark.skipif(not SAMPLES, reason="FOUNDRY_SAMPLES does not name the folder of samples")
@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("robomimic", LIFT),
        ("robosuite", "hdf5/robosuite141_lift_demo.hdf5"),
        ("robosuite", "hdf5/robosuite101_stack_demo.hdf5"),
        ("aloha", "hdf5_aloha"),
        ("bridge", "rlds/bridge_dataset"),
    ],
)
def test_real_recordings_are_clean(spec, file, tmp_path):
    ingest(spec, Path(str(SAMPLES)) / file, store=tmp_path, name="real")
    assert found(tmp_path, "real", deep=True) == []
