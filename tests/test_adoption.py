"""Tars of others become part of a version where they lie: pairs of WebDataset tars, with content.adopt.

What adoption must give is told by a copying ingest of the same tars, and by tarfile.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robot_foundry.catalog.manifest import Manifest, ShardEntry, read_manifest
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import TarPlace, adopted_tars, lacking_tars, open_tar, read_place, write_place
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.cli import foundry_data
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.loader.load import load
from robot_foundry.loader.pairs.dataset import PairDataset
from robot_foundry.loader.pairs.spec import PairRows, PairSpec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.adopt import TarTask, index_beside
from robot_foundry.shards.errors import CorruptMember
from robot_foundry.shards.index import read_index, tar_sha256

ADOPTING = ("content.adopt=true",)
TARS, PAIRS = 3, 5


def picture(seed: int, encoding: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed % 3, 24, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, encoding)
    return sink.getvalue()


def tar_of(members: dict[str, bytes]) -> bytes:
    """A tar as others write it: GNU format, with times and owners."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(data), 1.7e9, "someone"
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def samples(number: int) -> dict[str, bytes]:
    """The members of a tar: JPEGs and a PNG under names that are not ours, and texts."""
    members = {}
    for i in range(PAIRS):
        seed, suffix = number * 100 + i, "PNG" if i == 1 else "jpg"
        members[f"IMG {seed}.{suffix}"] = picture(seed, "PNG" if i == 1 else "JPEG")
        members[f"IMG {seed}.json"] = json.dumps({"caption": f"picture {seed}", "seed": seed}).encode()
    return members


def make_source(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(TARS):
        (folder / f"{number:05d}.tar").write_bytes(tar_of(samples(number)))
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("source") / "tars")


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that adopted the source in one run without trouble."""
    store = tmp_path_factory.mktemp("undisturbed")
    report = ingest(source, store)
    assert (report.written, report.refused, report.noop) == (TARS * PAIRS, (), False)
    return store


def ingest(source: Path | str, store: Path | str, *sets: str, **options: Any) -> Report:
    spec = load_spec("pairs", sets or ADOPTING)
    return run(spec, str(source), store=store, name="photos", options=Options(**options))


def manifest_of(store: Path | str) -> Manifest:
    opened = Store(store)
    return read_manifest(opened, OpenVersions(opened).open("photos").version)


def adopted_in(store: Path | str) -> dict[str, ShardEntry]:
    """The adopted tars of the version by their names in the source."""
    entries = {}
    for entry in adopted_tars(Store(store), manifest_of(store)):
        place = read_place(Store(store), "photos", entry.key)
        assert place is not None
        entries[place.name] = entry
    return entries


def dataset(store: Path | str) -> PairDataset:
    versions = OpenVersions(Store(store))
    return PairDataset(versions, versions.open("photos").version)


def read_all(store: Path | str) -> list[tuple[str, dict[str, str], bytes]]:
    """Id, captions and pixels of all pairs, by their ids."""
    pairs = (dict(pair) for pair in dataset(store))
    return sorted((p["id"], dict(p["captions"]), b"".join(x.tobytes() for x in p["pictures"])) for p in pairs)


def content(store: Path) -> dict[str, bytes]:
    """Bytes of all that a store keeps, not of its cache."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for top in ("shards", "datasets", "refs", "builds")
        for path in sorted((store / top).rglob("*"))
        if path.is_file() and not path.name.startswith(".tmp-")
    }


def damage_of(store: Path | str, *, deep: bool = False) -> list[tuple[str, str, str]]:
    [found] = validate("photos", store=store, deep=deep)
    return [(finding.check, finding.message, finding.remedy or "") for finding in found.damage]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


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


def test_workers_write_the_same_bytes(source: Path, undisturbed: Path, tmp_path: Path) -> None:
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
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "FOUNDRY_KILL_AT": point},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not list(tmp_path.glob("refs/*/*"))
    ingest(source, tmp_path)
    assert content(tmp_path) == content(undisturbed)


