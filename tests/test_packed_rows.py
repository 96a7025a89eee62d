"""Packed rows against a naive construction from the texts themselves, at any length and under any selection.

Legend: S tokens of a row, n rows.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import groupby
from uuid import uuid4

import numpy as np
import pytest
from foundry_testing.tokens import Document, WideTokenizer, WrittenTokens, write_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

import robot_foundry
from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tokens import geometry as geometries
from robot_foundry.loader.load import Loader, load
from robot_foundry.loader.tokens.batch import TokenBatch
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.runtime.errors import FoundryError, NothingSelected, UsageError
from robot_foundry.shards.text.blocks import document_hash
from robot_foundry.shards.tokens.blocks import BANDS, PAGE_BYTES

SHARDS = st.lists(st.lists(st.text(max_size=40), max_size=12), min_size=1, max_size=3).filter(any)
SPLITS = st.sampled_from(["all", "train", "val"])
FRACTIONS = st.sampled_from(["0", "1/1000", "1/10", "1/3", "9/10"])
Row = tuple[list[int], list[int], list[int], list[int], float]  # inputs, targets, segments, positions, bytes


def written(shards: list[list[str]], wide: bool, block_tokens: int) -> tuple[Store, WrittenTokens]:
    """In memory: a version of uint16, or of uint32 with ids that need it."""
    store = Store(f"memory://rows-{uuid4().hex}")
    tokenizer = WideTokenizer() if wide else None
    return store, write_tokens(store, "t", shards, block_tokens=block_tokens, tokenizer=tokenizer)


def chosen(documents: list[Document], split: str, fraction: Fraction) -> list[Document]:
    """The documents of a split, by their hashes alone."""
    if split == "all":
        return documents
    held_out = [Fraction(document.hash, 2**64) < fraction for document in documents]
    if all(held_out):
        greatest = max(document.hash for document in documents)
        held_out = [document.hash != greatest for document in documents]
    return [d for d, is_held_out in zip(documents, held_out, strict=True) if is_held_out == (split == "val")]


def naive_rows(blocks: list[list[Document]], made: WrittenTokens, length: int) -> list[Row]:
    """Of each block its documents' tokens behind each other, cut into rows."""
    tokenizer, rows = made.tokenizer, []
    for block in blocks:
        tokens = [(d, i, int(token)) for d in block for i, token in enumerate(d.ids_N)]
        for begin in range(0, len(tokens), length):
            part = tokens[begin : begin + length]
            inputs = [tokenizer.start if i == 0 else int(d.ids_N[i - 1]) for d, i, _ in part]
            segments, positions = [], []
            for number, (_, group) in enumerate(groupby(part, key=lambda token: id(token[0]))):
                size = len(list(group))
                segments += [number] * size
                positions += range(size)
            left = length - len(part)
            num_bytes = sum(Fraction(len(d.text.encode()), len(d.ids_N)) for d, _, _ in part)
            rows.append(
                (
                    inputs + [tokenizer.pad] * left,
                    [token for *_, token in part] + [tokenizer.pad] * left,
                    segments + [-1] * left,
                    positions + [0] * left,
                    float(num_bytes),
                )
            )
    return rows


