"""The members of a shard of text as docs/format.md tells them: a value may be added here, never edited."""

from __future__ import annotations

import hashlib

import pytest
import zstandard

from robot_foundry.shards.text.blocks import (
    BlockHead,
    Document,
    Refusal,
    block_key,
    block_members,
    codec_version,
    document_hash,
)

DOCUMENTS = (
    Document("1", "Grüße,\nWelt"),
    Document("2", "", {"stars": 3, "language": "en", "score": 0.5, "none": None}),
    Document("4", "\x00\ufeff <obs> 👩‍🚀"),
)
HEAD = BlockHead(
    unit="corpus-0123456789ab",
    file="a/corpus.jsonl",
    content="0" * 64,
    documents=3,
    characters=23,
    bytes=35,
    refused=(Refusal("its 'text' is null", 2, ("3", "5")),),
    duplicates=1,
)


def members() -> dict[str, bytes]:
    return dict(block_members(block_key(HEAD.unit, 7), HEAD, DOCUMENTS))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_names() -> None:
    assert list(members()) == [
        "corpus-0123456789ab-0007.block.json",
        "corpus-0123456789ab-0007.docs.npy",
        "corpus-0123456789ab-0007.meta.jsonl.zst",
        "corpus-0123456789ab-0007.txt.zst",
    ]


def test_head() -> None:
    assert members()["corpus-0123456789ab-0007.block.json"] == (
        b'{"bytes":35,"characters":23,"content":"%b","documents":3,"duplicates":1,"file":"a/corpus.jsonl",'
        b'"refused":[{"count":2,"first":["3","5"],"reason":"its \'text\' is null"}],'
        b'"unit":"corpus-0123456789ab"}' % (b"0" * 64)
    )


def test_ends_and_hashes() -> None:
    data = members()["corpus-0123456789ab-0007.docs.npy"]
    assert sha256(data) == "c1bc424e581c12b4b4335e4d969a2c2441d39af2de157c8710866ea1e3c75566"
    assert data[128:].hex() == (
        "0d00000000000000320d57dbfb8a715c0d00000000000000af1349b9f5f9a1a623000000000000007c5763ddaca7d128"
    )


def test_the_hash_of_no_text_begins_the_published_blake3_of_it() -> None:
    assert document_hash(b"") == int.from_bytes(bytes.fromhex("af1349b9f5f9a1a6"), "little")


def test_metadata_and_text() -> None:
    decompress = zstandard.ZstdDecompressor().decompress
    assert decompress(members()["corpus-0123456789ab-0007.meta.jsonl.zst"]) == (
        b'{"id":"1","metadata":{}}\n'
        b'{"id":"2","metadata":{"language":"en","none":null,"score":0.5,"stars":3}}\n'
        b'{"id":"4","metadata":{}}\n'
    )
    text = "Grüße,\nWelt\x00\ufeff <obs> 👩\u200d🚀"
    assert decompress(members()["corpus-0123456789ab-0007.txt.zst"]) == text.encode()


def test_compressed_bytes() -> None:
    """Those of another version of zstd may differ, and then so do the keys of shards."""
    known = {
        "zstd 1.5.7 level 3": (
            "6840cfa80e79088a4c9f7754899e096e461bca813c067c88885414b32648230b",
            "5b3dcb0bc7fb36f4d2dd9f27bf9a6723f8998c16e64bd75ef34d03728af25a3b",
        )
    }
    if codec_version() not in known:
        pytest.skip(f"no hashes of {codec_version()}")
    found = tuple(sha256(data) for name, data in members().items() if name.endswith(".zst"))
    assert found == known[codec_version()]
