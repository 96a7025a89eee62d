"""Blocks of documents, their tables and schema, what SQL sees of them, and how they are selected.

What SQL gives is told from the metadata by json alone.
"""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.texts import ingest, some_documents, texts_of, write_lines
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.metadata.columns import column_names, metadata_expressions
from robot_foundry.catalog.metadata.types import MOST_COLUMNS, counted_types, merged_types
from robot_foundry.catalog.opened import OpenVersion, OpenVersions
from robot_foundry.catalog.query.duck import query_tables
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.text.rows import OWN, document_rows
from robot_foundry.catalog.text.schema import TextSchema
from robot_foundry.runtime.errors import FoundryError, NothingSelected, UsageError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.index import read_index, write_index
from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tar import TarWriter
from robot_foundry.shards.text.blocks import (
    BlockHead,
    Document,
    EncodedDocument,
    block_keys,
    block_members,
    read_docs,
    read_head,
    read_meta,
    read_texts,
)

ORIGIN = Origin("a.jsonl#all", "a.jsonl", "0" * 64)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS | FLOATS
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(TEXTS, SCALARS, max_size=2)
METADATA = st.dictionaries(
    st.sampled_from(["url", "URL", "n", "id", "a b", 'q"', "it's", "~/", "", "é"]), VALUES
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("made")
    write_lines(folder / "source" / "a.jsonl", some_documents(60))
    write_lines(folder / "source" / "b.jsonl", some_documents(30, 100))
    ingest(folder / "source", folder / "store")
    return Store(folder / "store")


@pytest.fixture
def opened(store: Store) -> OpenVersion:
    return OpenVersions(store).open("web")


def shard_of(folder: Path, members: list[tuple[str, bytes]]) -> ShardReader:
    with (folder / "x.tar").open("wb") as file:
        tar = TarWriter(file)
        for name, data in members:
            tar.add(name, data)
        summary = tar.close()
    (folder / "x.index.arrow").write_bytes(write_index(summary.members))
    storage = open_storage(str(folder))
    return ShardReader(storage, "x.tar", read_index(storage, "x.index.arrow"))


@given(documents=st.lists(st.tuples(TEXTS, TEXTS, METADATA), max_size=5))
def test_a_block_gives_back_what_went_into_it(tmp_path_factory, documents):
    folder = tmp_path_factory.mktemp("block")
    made = [Document(place, text, metadata) for place, text, metadata in documents]
    refused = [Refusal("it is null", 3, ("7", "9"))]
    encoded = [EncodedDocument.of(document) for document in made]
    shard = shard_of(folder, block_members("b-000000", ORIGIN, encoded, refused, 2))
    assert block_keys(shard) == ["b-000000"]
    assert read_texts(shard, "b-000000") == [document.text for document in made]
    assert read_meta(shard, "b-000000") == [{"id": d.id, "metadata": dict(d.metadata)} for d in made]
    lengths = [len(document.text) for document in made]
    assert read_docs(shard, "b-000000")[:, 1].tolist() == lengths
    head = read_head(shard, "b-000000")
    assert (head.origin, head.refused, head.duplicates) == (ORIGIN, tuple(refused), 2)
    assert (head.num_documents, head.num_characters) == (len(made), sum(lengths))


@pytest.mark.parametrize(
    ("suffix", "damage", "reader"),
    [
        (".block.json", lambda data: data.replace(b'"num_bytes":', b'"num_byts":'), read_head),
        (".block.json", lambda data: data.replace(b'"duplicates":0', b'"duplicates":"0"'), read_head),
        (".block.json", lambda data: data.replace(b'"duplicates":0', b'"duplicates":-1'), read_head),
        (".block.json", lambda data: data.replace(b'"format":1', b'"format":2'), read_head),
        (".block.json", lambda data: b"[]", read_head),
        (".block.json", lambda data: data.replace(b'"num_bytes":7', b'"num_bytes":99999999999'), read_texts),
        (".docs.npy", lambda data: data[:-24], read_texts),
        (".docs.npy", lambda data: data[:-8], read_docs),
        (".docs.npy", lambda data: data.replace(b"<u8", b"<i8"), read_docs),
        (".docs.npy", lambda data: data[:-48] + bytes([9]) + data[-47:], read_docs),
        (".meta.jsonl.zst", lambda data: data[:-1], read_meta),
        (".meta.jsonl.zst", lambda data: b"", read_meta),
        (".txt.zst", lambda data: data[:-2], read_texts),
        (".txt.zst", lambda data: b"no frame", read_texts),
    ],
)  # fmt: skip
def test_a_member_that_says_another_thing_is_refused(tmp_path, suffix, damage, reader):
    encoded = [EncodedDocument.of(Document(str(n), text)) for n, text in enumerate(("äöü", "b"))]
    members = block_members("b-000000", ORIGIN, encoded)
    damaged = [(name, damage(data) if name.endswith(suffix) else data) for name, data in members]
    assert damaged != members
    with pytest.raises(CorruptData, match="b-000000"):
        reader(shard_of(tmp_path, damaged), "b-000000")


def test_half_characters_are_no_text():
    with pytest.raises((FoundryError, UnicodeEncodeError)):
        EncodedDocument.of(Document("1", "\ud800"))
    with pytest.raises(FoundryError, match="lone surrogate"):
        EncodedDocument.of(Document("1", "a", {"url": "\ud800"}))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None, "b"], "string"),
        ([1, 2, None], "integer"),
        ([1, 2**60], "integer"),
        ([1, 2.5], "number"),
        ([2**60, 2.5], "json"),
        ([2**70], "json"),
        ([True, False], "boolean"),
        ([True, 1], "json"),
        (["a", 1], "json"),
        ([["a"], ["b"]], "json"),
        ([{"a": 1}], "json"),
        ([None, None], "json"),
    ],
)  # fmt: skip
def test_a_column_has_the_type_that_holds_all_its_values(values, kind):
    parts = [counted_types([{"x": value}]) for value in values]
    assert TextSchema.of(merged_types(parts)) == TextSchema({"x": kind})
    assert TextSchema.of(merged_types(reversed(parts))) == TextSchema.of(
        counted_types({"x": v} for v in values)
    )


