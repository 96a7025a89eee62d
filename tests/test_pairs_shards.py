"""What a shard of pairs holds: names, JSON of pairs and heads, hashes, and what is no pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import blake3
import pytest
import webdataset
from foundry_testing.pairs import TestPair, encoded, random_picture, some_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.errors import CorruptData, CorruptMember
from robot_foundry.shards.index import index_of_tar, write_index
from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.pairs.pair import Pair, Picture, Turn
from robot_foundry.shards.pairs.shard import (
    BlockHead,
    BlockWriter,
    Encoded,
    StoredPair,
    block_keys,
    pair_key,
    picture_hash,
    picture_members,
    read_head,
    read_pairs,
)
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tar import TarWriter

ORIGIN = Origin("a/0.tar#all", "a/0.tar", "0" * 64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.sampled_from(["caption", "re_caption", "Ä", ""])
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS
METADATA = st.dictionaries(TEXTS, SCALARS | st.lists(SCALARS, max_size=2), max_size=3)
PNG = encoded(random_picture(1), "png")
JPG = encoded(random_picture(2), "jpg")
WEBP = encoded(random_picture(3, 20, 12), "webp")
PICTURES = st.lists(st.sampled_from([PNG, JPG, WEBP]), max_size=12)
Members = Sequence[tuple[str, bytes]]


def shard_of(folder: Path, members: Members) -> ShardReader:
    with (folder / "x.tar").open("wb") as file:
        tar = TarWriter(file)
        for name, data in members:
            tar.add(name, data)
        summary = tar.close()
    return ShardReader(open_storage(folder), "x.tar", summary.members)


def block_of(
    pairs: Sequence[TestPair], key: str = "u-1"
) -> tuple[dict[str, bytes], list[StoredPair], BlockHead]:
    """The members of a block, its pairs as they were written, and its head."""
    members = list[tuple[str, bytes]]()
    writer = BlockWriter(key, ORIGIN, lambda name, data: members.append((name, data)))
    written = [
        writer.add(str(i), p.encoded, p.captions, [Turn(*turn) for turn in p.turns], p.metadata)
        for i, p in enumerate(pairs)
    ]
    head = writer.close()
    assert [name for name, _ in members] == sorted(name for name, _ in members)
    return dict(members), written, head


@st.composite
def pairs_of_any_form(draw: st.DrawFn) -> TestPair:
    pictures = draw(PICTURES)
    captions = draw(st.dictionaries(NAMES, TEXTS, max_size=3))
    turns = draw(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), max_size=3))
    turns = [(role, text.replace("<image>", "")) for role, text in turns]
    if turns:
        turns[0] = (turns[0][0], "<image>" * len(pictures) + turns[0][1])
    return TestPair(pictures, captions, turns, draw(METADATA))


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(pairs_of_any_form(), max_size=4))
def test_a_block_gives_back_its_pairs_and_every_byte_of_its_pictures(
    pairs: list[TestPair], tmp_path_factory: pytest.TempPathFactory
) -> None:
    members, written, head = block_of(pairs)
    shard = shard_of(tmp_path_factory.mktemp("shard"), list(members.items()))
    assert block_keys(shard) == ["u-1"] and read_head(shard, "u-1") == head
    assert list(read_pairs(shard, "u-1")) == written
    for pair, stored in zip(pairs, written, strict=True):
        assert [shard.read_name(picture.member) for picture in stored.pair.pictures] == [
            picture.data for picture in pair.encoded
        ]
        assert dict(stored.pair.captions) == dict(pair.captions)
        assert [(turn.role, turn.text) for turn in stored.pair.turns] == list(pair.turns)
        texts = [*pair.captions.values(), *(text for _, text in pair.turns)]
        assert stored.num_characters == sum(map(len, texts))
    assert head.num_pairs == len(pairs)
    assert head.num_pictures == sum(len(pair.pictures) for pair in pairs)
    assert head.num_bytes == sum(len(picture.data) for pair in pairs for picture in pair.encoded)
    assert len(members) == head.num_pairs + head.num_pictures + 1


def test_others_read_a_shard_as_samples_of_webdataset(tmp_path: Path) -> None:
    pairs = some_pairs(12)
    members, _, _ = block_of(pairs)
    shard_of(tmp_path, list(members.items()))
    dataset = webdataset.WebDataset(str(tmp_path / "x.tar"), shardshuffle=False, empty_check=False)
    samples = {sample["__key__"]: sample for sample in dataset}
    assert list(samples) == [*(f"u-1-{number:07d}" for number in range(12)), "u-1"]
    for number, pair in enumerate(pairs):
        sample = samples[f"u-1-{number:07d}"]
        assert json.loads(sample["json"])["captions"] == dict(pair.captions)
        data = [value for key, value in sample.items() if not key.startswith("__") and key != "json"]
        assert data == [picture.data for picture in pair.encoded]


def test_names_sort_as_pairs_and_pictures_follow() -> None:
    assert picture_members("k", ["webp"]) == ["k.webp"]
    assert picture_members("k", []) == []
    ten, eleven = picture_members("k", ["jpg"] * 10), picture_members("k", ["jpg"] * 11)
    assert ten[9] == "k.9.jpg" and eleven[9] == "k.09.jpg" and eleven[10] == "k.10.jpg"
    assert sorted(eleven) == eleven and sorted(ten) == ten
    assert pair_key("u", 0) == "u-0000000" < pair_key("u", 10**7 - 1) == "u-9999999" < "u.block.json"
    with pytest.raises(FoundryError, match="at most 10,000,000 pairs"):
        pair_key("u", 10**7)


def test_hashes_are_of_pictures_and_texts_alone() -> None:
    def stored(pair: TestPair, id: str = "0") -> StoredPair:
        writer = BlockWriter("u", ORIGIN, lambda name, data: None)
        return writer.add(
            id, pair.encoded, pair.captions, [Turn(*turn) for turn in pair.turns], pair.metadata
        )

    one = stored(TestPair([PNG], {"caption": "a cat"}))
    assert one.hashes == (int.from_bytes(blake3.blake3(PNG.data).digest()[:8], "little"),)
    of_hashes = blake3.blake3(blake3.blake3(PNG.data).digest()[:8]).digest()[:8]
    assert one.split_hash == int.from_bytes(of_hashes, "little")
    other = stored(TestPair([PNG], {"caption": "a dog"}, metadata={"x": 1}), "7")
    assert other.split_hash == one.split_hash and other.content_hash != one.content_hash
    same = stored(TestPair([PNG], {"caption": "a cat"}, metadata={"x": 1}), "7")
    assert same.content_hash == one.content_hash
    told = [
        stored(TestPair([PNG], turns=[("user", "<image>"), (role, "x")])) for role in ("user", "assistant")
    ]
    assert told[0].content_hash != told[1].content_hash
    texts = [stored(TestPair(captions={"caption": text})) for text in ("a", "b", "a")]
    assert texts[0].split_hash == texts[2].split_hash != texts[1].split_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": [PNG] * 17}, "at most 16 pictures, not 17"),
        ({"pictures": [Encoded(b"GIF8", "gif", 1, 1)]}, "a picture is jpg, png, webp"),
        ({"pictures": [Encoded(b"", "jpg", 1, 1)]}, "and bytes"),
        ({"pictures": [Encoded(b"x", "jpg", 0, 1)]}, "with a height"),
        ({"pictures": [replace(PNG, adopted=("k", ""))]}, "has a name"),
        ({"pictures": [replace(PNG, adopted=("K/../", "a.png"))]}, "is not allowed"),
        ({"captions": {"caption": 3}}, "captions and turns are texts"),
        ({"captions": {"caption": "\ud800"}}, "lone surrogate"),
        ({"turns": [Turn("human", "x")]}, "turns are of system, user, assistant"),
        ({"turns": [Turn("user", "<image>")]}, "have 1 places for 0 pictures"),
        ({"pictures": [PNG], "turns": [Turn("user", "what?")]}, "have 0 places for 1 pictures"),
        ({"metadata": {"x": float("nan")}}, "cannot hold nan"),
        ({"metadata": {"x": b"bytes"}}, "cannot hold a bytes"),
    ],
)
def test_what_is_no_pair_is_refused_and_leaves_nothing(change: Mapping[str, Any], message: str) -> None:
    members = list[str]()
    writer = BlockWriter("u", ORIGIN, lambda name, data: members.append(name))
    with pytest.raises(FoundryError, match=message):
        writer.add("0", **change)
    assert members == []
    writer.add("1", [PNG])
    assert members == ["u-0000000.json", "u-0000000.png"] and writer.close().num_pairs == 1


STORED = StoredPair(
    Pair("7", (Picture("u-0000000.jpg", "jpg", 4, 6, 100),), {"caption": "x"}, (), {"n": 1}), (255,)
)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.pop("captions"),
        lambda o: o.update(more=1),
        lambda o: o.update(id=7),
        lambda o: o.update(captions=["x"]),
        lambda o: o.update(captions={"caption": None}),
        lambda o: o.update(turns=[["user"]]),
        lambda o: o.update(turns=[{"role": "user", "text": "x"}]),
        lambda o: o.update(metadata=[]),
        lambda o: o.update(metadata=None),
        lambda o: o.update(pictures={}),
        lambda o: o["pictures"][0].pop("tar"),
        lambda o: o["pictures"][0].update(hash="zz"),
        lambda o: o["pictures"][0].update(hash="FF"),
        lambda o: o["pictures"][0].update(hash=255),
        lambda o: o["pictures"][0].update(hash="1" * 17),
        lambda o: o["pictures"][0].update(hash="-000000000000001"),
        lambda o: o["pictures"][0].update(height=2**31),
        lambda o: o["pictures"][0].update(num_bytes=0),
        lambda o: o["pictures"][0].update(height=4.0),
        lambda o: o["pictures"][0].update(height=True),
        lambda o: o["pictures"][0].update(encoding="JPG"),
        lambda o: o["pictures"][0].update(tar=""),
    ],
)
def test_json_that_is_not_as_it_is_written_is_damaged(change: Any) -> None:
    data = STORED.to_json()
    assert StoredPair.from_json(data, "it") == STORED
    obj = json.loads(data)
    change(obj)
    altered = json.dumps(obj, sort_keys=True, separators=(",", ":")).encode()
    for wrong in (altered, data + b" ", data[:-1], b"[]", b"\xff", b"[" * 100_000):
        with pytest.raises(CorruptData, match="it is damaged|it is not a JSON object"):
            StoredPair.from_json(wrong, "it")


HEAD = BlockHead(
    ORIGIN, 2, 3, 40, 900, (Refusal("it is a GIF", 2, ("1", "4")),), 5, {"min_side": 3}, ("abc", "def")
)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.pop("filtered"),
        lambda o: o.update(format=2),
        lambda o: o.update(num_pairs=-1),
        lambda o: o.update(num_bytes=2**63),
        lambda o: o.update(duplicates=True),
        lambda o: o.update(filtered={"min_side": "3"}),
        lambda o: o.update(filtered=[["min_side", 3]]),
        lambda o: o.update(adopted=["../x"]),
        lambda o: o["refused"][0].update(count=0),
        lambda o: o["refused"][0].update(first=[3]),
        lambda o: o["refused"][0].pop("reason"),
        lambda o: o.update(refused={}),
    ],
)
def test_a_head_is_what_its_json_says(change: Any) -> None:
    data = HEAD.to_json()
    assert BlockHead.from_json(data, "it") == HEAD and BlockHead.of_values(HEAD.values()) == HEAD
    obj = json.loads(data)
    change(obj)
    with pytest.raises(CorruptData, match="it is damaged"):
        BlockHead.from_json(json.dumps(obj, sort_keys=True, separators=(",", ":")).encode(), "it")


def test_a_block_that_lacks_pairs_or_has_damaged_ones_is_told(tmp_path: Path) -> None:
    members, _, _ = block_of(some_pairs(3))
    gone = {name: data for name, data in members.items() if name != "u-1-0000001.json"}
    with pytest.raises(FoundryError, match=r"has no member 'u-1-0000001.json'"):
        list(read_pairs(shard_of(tmp_path, list(gone.items())), "u-1"))
    broken = {**members, "u-1-0000002.json": b"{}"}
    with pytest.raises(CorruptData, match=r"u-1-0000002.json of .* is damaged: .*lacks captions"):
        list(read_pairs(shard_of(tmp_path, list(broken.items())), "u-1"))
    head = json.loads(members["u-1.block.json"]) | {"num_pairs": 9_000_000}
    claims = {**members, "u-1.block.json": json.dumps(head, sort_keys=True, separators=(",", ":")).encode()}
    with pytest.raises(CorruptData, match="counts 9,000,000 pairs"):
        list(read_pairs(shard_of(tmp_path, list(claims.items())), "u-1"))


def test_a_flipped_bit_is_an_error_of_its_member(tmp_path: Path) -> None:
    members, _, _ = block_of(some_pairs(3))
    shard = shard_of(tmp_path, list(members.items()))
    tar = bytearray((tmp_path / "x.tar").read_bytes())
    tar[int(shard.index["offset"][shard.row("u-1-0000001.json")].as_py()) + 5] ^= 4
    (tmp_path / "x.tar").write_bytes(tar)
    with pytest.raises(CorruptMember, match="u-1-0000001.json"):
        list(read_pairs(shard, "u-1"))


def test_a_picture_of_an_adopted_tar_has_no_member_here(tmp_path: Path) -> None:
    own, elsewhere = encoded(random_picture(4)), replace(JPG, adopted=("k", "00/1.jpg"))
    members, [stored], head = block_of([TestPair([elsewhere, own], {"caption": "two"})])
    assert list(members) == ["u-1-0000000.1.png", "u-1-0000000.json", "u-1.block.json"]
    assert stored.pair.pictures[0] == Picture("00/1.jpg", "jpg", 24, 32, len(JPG.data), "k")
    assert stored.pair.pictures[1].member == "u-1-0000000.1.png" and stored.pair.pictures[1].tar is None
    assert head.adopted == ("k",) and head.num_pictures == 2
    assert head.num_bytes == len(JPG.data) + len(own.data)
    assert stored.hashes[0] == picture_hash(JPG.data)


def test_the_index_of_a_shard_follows_from_its_bytes(tmp_path: Path) -> None:
    members, _, _ = block_of(some_pairs(20))
    shard = shard_of(tmp_path, list(members.items()))
    with (tmp_path / "x.tar").open("rb") as file:
        assert write_index(index_of_tar(file)) == write_index(shard.index)
