"""The members of a shard of pairs as docs/format.md tells them: a value may be added here, never edited."""

from __future__ import annotations

import hashlib
from io import BytesIO

from robot_foundry.catalog.pairs.derived import pairs_table
from robot_foundry.catalog.tables import table_digest
from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.pairs.pair import Turn
from robot_foundry.shards.pairs.shard import BlockWriter, Encoded, StoredPair
from robot_foundry.shards.tar import TarWriter

ORIGIN = Origin(unit="a/0.tar#all", file="a/0.tar", content="0" * 64)
KEY = "0-0123456789ab"
# Bytes that no decoder is asked about.
ONE, TWO = Encoded(b"\xff\xd8one", "jpg", 480, 640), Encoded(b"RIFFtwo", "webp", 1, 2)
FAR = Encoded(b"\x89PNGfar", "png", 7, 5, adopted=("far-key", "00/Ä.PNG"))


def written() -> tuple[dict[str, bytes], list[StoredPair]]:
    members = list[tuple[str, bytes]]()
    writer = BlockWriter(KEY, ORIGIN, lambda name, data: members.append((name, data)))
    turns = (Turn("user", "<image><image>\nDesc?"), Turn("assistant", "Größe 🎈"))
    pairs = [
        writer.add(
            "00001", [ONE], {"caption": "a cat", "re_caption": ""}, (), {"n": 1, "x": 1.0, "no": None}
        ),
        writer.add("00002", [TWO, FAR], turns=turns),
        writer.add("00003", [], {}, [Turn("user", "1 + 1?"), Turn("assistant", "2")]),
    ]
    writer.close([Refusal("it is a GIF", 2, ("7", "9"))], 1, {"min_side": 3})
    return dict(members), pairs


def test_names() -> None:
    assert list(written()[0]) == [
        "0-0123456789ab-0000000.jpg",
        "0-0123456789ab-0000000.json",
        "0-0123456789ab-0000001.0.webp",
        "0-0123456789ab-0000001.json",
        "0-0123456789ab-0000002.json",
        "0-0123456789ab.block.json",
    ]


def test_json_of_pairs() -> None:
    members = written()[0]
    assert members[f"{KEY}-0000000.json"] == (
        b'{"captions":{"caption":"a cat","re_caption":""},"id":"00001","metadata":{"n":1,"no":null,"x":1.0},'
        b'"pictures":[{"encoding":"jpg","hash":"baf549066a6b682a","height":480,"member":"0-0123456789ab-0000000.jpg",'
        b'"num_bytes":5,"tar":null,"width":640}],"turns":[]}'
    )
    assert members[f"{KEY}-0000001.json"].decode() == (
        '{"captions":{},"id":"00002","metadata":{},"pictures":[{"encoding":"webp","hash":"b7277b2631c70cdf",'
        '"height":1,"member":"0-0123456789ab-0000001.0.webp","num_bytes":7,"tar":null,"width":2},'
        '{"encoding":"png","hash":"1671fccf4e7bf12f","height":7,"member":"00/Ä.PNG","num_bytes":7,'
        '"tar":"far-key","width":5}],'
        '"turns":[["user","<image><image>\\nDesc?"],["assistant","Größe 🎈"]]}'
    )


def test_head() -> None:
    assert written()[0][f"{KEY}.block.json"] == (
        b'{"adopted":["far-key"],"content":"%b","duplicates":1,"file":"a/0.tar","filtered":{"min_side":3},'
        b'"format":1,"num_bytes":19,"num_characters":39,"num_pairs":3,"num_pictures":3,'
        b'"refused":[{"count":2,"first":["7","9"],"reason":"it is a GIF"}],"unit":"a/0.tar#all"}'
        % (b"0" * 64)
    )


def test_hashes() -> None:
    pairs = written()[1]
    assert [f"{pair.split_hash:016x}" for pair in pairs] == [
        "d46c722ab7e14e66",
        "6643f3639c73dcde",
        "5c0b4a7429fa261d",
    ]
    assert [f"{pair.content_hash:016x}" for pair in pairs] == [
        "0d4d06db4e515cfd",
        "8b3ab08c8728ce25",
        "5c0b4a7429fa261d",
    ]


def test_tar_and_table() -> None:
    members, pairs = written()
    sink = BytesIO()
    tar = TarWriter(sink)
    for name, data in members.items():
        tar.add(name, data)
    tar.close()
    assert (
        hashlib.sha256(sink.getvalue()).hexdigest()
        == "bf68ac4eda56e55558363336dd3642aad695820ad8c8f45c86cf15e0c80695f0"
    )
    assert table_digest(pairs_table(pairs, KEY, 4)) == "a73192c97b4c425cfc9653a971e49632"
