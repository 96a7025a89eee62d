"""Adopted tars that are moved or changed, and what a store lost of them: told, never read, mended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from foundry_testing import adopted_tars as tars_of_others
from foundry_testing.adopted_tars import (
    PAIRS,
    TARS,
    adopted_in,
    content,
    damage_of,
    dataset,
    flip,
    ingest,
    manifest_of,
    read_all,
    samples,
    tar_of,
)

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import adopted_tars, open_tar
from robot_foundry.loader.load import load
from robot_foundry.loader.pairs.spec import PairRows, PairSpec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptMember

# Fixtures.
source = tars_of_others.source


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
