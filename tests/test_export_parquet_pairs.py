"""Pairs in parquet hold what a version of pairs holds, and `ingest pairs` reads them back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pytest
from foundry_testing.exported import exported, hashes
from foundry_testing.pairs import TestPair, some_pairs, write_pairs

import robot_foundry
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.spec.spec_files import load_spec


@pytest.fixture(scope="module")
def pairs() -> list[TestPair]:
    return some_pairs(40, seed=3)


@pytest.fixture(scope="module")
def store(pairs: list[TestPair], tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(str(tmp_path_factory.mktemp("store")))
    write_pairs(made, "photos", pairs)
    return made


def rows(folder: Path) -> pa.Table:
    return pyarrow.dataset.dataset(folder / "pairs", format="parquet").to_table()


def said(pair: dict[str, Any]) -> dict[str, Any]:
    """What a pair says and shows, without its place in a source."""
    pictures = [(pixels.shape, pixels.tobytes()) for pixels in pair["pictures"]]
    metadata = {name: value for name, value in pair["metadata"].items() if name not in ("id", "file")}
    return {"pictures": pictures, "captions": pair["captions"], "turns": pair["turns"]} | {
        "metadata": {name: value for name, value in metadata.items() if value is not None}
    }


def test_every_pair_comes_back_by_ingest(store: Store, pairs: list[TestPair], tmp_path: Path) -> None:
    report = exported(store, "photos", "parquet", tmp_path / "out", "--file-bytes", "8000")
    assert report["counts"] == {"pairs": 40} and report["files"] > 4
    spec = load_spec("pairs", ["content.deduplicate=false"])
    source = str(tmp_path / "out" / "pairs")
    back = run(spec, source, store=store.url, name="back", options=Options())
    assert back.version is not None and back.version.dataset == "back"
    first, again = (robot_foundry.open(name, store=store) for name in ("photos", "back"))
    assert len(first) == len(again) == 40
    by_id = {first[i]["id"]: said(first[i]) for i in range(40)}
    for i in range(40):
        pair = again[i]
        assert said(pair) == by_id[pair["metadata"]["id"]]
    assert {again[i]["metadata"]["id"] for i in range(40)} == set(by_id)


def test_columns_are_those_that_datasets_reads(store: Store, pairs: list[TestPair], tmp_path: Path) -> None:
    exported(store, "photos", "parquet", tmp_path / "out")
    table = rows(tmp_path / "out")
    assert table.column_names == [
        "id",
        "file",
        "images",
        "caption",
        "re_caption",
        "messages",
        "language",
        "score",
    ]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["images"] == {"feature": {"_type": "Image"}, "_type": "Sequence"}
    for row, pair in zip(table.to_pylist(), pairs, strict=True):
        assert [image["bytes"] for image in row["images"]] == [picture.data for picture in pair.encoded]
        assert (row["caption"], row["language"]) == (
            pair.captions.get("caption"),
            pair.metadata.get("language"),
        )


def test_a_condition_and_the_same_bytes_twice(store: Store, pairs: list[TestPair], tmp_path: Path) -> None:
    for name in ("one", "two"):
        exported(store, "photos", "parquet", tmp_path / name, "--where", "language = 'de'")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    languages = rows(tmp_path / "one")["language"].to_pylist()
    assert languages == ["de"] * sum(pair.metadata.get("language") == "de" for pair in pairs)
    guess = exported(store, "photos", "parquet", tmp_path / "no", "--where", "language = 'de'", "--dry-run")
    assert guess["counts"] == {"pairs": len(languages)} and not (tmp_path / "no").exists()