def moved(source: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A store, and where its source was moved to after it was adopted."""
    first, second, store = tmp_path / "first", tmp_path / "second", tmp_path / "store"
    shutil.copytree(source, first)
    ingest(first, store)
    first.rename(second)
    return store, second


@pytest.mark.parametrize("cache", [True, False])
def test_a_moved_tar_is_told_and_adopted_again(source: Path, tmp_path: Path, cache: bool) -> None:
    store, second = moved(source, tmp_path)
    before = manifest_of(store)
    if not cache:
        shutil.rmtree(store / "cache")
    with pytest.raises(FoundryError, match=f"adopted tar {tmp_path}/first/0000.[.]tar is missing") as told:
        dataset(store)[0]
    assert "ingest" in (told.value.hint or "")
    missing = {message for check, message, _ in damage_of(store) if check == "tar"}
    assert missing == {f"{tmp_path}/first/{number:05d}.tar is missing" for number in range(TARS)}
    report = ingest(second, store)
    assert report.version is not None and (report.version.seq, report.noop) == (1, False)
    assert manifest_of(store).version_id == before.version_id
    assert not damage_of(store, deep=True)
    assert len(read_all(store)) == TARS * PAIRS
    assert ingest(second, store).noop


def test_a_moved_store_finds_its_tars(undisturbed: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(undisturbed, tmp_path / "moved"))
    assert not lacking_tars(Store(store), manifest_of(store))
    assert read_all(store) == read_all(undisturbed)


def test_a_changed_byte_is_never_read(source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "tars"))
    store = tmp_path / "store"
    ingest(changed, store)
    tar = changed / "00001.tar"
    reader = open_tar(Store(store), "photos", adopted_in(store)[tar.name].key)
    flip(tar, int(reader.index["offset"][0].as_py()) + 30)
    with pytest.raises(CorruptMember, match=str(tar)):
        reader.read_name("IMG 100.jpg")
    with pytest.raises(CorruptMember, match=str(tar)):
        read_all(store)
    [(check, message, remedy)] = [found for found in damage_of(store, deep=True) if found[0] == "tar"]
    assert message == f"{tar} has other bytes than were written, in 'IMG 100.jpg'"
    assert "put the tar back" in remedy and "delete" not in remedy


def test_training_goes_on_without_a_damaged_picture(source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "tars"))
    store = tmp_path / "store"
    ingest(changed, store)
    tar = changed / "00001.tar"
    reader = open_tar(Store(store), "photos", adopted_in(store)[tar.name].key)
    for row in range(0, len(reader), 2):
        flip(tar, int(reader.index["offset"][row].as_py()) + 30)
    spec = PairSpec(PairRows(length=32, image=(16, 16), packed=False), image_tokens=4)
    with load("photos", spec, seed=0, global_batch=4, store=store, max_substituted=1.0) as loader:
        batches = iter(loader)
        for _ in range(TARS * PAIRS // 4):
            next(batches)
        damaged = {told.member: told.reason for told in loader.substitutions}
    assert damaged
    assert damaged.keys() <= {name for name in samples(1) if not name.endswith(".json")}
    assert all(f"of {tar} is damaged" in reason for reason in damaged.values())


def test_a_tar_of_another_size_is_not_opened(source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "tars"))
    store = tmp_path / "store"
    ingest(changed, store)
    before = manifest_of(store)
    (changed / "00002.tar").write_bytes(tar_of(samples(7)) + bytes(10240))
    size = (changed / "00002.tar").stat().st_size
    with pytest.raises(FoundryError, match=f"00002.tar has {size:,} bytes in place of"):
        read_all(store)
    assert "tar" in {check for check, _, _ in damage_of(store)}
    report = ingest(changed, store)
    assert report.version is not None and report.version.seq == 2
    assert manifest_of(store).version_id != before.version_id
    # The others are still what they were.
    keys = {entry.key for entry in adopted_tars(Store(store), manifest_of(store))}
    assert len(keys & {entry.key for entry in before.shards}) == TARS - 1


def test_a_header_of_another_size_is_found_without_reading_all(source: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(source, tmp_path / "tars"))
    store = tmp_path / "store"
    ingest(changed, store)
    tar = changed / "00000.tar"
    flip(tar, 124 + 10)  # the last digit of the size of the first member
    assert [message for _, message, _ in damage_of(store)] == [
        f"{tar} has no header of 'IMG 0.jpg' where the index has it"
    ]


@pytest.mark.parametrize("lost", ["index.arrow", "place.json"])
@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_what_the_store_knows_of_a_tar_is_mended(source: Path, tmp_path: Path, lost: str, how: str) -> None:
    store = tmp_path / "store"
    ingest(source, store)
    undamaged = content(store)
    entry = adopted_in(store)["00000.tar"]
    path = store / f"shards/photos/{entry.key}.{lost}"
    path.unlink() if how == "removed" else path.write_bytes(b'{"url": 3}')
    with pytest.raises(FoundryError):
        read_all(store)
    [(_, _, remedy)] = [found for found in damage_of(store) if found[0] in ("index", "tar")]
    assert "ingest" in remedy
    if (lost, how) == ("index.arrow", "damaged"):
        assert remedy.startswith("delete it, then")
        path.unlink()
    ingest(source, store)
    assert content(store) == undamaged


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
