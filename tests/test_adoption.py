"""Tars of others become part of a version where they lie: pairs of WebDataset tars, with content.adopt.

What adoption must give is told by a copying ingest of the same tars, and by tarfile.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from foundry_testing import adopted_tars as tars_of_others
from foundry_testing.adopted_tars import (
    ADOPTING,
    PAIRS,
    TARS,
    adopted_in,
    content,
    damage_of,
    ingest,
    manifest_of,
    picture,
    read_all,
    samples,
    tar_of,
)
from foundry_testing.kills import killed

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import TarPlace, adopted_tars, lacking_tars, open_tar, write_place
from robot_foundry.cli import foundry_data
from robot_foundry.cli.output import run as run_command
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.adopt import TarTask, index_beside
from robot_foundry.shards.index import read_index, tar_sha256

# Fixtures.
source, undisturbed = tars_of_others.source, tars_of_others.undisturbed


def test_adopted_pairs_are_those_that_a_copy_has(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    ingest(source, tmp_path, "content.adopt=false")
    adopted, copied = read_all(undisturbed), read_all(tmp_path)
    assert len(adopted) == TARS * PAIRS
    assert adopted == copied


def test_no_picture_is_in_the_store(source: Path, undisturbed: Path) -> None:
    manifest, store = manifest_of(undisturbed), Store(undisturbed)
    own = [entry for entry in manifest.shards if entry.num_groups]
    for entry in own:
        with tarfile.open(undisturbed / store.shard_tar("photos", entry.key)) as tar:
            assert {name.rpartition(".")[2] for name in tar.getnames()} == {"json"}
    adopted = adopted_in(undisturbed)
    assert {name: entry.tar_bytes for name, entry in adopted.items()} == {
        path.name: path.stat().st_size for path in source.iterdir()
    }
    assert [entry for entry in manifest.shards if entry not in own] == adopted_tars(store, manifest)
    assert sum(entry.num_groups for entry in own) == TARS * PAIRS


def test_an_adopted_tar_is_read_by_the_names_of_others(undisturbed: Path) -> None:
    store, manifest = Store(undisturbed), manifest_of(undisturbed)
    for number in range(TARS):
        key = adopted_in(undisturbed)[f"{number:05d}.tar"].key
        reader = open_tar(store, "photos", key, manifest.tar_hashes)
        held = {reader.name(row): reader.read(row) for row in range(len(reader))}
        assert held == samples(number)


def test_the_place_enters_no_id(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(source, tmp_path / "elsewhere"))
    report = ingest(elsewhere, tmp_path / "store")
    before = manifest_of(undisturbed)
    after = manifest_of(tmp_path / "store")
    assert report.version is not None
    assert (after.version_id, after.build_id) == (before.version_id, before.build_id)
    first, second = content(undisturbed), content(tmp_path / "store")
    assert first.keys() == second.keys()
    # The manifest and the record of the build say in their provenance which folder was given.
    unlike = {name for name, data in first.items() if data != second[name]}
    assert {name.rpartition("/")[2].partition(".")[2] for name in unlike} == {"place.json", "json"}
    assert {name.partition("/")[0] for name in unlike} == {"shards", "builds", "datasets"}
    assert all(name.endswith(".place.json") for name in unlike if name.startswith("shards/"))


def test_workers_write_the_same_bytes(
    source: Path, undisturbed: Path, tmp_path: Path, ray_workers: int
) -> None:
    ingest(source, tmp_path, workers=2)
    assert content(tmp_path) == content(undisturbed)


@pytest.mark.parametrize(
    "point",
    [
        "adopted-place-written",
        "adopted-place-written:2",
        "adopted-index-written",
        "adopted-index-written:3",
        "shard-tar-written",
        "shard-done",
        "tables-done",
    ],
)
def test_a_killed_adoption_goes_on(point: str, source: Path, undisturbed: Path, tmp_path: Path) -> None:
    arguments = [
        "ingest",
        "pairs",
        str(source),
        "--as",
        "photos",
        "--store",
        str(tmp_path),
        "--set",
        *ADOPTING,
    ]
    program = "from robot_foundry.cli.foundry_data import main; main()"
    killed(program, *arguments, at=point)
    assert not list(tmp_path.glob("refs/*/*"))
    ingest(source, tmp_path)
    assert content(tmp_path) == content(undisturbed)


def test_a_moved_store_finds_its_tars(undisturbed: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(undisturbed, tmp_path / "moved"))
    assert not lacking_tars(Store(store), manifest_of(store))
    assert read_all(store) == read_all(undisturbed)


def test_an_index_beside_the_tar_is_taken_only_if_it_is_of_it(
    source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    tars = Path(shutil.copytree(source, tmp_path / "tars"))
    storage = open_storage(tars)
    for number in range(TARS):
        assert index_beside(TarTask(storage, f"{number:05d}.tar", dry_run=False)).status == "made"
    # One is of another tar of the same size, one is no index.
    shutil.copy(tars / "00000.index.arrow", tars / "00001.index.arrow")
    assert (tars / "00000.tar").stat().st_size == (tars / "00001.tar").stat().st_size
    (tars / "00002.index.arrow").write_bytes(b"ARROW1")
    ingest(tars, tmp_path / "store")
    shards = {name: data for name, data in content(tmp_path / "store").items() if name.startswith("shards/")}
    expected = {name: data for name, data in content(undisturbed).items() if name.startswith("shards/")}
    assert {name for name in shards if shards[name] != expected[name]} == {
        name for name in shards if name.endswith(".place.json")
    }


def test_a_tar_that_cannot_be_indexed_is_quarantined(source: Path, tmp_path: Path) -> None:
    tars = Path(shutil.copytree(source, tmp_path / "tars"))
    (tars / "00003.tar").write_bytes(tar_of({f"deep/{name}": data for name, data in samples(3).items()}))
    (tars / "00004.tar").write_bytes(tar_of(samples(4))[:9000])
    report = ingest(tars, tmp_path / "store")
    reasons = {entry.unit.partition("#")[0]: entry.reason for entry in report.refused}
    assert reasons.keys() == {"00003.tar", "00004.tar"}
    assert "not a plain file name" in reasons["00003.tar"] and "cut off" in reasons["00004.tar"]
    assert all("without content.adopt it is copied" in reason for reason in reasons.values())
    assert report.written == TARS * PAIRS
    assert len(adopted_tars(Store(tmp_path / "store"), manifest_of(tmp_path / "store"))) == TARS
    copied = ingest(tars, tmp_path / "copied", "content.adopt=false")
    assert copied.written > (TARS + 1) * PAIRS


def test_what_is_no_tar_is_not_adopted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.jpg").write_bytes(picture(1))
    (source / "pairs.jsonl").write_text(json.dumps({"image": "a.jpg", "caption": "a picture"}) + "\n")
    with pytest.raises(FoundryError, match="cannot be adopted"):
        ingest(source, tmp_path / "store")


def test_a_tar_that_is_there_twice_is_adopted_once(source: Path, tmp_path: Path) -> None:
    tars = Path(shutil.copytree(source, tmp_path / "tars"))
    shutil.copy(tars / "00000.tar", tars / "copy.tar")
    report = ingest(tars, tmp_path / "store", *ADOPTING, "content.deduplicate=false")
    assert report.written == (TARS + 1) * PAIRS
    manifest = manifest_of(tmp_path / "store")
    assert len(adopted_tars(Store(tmp_path / "store"), manifest)) == TARS
    assert not damage_of(tmp_path / "store", deep=True)


def test_tars_in_an_object_store_are_adopted_there(source: Path, undisturbed: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/tars"
    remote = open_storage(url)
    for path in sorted(source.iterdir()):
        remote.write(path.name, path.read_bytes())
    store = f"memory://{tmp_path.name}/store"
    ingest(url, store)
    assert manifest_of(store).version_id == manifest_of(undisturbed).version_id
    first = adopted_in(store)["00000.tar"]
    told = json.loads(open_storage(store).read_bytes(f"shards/photos/{first.key}.place.json"))
    assert told == {"bytes": first.tar_bytes, "url": f"{url}/00000.tar"}
    assert not damage_of(store, deep=True)
    assert read_all(store) == read_all(undisturbed)
    index = read_index(open_storage(store), f"shards/photos/{first.key}.index.arrow")
    assert tar_sha256(index) == first.tar_sha256 == hashlib.sha256(tar_of(samples(0))).hexdigest()


def test_a_tar_in_the_store_goes_before_a_place(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ingest(source, store, "content.adopt=false")
    [entry] = manifest_of(store).shards
    write_place(Store(store), "photos", entry.key, TarPlace("/nowhere/x.tar", 1))
    assert not lacking_tars(Store(store), manifest_of(store)) and not damage_of(store)
    assert len(read_all(store)) == TARS * PAIRS


def test_show_says_where_tars_lie(
    source: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["show", "photos", "--store", str(undisturbed)]
    assert run_command(foundry_data.group, "foundry-data", arguments) == 0
    shown = capsys.readouterr().out
    num_bytes = sum(path.stat().st_size for path in source.iterdir())
    assert f"elsewhere    3 tars of these, {num_bytes / 1e3:.1f} kB; the first is {source}/0000" in shown
