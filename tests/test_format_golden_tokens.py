"""The members of a shard of tokens as docs/format.md tells them: a value may be added here, never edited."""

from __future__ import annotations

import numpy as np

from robot_foundry.shards.tokens.blocks import TokenDocuments, by_band, shard_members, token_dtype
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer

# Hashes at the bounds of bands: of the first, a thousandth of 2⁶⁴, the two at its sides.
FIRST_BAND = -(-(1 << 64) // 1000)
DOCUMENTS = {
    "Grüße": FIRST_BAND - 1,
    "": (1 << 64) - 1,
    "one": FIRST_BAND,
    "\x00 <obs>": 0,
    "two": (1 << 64) - 2,
}


def members() -> dict[str, bytes]:
    """Blocks of four tokens or more of the byte tokenizer."""
    tokenizer = ByteTokenizer()
    documents = TokenDocuments.of(
        tokenizer.encode(list(DOCUMENTS)),
        end=tokenizer.end,
        dtype=token_dtype(tokenizer.size),
        bytes_D=np.array([len(text.encode()) for text in DOCUMENTS]),
        hash_D=np.array(list(DOCUMENTS.values()), np.uint64),
        row_D=np.arange(len(DOCUMENTS)),
        inexact_D=np.zeros(len(DOCUMENTS), bool),
    )
    return dict(shard_members(by_band(documents), tokenizer.id, block_tokens=4))


def arrays(end: str) -> list[list]:
    """Those of the members of this suffix, read from their bytes behind the header of NPY 1.0."""
    dtype = {"docs": "<u8", "pages": "<u4", "tokens": "<u2"}[end]
    found = [data for name, data in members().items() if name.endswith(f".{end}.npy")]
    assert all(data.startswith(b"\x93NUMPY\x01\x00\x76\x00{'descr': '%b'" % dtype.encode()) for data in found)
    return [np.frombuffer(data[128:], dtype).tolist() for data in found]


def crc32c(data: bytes) -> int:
    """Bit by bit, by the polynomial of Castagnoli."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def test_names() -> None:
    suffixes = (".block.json", ".docs.npy", ".pages.npy", ".tokens.npy")
    assert list(members()) == [f"block-00000{n}{suffix}" for n in range(4) for suffix in suffixes]


def test_the_byte_tokenizer() -> None:
    assert ByteTokenizer().id == "4dba409b104b0a07d27f45802f93782a"
    assert ByteTokenizer().to_json() == {
        "type": "byte",
        "specials": {
            "<pad>": 256, "<obs>": 257, "<|endoftext|>": 258, "<image>": 259,
            "<|system|>": 260, "<|user|>": 261, "<|assistant|>": 262, "<|end|>": 263,
        },
    }  # fmt: skip


def test_head() -> None:
    assert members()["block-000000.block.json"] == (
        b'{"band":0,"inexact":[],"num_bytes":7,"num_documents":1,"num_inexact":0,"num_tokens":8,'
        b'"tokenizer":"4dba409b104b0a07d27f45802f93782a"}'
    )


def test_documents_are_by_band_and_blocks_of_one_band() -> None:
    assert arrays("docs") == [
        [8, 7, FIRST_BAND - 1, 0],
        [8, 7, 0, 3],
        [4, 3, FIRST_BAND, 2],
        [1, 0, (1 << 64) - 1, 1, 5, 3, (1 << 64) - 2, 4],
    ]


def test_tokens_and_their_ends() -> None:
    assert arrays("tokens") == [
        [*"Grüße".encode(), 258],
        [*b"\x00 <obs>", 258],
        [*b"one", 258],
        [258, *b"two", 258],
    ]


def test_pages_are_checksums_of_the_bytes_of_tokens() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    tokens = [np.array(of_block, "<u2").tobytes() for of_block in arrays("tokens")]
    assert arrays("pages") == [[crc32c(data)] for data in tokens]


def test_ids_over_sixteen_bits_are_stored_in_thirty_two() -> None:
    assert [token_dtype(size).str for size in (1 << 16, (1 << 16) + 1)] == ["<u2", "<u4"]
