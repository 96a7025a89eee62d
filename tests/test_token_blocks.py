"""Blocks of tokens: each document once, whole, in a block of its band, and damage told."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.selection import SelectionSpec, rows_of_split
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.index import index_of_tar
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tar import TarWriter
from robot_foundry.shards.tokens import blocks
from robot_foundry.shards.tokens.blocks import BANDS, BYTES, HASH, PAGE_BYTES, ROW, TokenDocuments, by_band
from robot_foundry.shards.tokens.spooled import SpooledDocuments

END_TOKEN = 9
hashes = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from(
        [(bound.numerator << 64) // bound.denominator + i for bound in BANDS for i in (-1, 0, 1)]
    ),
)


def documents(lengths: list[int], hashed: list[int], *, dtype: str = "<u2") -> TokenDocuments:
    count = len(lengths)
    return TokenDocuments.of(
        [np.arange(length) % END_TOKEN for length in lengths],
        end=END_TOKEN,
        dtype=np.dtype(dtype),
        bytes_D=np.arange(count) + 1,
        hash_D=np.array(hashed, np.uint64),
        row_D=np.arange(count) * 2,
        inexact_D=np.arange(count) % 2 == 0,
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), hashes), min_size=1, max_size=40), st.integers(1, 30))
def test_every_document_is_in_one_block_of_its_band(entries: list[tuple[int, int]], size: int) -> None:
    lengths, hashed = map(list, zip(*entries, strict=True))
    made = list(blocks.cut(by_band(documents(lengths, hashed)), size))
    seen, order = [], []
    for band, block in made:
        assert set(blocks.bands(block.docs_D4[:, HASH]).tolist()) == {band}
        begin = 0
        for end, num_bytes, hash_, row in block.docs_D4.tolist():
            number = row // 2
            assert (num_bytes, hash_) == (number + 1, hashed[number])
            expected = [*(i % END_TOKEN for i in range(lengths[number])), END_TOKEN]
            assert block.token_N[begin:end].tolist() == expected
            begin = end
            seen.append(number)
            order.append((band, number))
        assert begin == len(block.token_N)
        in_band = sum(
            length + 1
            for length, b in zip(lengths, blocks.bands(np.array(hashed, np.uint64)), strict=True)
            if b == band
        )
        assert len(block.token_N) >= min(size, in_band)
        # No larger than it must be: without its last document it would be too short, or what follows would.
        assert len(block.token_N) < 3 * size + max(lengths) + 1
    assert sorted(seen) == list(range(len(entries))) and order == sorted(order)


@settings(deadline=None)
@given(st.lists(hashes, min_size=1))
def test_bands_are_those_of_splits(hashed: list[int]) -> None:
    hash_D = np.array(hashed, np.uint64)
    band_D = blocks.bands(hash_D)
    # A hash above all, so that no rule keeps train from being empty.
    hash_E, length_E = np.append(hash_D, np.uint64(2**64 - 1)), np.ones(len(hash_D) + 1, np.int64)
    for number, bound in enumerate(BANDS):
        begin_E, end_E = rows_of_split(SelectionSpec("val", str(bound)), hash_E, length_E)
        assert ((end_E > begin_E)[:-1] == (band_D <= number)).all()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), hashes), min_size=1, max_size=40),
    st.lists(st.integers(1, 40), max_size=5),
    st.sampled_from([0, 30, 100, 1 << 20]),
)
def test_documents_in_parts_are_those_of_the_whole(
    entries: list[tuple[int, int]], cuts: list[int], memory_bytes: int
) -> None:
    lengths, hashed = map(list, zip(*entries, strict=True))
    whole = documents(lengths, hashed)
    bounds = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    with SpooledDocuments(memory_bytes) as spooled:
        for first, stop in pairwise(bounds):
            spooled.add(whole.slice(first, stop))
        assert len(spooled) == len(whole)
        for (number, band), (expected, of_whole) in zip(spooled.by_band(), by_band(whole), strict=True):
            assert number == expected and band.token_N.dtype == of_whole.token_N.dtype
            assert (band.token_N == of_whole.token_N).all() and (band.docs_D4 == of_whole.docs_D4).all()
            assert (band.inexact_D == of_whole.inexact_D).all()


def shard(folder: Path, made: TokenDocuments, size: int = 20_000) -> ShardReader:
    sink = io.BytesIO()
    tar = TarWriter(sink)
    for name, data in blocks.shard_members(by_band(made), "0" * 32, block_tokens=size):
        tar.add(name, data)
    tar.close()
    (folder / "x.tar").write_bytes(sink.getvalue())
    return ShardReader(open_storage(folder), "x.tar", index_of_tar(io.BytesIO(sink.getvalue())))


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_a_shard_gives_back_its_blocks(tmp_path: Path, dtype: str) -> None:
    made = documents([7_000] * 12, [2**63] * 9 + [5] * 3, dtype=dtype)
    read = shard(tmp_path, made)
    expected = list(blocks.cut(by_band(made), 20_000))
    assert blocks.block_keys(read) == [f"block-{i:06d}" for i in range(len(expected))]
    assert len(expected) == 4
    for key, (band, block) in zip(blocks.block_keys(read), expected, strict=True):
        head = blocks.read_head(read, key)
        assert (head.band, head.num_documents, head.num_tokens) == (band, len(block), len(block.token_N))
        assert (head.num_bytes, head.num_inexact) == (block.docs_D4[:, BYTES].sum(), block.inexact_D.sum())
        token_N = blocks.read_tokens(read, key)
        assert token_N.dtype == np.dtype(dtype) and (token_N == block.token_N).all()
        assert (blocks.read_docs(read, key) == block.docs_D4).all()
        data = token_N.tobytes()
        pages = [google_crc32c.value(data[at : at + PAGE_BYTES]) for at in range(0, len(data), PAGE_BYTES)]
        assert blocks.read_pages(read, key).tolist() == pages
        # Where a reader of rows finds them: behind a header of 128 bytes.
        assert read.read_name(f"{key}.tokens.npy")[128:] == data
    rows = np.concatenate([blocks.read_docs(read, key)[:, ROW] for key in blocks.block_keys(read)])
    assert sorted(rows.tolist()) == list(range(0, 24, 2))


def test_a_block_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    made = documents([5, 6], [1, 1])
    for name, data, reason in (
        ("block-000000.block.json", b"{}", "lacks band"),
        ("block-000000.docs.npy", b"\x93NUMPY", "not plain"),
        ("block-000000.docs.npy", blocks.npy_bytes("x", np.zeros((2, 4), np.uint64)), "where documents end"),
        ("block-000000.docs.npy", blocks.npy_bytes("x", np.zeros(8, np.int64)), "dtype int64"),
        ("block-000000.tokens.npy", blocks.npy_bytes("x", np.zeros(5, np.uint16)), "has 5 tokens"),
        ("block-000000.tokens.npy", blocks.npy_bytes("x", np.zeros(13, np.float32)), "dtype float32"),
    ):
        sink = io.BytesIO()
        tar = TarWriter(sink)
        for member, content in blocks.shard_members(by_band(made), "0" * 32):
            tar.add(member, data if member == name else content)
        tar.close()
        (tmp_path / "x.tar").write_bytes(sink.getvalue())
        read = ShardReader(open_storage(tmp_path), "x.tar", index_of_tar(io.BytesIO(sink.getvalue())))
        with pytest.raises(CorruptData, match=reason):
            for key in blocks.block_keys(read):
                blocks.read_head(read, key)
                blocks.read_docs(read, key)
                blocks.read_tokens(read, key)
