"""What validate finds in versions of pairs: damage of every part, and what is probably wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from foundry_testing.pairs import (
    TestPair,
    encoded,
    random_picture,
    some_pairs,
    write_adopted,
    write_pairs,
)
from foundry_testing.shells import Shell

from robot_foundry.catalog.manifest import Manifest, commit
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.pairs.doubts import FEW, Evidence, doubts
from robot_foundry.catalog.pairs.tables import BLOCKS, PAIRS
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.validation.validate import Validation, validate
from robot_foundry.runtime.canonical import canonical_json, digest_of
from robot_foundry.shards.index import write_index
from robot_foundry.shards.pairs.shard import Encoded
from robot_foundry.shards.tar import TarWriter

FIRST = "b00000000-0000000"  # the first pair: a JPEG and a caption
Members = dict[str, bytes]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    write_pairs(made, "photos", some_pairs(40), per_shard=30)
    return made


def checked(store: Store, *, deep: bool = False) -> Validation:
    [validation] = validate("photos", store=store.url, deep=deep)
    return validation


def damage(validation: Validation) -> list[tuple[str, str]]:
    return [(finding.check, finding.message) for finding in validation.damage]


def again(store: Store, manifest: Manifest, tables: dict[str, pa.Table]) -> None:
    """Commit a version that says of itself what it has."""
    digests = {name: table_digest(table) for name, table in tables.items()}
    files = {name: TableFile.of(write_table(table)) for name, table in tables.items()}
    counts = {**manifest.counts, "bytes": sum(entry.tar_bytes for entry in manifest.shards)}
    made = replace(manifest, tables=digests, files=files, counts=counts)
    made = replace(made, build_id=digest_of(["made again", made.version_id]))
    for name, table in tables.items():
        store.storage.write(store.table("photos", made.version_id, name), write_table(table))
    commit(store, made)


def tables_of(store: Store) -> tuple[Manifest, dict[str, pa.Table]]:
    opened = OpenVersions(store).open("photos")
    return opened.manifest, {name: opened.table(name) for name in opened.manifest.tables}


def with_members(store: Store, change: Callable[[Members], Any]) -> None:
    """A version whose first tar has other members, and all else as it was."""
    manifest, tables = tables_of(store)
    first = manifest.shards[0]
    reader = open_tar(store, "photos", first.key)
    members = {reader.name(row): reader.read(row) for row in range(len(reader))}
    change(members)
    with store.storage.writer(store.shard_tar("photos", first.key)) as file:
        tar = TarWriter(file)
        for name in sorted(members):
            tar.add(name, members[name])
        summary = tar.close()
    store.storage.write(store.shard_index("photos", first.key), write_index(summary.members))
    entry = replace(first, tar_sha256=summary.sha256, tar_bytes=summary.num_bytes)
    again(store, replace(manifest, shards=(entry, *manifest.shards[1:])), tables)


def test_a_whole_version_is_found_whole(store: Store) -> None:
    pictures = sum(len(pair.pictures) for pair in some_pairs(40))
    for deep in (False, True):
        validation = checked(store, deep=deep)
        assert validation.damage == validation.doubts == ()
        assert validation.checked["pairs"] == 40 and validation.checked["shards"] == 2
        assert validation.checked["pictures_decoded"] == (pictures if deep else 0)


@pytest.mark.parametrize("deep", [False, True])
def test_a_flipped_bit_of_a_picture_is_found_where_every_byte_is_read(store: Store, deep: bool) -> None:
    key = OpenVersions(store).open("photos").manifest.shards[0].key
    reader = open_tar(store, "photos", key)
    path = store.storage.local_path(store.shard_tar("photos", key))
    assert path is not None
    data = bytearray(path.read_bytes())
    data[int(reader.index["offset"][reader.row(f"{FIRST}.jpg")].as_py()) + 40] ^= 8
    path.write_bytes(data)
    found = damage(checked(store, deep=deep))
    assert [check for check, _ in found] == (["tar"] if deep else [])
    assert not deep or f"'{FIRST}.jpg'" in found[0][1]


def patched(members: Members, name: str, **values: Any) -> None:
    members[name] = canonical_json(json.loads(members[name]) | values)


def picture_patched(members: Members, **values: Any) -> None:
    pair = json.loads(members[f"{FIRST}.json"])
    pair["pictures"][0] |= values
    members[f"{FIRST}.json"] = canonical_json(pair)


HEAD = "b00000000.block.json"


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda m: m.update({f"{FIRST}.json": b"{}"}), ["b00000000: .* is damaged"]),
        (lambda m: m.pop(f"{FIRST}.json"), ["b00000000: .*no member"]),
        (lambda m: m.pop(f"{FIRST}.jpg"), [f"picture that cannot be used, '{FIRST}.jpg'", "other members"]),
        (lambda m: m.update({"more.txt": b"?"}), ["other members than its pairs name"]),
        (lambda m: m.update({HEAD: b"[]"}), ["b00000000: .* is damaged"]),
        (lambda m: patched(m, HEAD, num_characters=1), ["another num_characters than its pairs have"]),
        (lambda m: patched(m, HEAD, adopted=["x"]), ["another adopted than its pairs have"]),
        (lambda m: patched(m, HEAD, num_pairs=15), ["another num_pictures|another num_characters"]),
        (lambda m: patched(m, HEAD, file="other"), ["another file than its tar"]),
        (
            lambda m: patched(m, f"{FIRST}.json", captions={"caption": "a thing O"}),
            ["not hold the pairs of the tar"],
        ),
        (lambda m: picture_patched(m, member=f"{FIRST}.0.jpg"), [f"should be '{FIRST}.jpg'"]),
        (lambda m: picture_patched(m, num_bytes=3), ["another num_bytes"]),
    ],
)
def test_members_that_do_not_agree_are_found(
    store: Store, change: Callable[[Members], Any], messages: list[str]
) -> None:
    with_members(store, change)
    found = damage(checked(store))
    for message in messages:
        assert any(re.search(message, text) for _, text in found), (message, found)
    assert all(finding.remedy for finding in checked(store).damage)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: picture_patched(m, hash=f"{7:016x}"), "is another picture than was taken"),
        (lambda m: picture_patched(m, height=31), "is a jpg of 32 x 24, 31 x 24 was told of it"),
        (lambda m: m.update({f"{FIRST}.jpg": m[f"{FIRST}.jpg"][::-1]}), "another picture than was taken"),
    ],
)
def test_pictures_that_are_not_as_was_told_are_found_by_decoding(
    store: Store, change: Callable[[Members], Any], message: str
) -> None:
    with_members(store, change)
    assert not any(check == "pictures" for check, _ in damage(checked(store)))
    [finding] = [finding for finding in checked(store, deep=True).damage if finding.check == "pictures"]
    assert f"'{FIRST}.jpg'" in finding.message and message in finding.message
    assert "run the same foundry-data ingest again" in finding.remedy


def test_a_cut_picture_that_was_taken_so_is_found_by_decoding(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole = encoded(random_picture(1, 200, 200), "jpg")
    cut = Encoded(whole.data[: len(whole.data) // 2], "jpg", 200, 200)
    pairs = [TestPair([picture], {"caption": str(i)}) for i, picture in enumerate([whole, cut, whole, cut])]
    write_pairs(store, "photos", pairs)
    assert damage(checked(store)) == []
    [(check, message)] = damage(checked(store, deep=True))
    assert check == "pictures" and "b00000000-0000001.jpg" in message and "so are 1 more" in message


@pytest.mark.parametrize(
    ("table", "column", "message"),
    [
        (PAIRS, "split_hash", "does not hold the pairs of the tar"),
        (PAIRS, "num_characters", "does not hold the pairs of the tar"),
        (BLOCKS, "row_start", "says of block .* another row_start than its tar"),
        (BLOCKS, "num_pairs", "has .* pairs by its blocks|counts"),
        (BLOCKS, "shard", "not in the order of the manifest's shards"),
    ],
)
def test_tables_that_do_not_follow_from_the_tar_are_found(
    store: Store, table: str, column: str, message: str
) -> None:
    manifest, tables = tables_of(store)
    name = table if table == BLOCKS else f"{PAIRS}/{manifest.shards[0].key}"
    changed = tables[name]
    values = changed[column].to_numpy().copy()
    values[0] += 1
    number = changed.column_names.index(column)
    tables[name] = changed.set_column(number, changed.schema.field(column), pa.array(values))
    again(store, manifest, tables)
    assert any(re.search(message, text) for _, text in damage(checked(store)))


def test_a_table_of_texts_that_are_no_json_is_told(store: Store) -> None:
    manifest, tables = tables_of(store)
    name = f"{PAIRS}/{manifest.shards[0].key}"
    changed = tables[name]
    texts = pa.array(["{"] * changed.num_rows)
    tables[name] = changed.set_column(changed.column_names.index("captions"), "captions", texts)
    again(store, manifest, tables)
    [(check, message)] = damage(checked(store))
    assert check == "tables" and "does not hold the pairs of the tar" in message


def test_adopted_tars_are_checked_by_those_who_name_their_members(tmp_path: Path) -> None:
    store, pairs, tar = write_adopted(tmp_path)
    [validation] = validate("foreign", store=store.url, deep=True)
    assert validation.damage == () and validation.checked["pictures_decoded"] == len(pairs)
    whole = tar.read_bytes()
    with tar.open("r+b") as file:
        file.seek(int(open_tar(store, "foreign", "far").index["offset"][3].as_py()) + 30)
        file.write(b"?")
    [validation] = validate("foreign", store=store.url, deep=True)
    found = [finding for finding in validation.damage if finding.check == "pictures"]
    assert len(found) == 1 and "00004.PNG" in found[0].message and "adopted" in found[0].remedy
    tar.write_bytes(whole[:-512])
    [validation] = validate("foreign", store=store.url)
    assert any("far, which cannot be opened" in finding.message for finding in validation.damage)
    tar.write_bytes(whole)
    assert validate("foreign", store=store.url)[0].damage == ()


def odd(number: int, height: int = 24, width: int = 32, caption: str | None = None) -> TestPair:
    picture = random_picture(number, height, width)
    return TestPair([picture], {"caption": f"thing {number}" if caption is None else caption})


@pytest.mark.parametrize(
    ("check", "pairs", "told"),
    [
        ("no_text", [TestPair([random_picture(999)])], "1 of 61 pairs have no text"),
        ("copies", [odd(3), odd(3)], "2 of 62 pairs are copies"),
        (
            "one_caption",
            [odd(100 + i, caption="photo") for i in range(25)],
            "25 of 85 pairs have the caption 'photo'",
        ),
        ("aspect", [odd(200, 20, 200)], "1 of 61 pairs have a picture whose sides are more than 6 : 1"),
        ("tiny", [odd(201, 1, 1)], "1 of 61 pairs have a picture with a side of less than 16 pixels"),
    ],
)
def test_what_is_probably_wrong(
    tmp_path: Path, check: str, pairs: list[TestPair], told: str, capsys: Any
) -> None:
    store = Store(tmp_path)
    usual = [odd(number) for number in range(60)]
    write_pairs(store, "photos", usual + pairs, per_shard=32)
    [doubt] = checked(store).doubts
    assert doubt.check == check and told in doubt.message and doubt.remedy
    shell = Shell(capsys)
    code, out, err = shell(tmp_path, "validate", "photos")
    assert code == 3 and f"[{check}]" in out and f"--ignore '{check}:pairs'" in err
    code, out, _ = shell(tmp_path, "validate", "photos", "--ignore", check)
    assert code == 0 and f"[{check}, ignored]" in out


def test_few_pairs_with_one_caption_are_no_evidence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write_pairs(store, "photos", [odd(number, caption="photo") for number in range(FEW)])
    assert checked(store).doubts == ()


def test_copies_that_ingest_left_out_are_told(store: Store) -> None:
    evidence = [Evidence.of(table) for table in OpenVersions(store).open("photos").group_tables(PAIRS)]
    assert doubts(evidence, discovered=80, duplicates=40) == []
    [doubt] = doubts(evidence, discovered=90, duplicates=50)
    assert doubt.check == "repeated" and "50 of 90 pairs of the source" in doubt.message


def test_one_fault_does_not_hide_another(store: Store) -> None:
    with_members(store, lambda m: (m.update({f"{FIRST}.json": b"{}"}), m.update({"more.txt": b"?"})))
    manifest, tables = tables_of(store)
    blocks = tables[BLOCKS]
    files = pa.array(["?"] * blocks.num_rows)
    tables[BLOCKS] = blocks.set_column(blocks.column_names.index("file"), "file", files)
    again(store, manifest, tables)
    assert {check for check, _ in damage(checked(store))} == {"blocks", "tables"}
