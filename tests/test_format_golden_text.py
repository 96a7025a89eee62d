"""The members of a shard of text as docs/format.md tells them: a value may be added here, never edited."""

from __future__ import annotations

import hashlib

import pytest
import zstandard

from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.text.blocks import (
    Document,
    EncodedDocument,
    block_key,
    block_members,
    codec_version,
    document_hash,
)

DOCUMENTS = (
    Document("1", "Grüße,\nWelt"),
    Document("2", "", {"stars": 3, "language": "en", "score": 0.5, "none": None}),
    Document("4", "\x00\ufeff <obs> 👩\u200d🚀 \ufffd"),
)
ORIGIN = Origin(unit="a/corpus.jsonl#1", file="a/corpus.jsonl", content="0" * 64)
REFUSED = (Refusal("its 'text' is null", 2, ("3", "5")),)


def members() -> dict[str, bytes]:
    encoded = [EncodedDocument.of(document) for document in DOCUMENTS]
    key = block_key("corpus-0123456789ab", 7)
    return dict(block_members(key, ORIGIN, encoded, REFUSED, duplicates=1))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_names() -> None:
    assert list(members()) == [
        "corpus-0123456789ab-000007.block.json",
        "corpus-0123456789ab-000007.docs.npy",
        "corpus-0123456789ab-000007.meta.jsonl.zst",
        "corpus-0123456789ab-000007.txt.zst",
    ]


def test_head() -> None:
    assert members()["corpus-0123456789ab-000007.block.json"] == (
        b'{"content":"%b","duplicates":1,"file":"a/corpus.jsonl","format":1,"num_bytes":39,'
        b'"num_characters":25,"num_documents":3,"num_meta_bytes":124,"num_replaced":1,'
        b'"refused":[{"count":2,"first":["3","5"],"reason":"its \'text\' is null"}],'
        b'"unit":"a/corpus.jsonl#1"}' % (b"0" * 64)
    )


def test_ends_characters_and_hashes() -> None:
    data = members()["corpus-0123456789ab-000007.docs.npy"]
    header = b"{'descr': '<u8', 'fortran_order': False, 'shape': (3, 3), }"
    assert data[:128] == b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117) + b"\n"
    assert data[128:].hex(" ", 8).split() == [
        "0d00000000000000", "0b00000000000000", "320d57dbfb8a715c",
        "0d00000000000000", "0000000000000000", "af1349b9f5f9a1a6",
        "2700000000000000", "0e00000000000000", "bef8b7b9201674d5",
    ]  # fmt: skip


def test_the_hash_of_no_text_begins_the_published_blake3_of_it() -> None:
    assert document_hash(b"") == int.from_bytes(bytes.fromhex("af1349b9f5f9a1a6"), "little")


def test_metadata_and_text() -> None:
    decompress = zstandard.ZstdDecompressor().decompress
    assert decompress(members()["corpus-0123456789ab-000007.meta.jsonl.zst"]) == (
        b'{"id":"1","metadata":{}}\n'
        b'{"id":"2","metadata":{"language":"en","none":null,"score":0.5,"stars":3}}\n'
        b'{"id":"4","metadata":{}}\n'
    )
    text = "Grüße,\nWelt\x00\ufeff <obs> 👩\u200d🚀 \ufffd"
    assert decompress(members()["corpus-0123456789ab-000007.txt.zst"]) == text.encode()


def test_compressed_bytes() -> None:
    """Those of another version of zstd may differ, and then so do the keys of shards."""
    known = {
        "zstd 1.5.7 level 3": (
            "6840cfa80e79088a4c9f7754899e096e461bca813c067c88885414b32648230b",
            "0a9847c8d007597cd15775cbdac5a241b08950edde8b9a59154f9d6b0438e1a4",
        )
    }
    if codec_version() not in known:
        pytest.skip(f"no hashes of {codec_version()}")
    found = tuple(sha256(data) for name, data in members().items() if name.endswith(".zst"))
    assert found == known[codec_version()]