def test_the_rarest_names_have_no_column_of_their_own():
    metadata = [{f"k{n}": "a", "always": 1} for n in range(MOST_COLUMNS + 5)] + [{"k260": "a"}]
    columns = TextSchema.of(counted_types(metadata)).metadata
    assert len(columns) == MOST_COLUMNS and {"always", "k260", "k0"} <= set(columns)
    assert list(columns) == sorted(columns)


def test_schemas_are_read_strictly():
    with pytest.raises(FoundryError, match="none of string, integer, number, boolean, json"):
        TextSchema.from_json({"metadata": {"a": "text"}}, "it")
    with pytest.raises(FoundryError, match="lacks metadata"):
        TextSchema.from_json({}, "it")


@given(names=st.lists(st.text(min_size=0, max_size=6), unique=True))
def test_every_name_has_a_column_of_its_own(names):
    columns = column_names(TextSchema(dict.fromkeys([*names, "ID", "id", "file", "metadata"], "json")), OWN)
    assert len({column.casefold() for column in columns.values()}) == len(columns)
    assert not {"id", "file", "metadata", "_row", ""} & {column.casefold() for column in columns.values()}


def as_sql(value: Any, kind: str) -> Any:
    if value is None:
        return None
    return json.loads(json.dumps(value)) if kind == "json" else float(value) if kind == "number" else value


@settings(max_examples=25)
@given(documents=st.lists(METADATA, min_size=1, max_size=5))
def test_sql_sees_the_values_of_the_source(documents):
    """Whatever the names and values; of what is of several types the JSON."""
    schema = TextSchema.of(counted_types(documents))
    columns = column_names(schema, OWN)
    texts = [json.dumps(metadata, ensure_ascii=False) if metadata else None for metadata in documents]
    table = pa.table({"metadata": pa.array(texts, pa.string())})
    table = table.append_column("row", pa.array(range(len(documents))))
    selected = ", ".join(metadata_expressions(schema, OWN)) or "1"
    rows = query_tables(f"SELECT {selected} FROM t ORDER BY row", {"t": table}, "it").to_pylist()
    for metadata, row in zip(documents, rows, strict=True):
        for name, kind in schema.metadata.items():
            value = row[columns[name]]
            value = json.loads(value) if kind == "json" and value is not None else value
            assert value == as_sql(metadata.get(name), kind), (name, kind)


