"""foundry-data validate on tars and indexes: whole ones are clean, and each damage is found and named."""

from __future__ import annotations

import shutil

import pytest
from foundry_testing import reach_stores
from foundry_testing.reach_stores import checks, flip, folder_of, found, member, tar_of
from make_robomimic import make

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest import ingest
from robot_foundry.ingest.remapping import remap, spec_of
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.shards.index import read_index

# Fixtures.
made, store = reach_stores.made, reach_stores.store


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