def loaded_rows(loader: Loader[TokenBatch]) -> list[Row]:
    """The rows of an epoch in the order of blocks, whatever the order in which they come."""
    count = loader.counts()[0]
    rows: dict[int, Row] = {}
    batches = [loader.batch(b) for b in range(-(-count // loader.global_batch))]
    for batch in batches:
        _, epoch_B, sample_B = loader._order.at(batch.k_B)
        for i in np.flatnonzero(epoch_B == 0):
            arrays = (batch.token_BS, batch.target_BS, batch.segment_BS, batch.position_BS)
            assert int(sample_B[i]) not in rows
            rows[int(sample_B[i])] = (*(array[i].tolist() for array in arrays), float(batch.bytes_B[i]))
    assert sorted(rows) == list(range(count))
    return [rows[i] for i in range(count)]


def blocks_of(made: WrittenTokens, documents: list[Document]) -> list[list[Document]]:
    """The documents that are used of each block."""
    used = set(map(id, documents))
    blocks = [list(group) for _, group in groupby(made.documents, key=lambda document: document.block)]
    return [[document for document in block if id(document) in used] for block in blocks]


@settings(max_examples=40, deadline=None)
@given(SHARDS, SPLITS, FRACTIONS, st.integers(1, 70), st.booleans(), st.sampled_from([1, 60, 1 << 20]))
def test_rows_are_those_of_a_naive_construction(
    shards: list[list[str]], split: str, fraction: str, length: int, wide: bool, block_tokens: int
) -> None:
    """So every token that is selected is a target exactly once in an epoch, and the bytes are those of the
    texts."""
    store, made = written(shards, wide, block_tokens)
    expected = chosen(made.documents, split, Fraction(fraction))
    selection = SelectionSpec(split=split, val_fraction=fraction)
    versions = OpenVersions(store)
    if not expected:
        with pytest.raises(NothingSelected):
            versions.open("t").select(selection)
        return
    mixture = make_mixture(versions, {"t": 1}, split=split, val_fraction=fraction, lanes=2, span=2)
    with load(mixture, RowSpec(length), seed=1, global_batch=4, threads=0, split=split) as loader:
        rows = loaded_rows(loader)
    naive = naive_rows(blocks_of(made, expected), made, length)
    assert [row[:4] for row in rows] == [row[:4] for row in naive]
    assert [row[4] for row in rows] == pytest.approx([row[4] for row in naive], rel=1e-12)
    targets = Counter(
        target for row in rows for target, segment in zip(row[1], row[2], strict=True) if segment >= 0
    )
    assert targets == Counter(token for d in expected for token in d.ids_N.tolist())
    assert sum(row[4] for row in rows) == pytest.approx(sum(len(d.text.encode()) for d in expected))


@settings(max_examples=30, deadline=None)
@given(SHARDS, SPLITS, st.sampled_from(["0", *map(str, BANDS)]), st.integers(1, 60))
def test_blocks_decide_as_their_documents_do(
    shards: list[list[str]], split: str, fraction: str, block_tokens: int
) -> None:
    store, made = written(shards, False, block_tokens)
    opened = OpenVersions(store).open("t")
    spec = SelectionSpec(split=split, val_fraction=fraction)
    expected = len(chosen(made.documents, split, Fraction(fraction)))
    if not expected:
        with pytest.raises(NothingSelected):
            opened.select(spec)
        return
    selection = opened.select(spec)
    one_by_one = SelectionSpec(split=split, val_fraction=fraction, where="true")
    assert selection.num_groups == opened.select(one_by_one).num_groups == expected
    assert selection.id == opened.select(one_by_one).id
    whole = geometries.geometry_of(opened, spec)
    assert whole.num_groups == len(made.documents)


def test_where_all_documents_are_held_out_one_of_them_is_not() -> None:
    """As of documents, not of the blocks that they are in."""
    low = [text for text in map(str, range(400)) if document_hash(text.encode()) < 2**64 // 10]
    store, made = written([low], False, 20)
    opened = OpenVersions(store).open("t")
    assert opened.table("blocks").num_rows < len(low)
    expected = {split: chosen(made.documents, split, Fraction(1, 10)) for split in ("train", "val")}
    assert len(expected["train"]) == 1
    for split, documents in expected.items():
        dataset = robot_foundry.open("t", store, split=split)
        assert [dataset.text(i) for i in range(len(dataset))] == [document.text for document in documents]


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


def test_a_condition_on_documents_selects_whole_ones_out_of_blocks(store: Store) -> None:
    texts = [["a" * n for n in (5, 40, 3, 40, 2)], ["b" * n for n in (41, 1)]]
    made = write_tokens(store, "t", texts)
    mixture = make_mixture(store, {"t": 1}, split="all", where="num_bytes < 40")
    with load(mixture, RowSpec(6), seed=0, global_batch=2, split="all", threads=0) as loader:
        rows = loaded_rows(loader)
    short = [d for d in made.documents if len(d.text) < 40]
    naive = naive_rows(blocks_of(made, short), made, 6)
    assert [row[:4] for row in rows] == [row[:4] for row in naive] and len(short) == 4


def test_the_end_of_each_document_may_be_held_out(store: Store) -> None:
    """Its first token is predicted from the one before it in its document, which is of the other split."""
    made = write_tokens(store, "t", [["abcdefghijklmnopqrst" * 2, "xy"]])
    options = {"split_by": "time", "val_fraction": "1/4", "gap": 3}
    seen = {}
    for split in ("train", "val"):
        mixture = make_mixture(store, {"t": 1}, split=split, **options)
        with load(mixture, RowSpec(64), seed=0, global_batch=1, split=split, threads=0) as loader:
            [row] = loaded_rows(loader)
        seen[split] = [(i, t) for i, t, segment in zip(row[0], row[1], row[2], strict=True) if segment >= 0]
    long, short = sorted(made.documents, key=lambda d: -len(d.ids_N))
    ids = [made.tokenizer.start, *long.ids_N.tolist()]
    pairs = list(zip(ids, ids[1:], strict=False))
    assert seen["val"] == pairs[-10:]
    short_pairs = list(zip([made.tokenizer.start, *short.ids_N.tolist()], short.ids_N.tolist(), strict=False))
    assert Counter(seen["train"]) == Counter(pairs[:-13] + short_pairs)


def test_rows_decode_to_the_texts(store: Store) -> None:
    texts = [["Grüße, ☃ <|endoftext|> <pad>", "", "line\r\n\x00 end"], ["one more"] * 3]
    tokenizer = write_tokens(store, "t", texts, block_tokens=10).tokenizer
    with load("t", RowSpec(7), seed=0, global_batch=3, store=store, split="all", threads=0) as loader:
        rows = loaded_rows(loader)
    targets = [t for row in rows for t, segment in zip(row[1], row[2], strict=True) if segment >= 0]
    ends = [i for i, target in enumerate(targets) if target == tokenizer.end]
    parts = [targets[begin:end] for begin, end in zip([0, *(i + 1 for i in ends)], ends, strict=False)]
    assert Counter(map(tokenizer.decode, parts)) == Counter(text for shard in texts for text in shard)
    assert ends[-1] == len(targets) - 1


@pytest.mark.parametrize("wide", [False, True])
def test_rows_cross_pages(store: Store, wide: bool) -> None:
    texts = [[chr(97 + i % 26) * (PAGE_BYTES // 8 + i) for i in range(12)]]
    made = write_tokens(store, "t", texts, tokenizer=WideTokenizer() if wide else None)
    with load("t", RowSpec(5000), seed=0, global_batch=4, store=store, split="all", threads=0) as loader:
        rows = loaded_rows(loader)
    assert sum(len(d.ids_N) for d in made.documents) * (4 if wide else 2) > 2 * PAGE_BYTES
    naive = naive_rows(blocks_of(made, made.documents), made, 5000)
    assert [row[:4] for row in rows] == [row[:4] for row in naive]


def test_a_dataset_gives_documents(store: Store) -> None:
    texts = [[f"text {i}" * (i % 4) for i in range(40)], ["more", "more"]]
    made = write_tokens(store, "t", texts, block_tokens=50)
    for split in ("all", "train", "val"):
        dataset = robot_foundry.open("t", store, split=split)
        expected = chosen(made.documents, split, Fraction(1, 10))
        assert len(dataset) == len(expected) > 0
        for given_, document in zip(dataset, expected, strict=True):
            assert given_["tokens"].tolist() == document.ids_N.tolist()
            assert (given_["shard"], given_["document"]) == (document.shard, document.row)
            assert given_["num_bytes"] == len(document.text.encode())
        assert dataset[-1]["tokens"].tolist() == expected[-1].ids_N.tolist()
        assert dataset.text(0) == expected[0].text
    with pytest.raises(IndexError, match="has 42 documents, there is no document 42"):
        robot_foundry.open("t", store)[42]


def test_tokens_of_several_tokenizers_are_not_mixed(store: Store) -> None:
    write_tokens(store, "bytes", [["a"]])
    write_tokens(store, "wide", [["a"]], tokenizer=WideTokenizer())
    with pytest.raises(FoundryError, match="tokens of several tokenizers cannot be mixed: 'bytes' by"):
        load({"bytes": 1, "wide": 1}, RowSpec(4), seed=0, global_batch=1, store=store, split="all")


def test_rows_of_no_token_are_refused() -> None:
    with pytest.raises(UsageError, match="rows of length 0 hold no token"):
        RowSpec(0)