def test_documents_are_asked_for_by_sql(store: Store, opened: OpenVersion):
    documents = [*some_documents(60), *some_documents(30, 100)]
    for where, holds in (
        ("language = 'de' AND score > 3", lambda d: d["language"] == "de" and d["score"] > 3),
        ("num_characters < 60", lambda d: len(d["text"]) < 60),
        ("num_bytes > num_characters", lambda d: len(d["text"].encode()) > len(d["text"])),
        ("good AND n % 7 = 0", lambda d: d["good"] and d["n"] % 7 == 0),
        ("json_array_length(tags) = 2", lambda d: len(d["tags"]) == 2),
        ("file = 'b.jsonl'", lambda d: d["n"] >= 100),
        ("id = '3' AND file LIKE 'a%'", lambda d: d["n"] == 2),
        ("(metadata->>'n')::INT = 4", lambda d: d["n"] == 4),
    ):
        selection = opened.select(SelectionSpec(split="all", where=where))
        chosen = [document for document in documents if holds(document)]
        assert chosen and selection.num_samples == sum(len(d["text"]) for d in chosen), where
    with pytest.raises(UsageError, match="langage"):
        opened.select(SelectionSpec(where="langage = 'de'"))
    with pytest.raises(NothingSelected, match="no characters of web@v1 are selected"):
        opened.select(SelectionSpec(where="n < 0"))


def test_splits_hold_out_documents_by_their_text(store: Store, opened: OpenVersion, tmp_path: Path):
    half = SelectionSpec(split="val", val_fraction="1/2")
    held_out = opened.select(half).holds(opened.geometry)
    hashes = opened.geometry.hash_E
    assert held_out.tolist() == [int(h) < 2**63 for h in hashes] and 20 < held_out.sum() < 70
    train = opened.select(SelectionSpec(val_fraction="1/2")).holds(opened.geometry)
    assert (train ^ held_out).all()
    # The same texts elsewhere, in another order and under other names, are on the same side.
    write_lines(tmp_path / "other.jsonl", [{"text": text} for text in reversed(texts_of(some_documents(60)))])
    ingest(tmp_path / "other.jsonl", tmp_path / "store", "content.block_bytes=1000")
    other = OpenVersions(Store(tmp_path / "store")).open("web")
    assert set(other.geometry.hash_E.tolist()) <= set(hashes.tolist())
    assert Fraction(half.val_fraction) == Fraction(1, 2)


def test_rows_lie_where_the_geometry_says(opened: OpenVersion):
    rows = document_rows(opened)
    table = query_tables(f"SELECT {rows.columns} FROM t ORDER BY _row", {"t": rows.table}, "it")
    groups = opened.geometry
    assert table["_row"].to_pylist() == list(range(90))
    assert table["num_characters"].to_pylist() == groups.length_E.tolist()
    assert table["shard"].to_pylist() == groups.shard_E.tolist()
    for shard, entry in enumerate(opened.manifest.shards):
        here = groups.shard_E == shard
        assert (here.sum(), groups.length_E[here].sum()) == (entry.num_groups, entry.num_samples)
        assert np.array_equal(groups.start_E[here], np.cumsum(groups.length_E[here]) - groups.length_E[here])
    assert Counter(table["language"].to_pylist()) == Counter(d["language"] for d in _all())
    assert resolve(opened.store, "web") == opened.version


def _all() -> list[dict[str, Any]]:
    return [*some_documents(60), *some_documents(30, 100)]


def test_a_head_is_what_its_json_says():
    head = BlockHead(ORIGIN, 2, 5, 7, 40, 1, (Refusal("it is null", 2, ("1",)),), 3)
    assert BlockHead.from_json(head.to_json(), "it") == head
