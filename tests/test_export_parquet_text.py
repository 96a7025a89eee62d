"""Documents in parquet come back by `ingest text` as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from foundry_testing.exported import export, exported, hashes
from foundry_testing.texts import ingest, some_documents, write_lines

import robot_foundry
from robot_foundry.catalog.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("text")
    write_lines(folder / "source" / "a.jsonl", some_documents(40))
    ingest(folder / "source", folder / "store")
    return Store(str(folder / "store"))


def said(document: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    metadata = {name: value for name, value in document["metadata"].items() if name not in ("id", "file")}
    return document["text"], metadata


def test_every_document_comes_back(store: Store, tmp_path: Path) -> None:
    report = exported(store, "web", "parquet", tmp_path / "out", "--file-bytes", "900")
    assert report["counts"] == {"documents": 40} and report["files"] > 3
    ingest(tmp_path / "out" / "documents", Path(store.url), name="back")
    first, again = (list(robot_foundry.open(name, store=store)) for name in ("web", "back"))
    assert sorted(text for text, _ in map(said, first)) == sorted(text for text, _ in map(said, again))
    by_text = dict(map(said, again))
    for text, metadata in map(said, first):
        back = dict(by_text[text])
        assert back.pop("tags") == str(metadata.pop("tags")).replace("'", '"')  # a list is JSON in a column
        assert back == metadata


def test_a_selection_has_its_documents_and_the_same_bytes_twice(store: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        exported(store, "web", "parquet", tmp_path / name, "--where", "language = 'fr'")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    table = pyarrow.dataset.dataset(tmp_path / "one" / "documents", format="parquet").to_table()
    assert table["language"].to_pylist() == ["fr"] * 13
    assert table.column_names == ["text", "id", "file", "good", "language", "n", "score", "tags"]


def test_parts_of_documents_are_refused(store: Store, tmp_path: Path) -> None:
    code, _, noted = export(store, "web", "parquet", tmp_path / "out", "--split", "val", "--split-by", "time")
    assert code == 2 and "documents go out whole" in noted
