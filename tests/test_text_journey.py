"""Text all the way: from files to a version that is shown, asked, checked and opened, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.shells import Shell
from foundry_testing.texts import SMALL, ingest, some_documents, texts_of, write_lines
from make_robomimic import make as make_robots

import robot_foundry
from robot_foundry.catalog.manifest import commit, read_manifest
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.cli.foundry_data import group as foundry_data
from robot_foundry.cli.output import run
from robot_foundry.runtime.errors import FoundryError, UsageError

DOCUMENTS = [*some_documents(60), *some_documents(30, 100)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of `web`, text with a copy and two broken lines, and of the robots of `sim`."""
    folder = tmp_path_factory.mktemp("made")
    broken = ['{"text": null}', '{"text": null}']
    write_lines(folder / "source" / "a.jsonl", [*DOCUMENTS[:60], DOCUMENTS[5], *broken])
    write_lines(folder / "source" / "b.jsonl", DOCUMENTS[60:])
    make_robots(folder / "sim.hdf5", episodes=1, frames=4, size=16)
    store = folder / "store"
    options = [option for override in SMALL for option in ("--set", override)]
    for arguments in (
        ["ingest", "text", str(folder / "source"), "--as", "web", *options],
        ["ingest", "robomimic", str(folder / "sim.hdf5"), "--as", "sim"],
    ):
        assert run(foundry_data, "foundry-data", [*arguments, "--store", str(store)]) == 0
    return store


@pytest.fixture
def shell(made: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    capsys.readouterr()
    return Shell(capsys)


def test_ls_and_show_tell_of_documents(made: Path, shell: Shell) -> None:
    characters, lengths = sum(map(len, texts_of(DOCUMENTS))), sorted(map(len, texts_of(DOCUMENTS)))
    listed = {row["dataset"]: row for row in shell.json(made, "ls")["datasets"]}
    assert (listed["web"]["documents"], listed["web"]["characters"]) == (90, characters)
    assert (listed["web"]["kind"], listed["web"]["episodes"]) == ("text", None)
    shown = shell.json(made, "show", "web")
    told = shown["documents"]
    assert told["bytes"] == sum(len(text.encode()) for text in texts_of(DOCUMENTS))
    assert (told["characters"]["min"], told["characters"]["max"]) == (lengths[0], lengths[-1])
    assert abs(told["characters"]["p50"] - np.median(lengths)) <= 2
    assert {entry["name"]: entry["type"] for entry in told["metadata"]} == {
        **{"good": "boolean", "language": "string", "n": "integer", "score": "number", "tags": "json"}
    }
    code, out, _ = shell(made, "show", "web")
    assert code == 0 and "units        93 found, 90 written, 2 quarantined, 1 duplicates" in out.splitlines()
    assert "             a.jsonl#62, 63: its 'text' is null" in out.splitlines()


def test_sql_reads_documents_and_what_was_left_out(made: Path, shell: Shell) -> None:
    def rows(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = shell.json(made, "query", query)["rows"]
        return found

    expected = Counter(document["language"] for document in DOCUMENTS)
    counted = rows("SELECT language, count(*) AS c FROM documents_web GROUP BY ALL")
    assert {row["language"]: row["c"] for row in counted} == expected
    both = rows('SELECT a.n FROM documents_web a JOIN "documents_web@v1" b USING (n) WHERE b.score > 15')
    assert sorted(row["n"] for row in both) == [d["n"] for d in DOCUMENTS if d["score"] > 15]
    [left] = rows("SELECT unit, reason, count FROM quarantine WHERE dataset = 'web'")
    assert rows("SELECT sum(n) AS n FROM documents_web") == [{"n": sum(d["n"] for d in DOCUMENTS)}]
    code, _, hint = shell(made, "tokenizer", "train", "web", "--vocab", "300", "--where", "language = 'none'")
    [query] = re.findall("foundry-data query '(.*)' shows what conditions can be on", hint)
    assert code == 1 and len(rows(query)) == 9
    assert left == {"unit": "a.jsonl#62, 63", "reason": "its 'text' is null", "count": 2}
    [version] = rows("SELECT discovered, quarantined, duplicates FROM versions WHERE dataset = 'web'")
    assert version == {"discovered": 93, "quarantined": 2, "duplicates": 1}
    types = rows("SELECT name, type FROM metadata_columns WHERE dataset = 'web'")
    assert {row["name"]: row["type"] for row in types}["tags"] == "json"
    code, _, err = shell(made, "query", "SELECT * FROM documents_webb")
    assert code == 1 and "did you mean" in err and "web" in err


def test_documents_are_a_sequence_to_look_into(made: Path) -> None:
    dataset = robot_foundry.open("web", made)
    assert len(dataset) == 90
    by_text = {document["text"]: document for document in dataset}
    assert sorted(by_text) == sorted(texts_of(DOCUMENTS))
    own = by_text[DOCUMENTS[7]["text"]]
    assert own == {
        "text": DOCUMENTS[7]["text"],
        "file": "a.jsonl",
        "id": "8",
        "metadata": {name: value for name, value in DOCUMENTS[7].items() if name != "text"},
    }
    assert dataset[-1] == dataset[89] and dataset[np.int64(3)] == dataset[3]
    with pytest.raises(IndexError, match="has 90 documents, there is no document 90"):
        dataset[90]
    with pytest.raises(UsageError, match="by a whole number, got 'x'"):
        dataset["x"]
    sides = [robot_foundry.open("web", made, split=split) for split in ("train", "val")]
    assert sum(map(len, sides)) == 90 and 0 < len(sides[1]) < 30
    assert {d["text"] for side in sides for d in side} == set(by_text)


REFUSED = {
    "mix --weights web=1": "text is mixed once it is tokens",
    "mix --weights web=1,sim=1": "web of text",
    "remap web --set mapping.state.x=1": "web@v1 holds characters, and only a robot dataset has a mapping",
    "ingest text {source} --as sim": "'sim' holds frames; give these characters another name",
    "ingest text {source} --set content.kye=body": "content.kye: is not a key here, did you mean 'key'",
    "ingest text {source} --as x --set content.key=body": "nothing was written",
    "stats web --stream state": "web has no numbers of 'state' (there are: document)",
    "stats web --plot x.png": "'web' holds characters, not robot data",
}


def test_stats_tell_how_long_documents_are(made: Path, shell: Shell) -> None:
    texts = [document["text"] for document in robot_foundry.open("web", made)]
    code, out, _ = shell(made, "stats", "web", "--json")
    assert code == 0
    characters, encoded = json.loads(out)["numbers"]
    lengths, sizes = [len(text) for text in texts], [len(text.encode()) for text in texts]
    for row, unit, values in ((characters, "characters", lengths), (encoded, "bytes", sizes)):
        told = [row[name] for name in ("of", "number", "unit", "count", "min", "max")]
        assert told == ["document", unit, unit, 90, min(values), max(values)]
        assert row["mean"] == pytest.approx(np.mean(values))


@pytest.mark.parametrize("command", REFUSED)
def test_what_text_is_not_for_is_refused(made: Path, shell: Shell, command: str) -> None:
    before = sorted((made / "refs").rglob("*"))
    code, out, err = shell(made, *command.format(source=made.parent / "source").split())
    assert code in (1, 2) and err.startswith("Error: ") and REFUSED[command] in err and out == ""
    assert sorted((made / "refs").rglob("*")) == before


def test_there_are_no_batches_of_text(made: Path) -> None:
    with pytest.raises(FoundryError, match="text") as caught:
        robot_foundry.load("web", seed=0, global_batch=4, store=made)
    assert caught.value.hint == "foundry-data tokenize web --tokenizer NAME"


@pytest.mark.parametrize("depth", [[], ["--deep"]])
def test_a_version_as_written_is_clean(made: Path, shell: Shell, depth: list[str]) -> None:
    code, out, err = shell(made, "validate", "web", *depth)
    assert (code, err) == (0, "") and "web@v1: nothing found" in out
    assert ("90 texts decoded" in out) == bool(depth)


def test_a_flipped_bit_anywhere_is_found(made: Path, tmp_path: Path) -> None:
    store = shutil.copytree(made, tmp_path / "store")
    shutil.rmtree(store / "cache")
    paths = [p for top in ("shards", "datasets") for p in sorted((store / top / "web").rglob("*.*"))]
    kinds: Counter[str] = Counter()
    for path in paths:
        whole = path.read_bytes()
        kind = "documents" if path.parent.name == "documents" else path.name.partition(".")[2]
        places = {len(whole) // 3, len(whole) - 600, 600} if kind == "tar" else {len(whole) // 2}
        if kinds[kind] >= 3:  # the others are alike
            continue
        for place in places:
            flipped = bytearray(whole)
            flipped[place] ^= 4
            path.write_bytes(flipped)
            [found] = validate("web", store=store, deep=True)
            assert found.damage, (path, place)
            kinds[kind] += 1
        path.write_bytes(whole)
    assert set(kinds) == {"tar", "index.arrow", "arrow", "documents", "json"}
    assert validate("web", store=store, deep=True)[0].damage == ()


def test_tables_of_other_tars_are_found(made: Path, tmp_path: Path) -> None:
    """What is whole byte by byte, and does not go together."""
    store = Store(shutil.copytree(made, tmp_path / "store"))
    opened = OpenVersions(store).open("web")
    manifest = read_manifest(store, opened.version)
    key = manifest.shards[1].key
    for name, column, message in (
        (f"documents/{key}", "split_hash", "does not hold the documents of the tar"),
        ("blocks", "num_replaced", "says of block .* another num_replaced than its tar"),
        ("blocks", "row_start", "another row_start than its tar"),
    ):
        table = opened.table(name)
        values = table[column].to_pylist()
        values[-1 if name == "blocks" else 0] += 1
        place = table.column_names.index(column)
        changed = table.set_column(place, column, pa.array(values, table.schema.field(column).type))
        data = write_table(changed)
        other = replace(
            manifest,
            tables={**manifest.tables, name: table_digest(changed)},
            files={**manifest.files, name: TableFile.of(data)},
            build_id=f"{len(message):032x}",
        )
        for file in manifest.files:
            old = store.table("web", manifest.version_id, file)
            stored = data if file == name else store.storage.read_bytes(old)
            store.storage.write(store.table("web", other.version_id, file), stored)
        version = commit(store, other)
        messages = [finding.message for finding in validate(version, store=store)[0].damage]
        assert len(messages) == 1, messages
        assert re.search(message, messages[0])


def test_doubtful_documents_are_told(tmp_path: Path, shell: Shell) -> None:
    documents = some_documents(12)
    documents[0]["text"] = "caf\ufffd " * 200
    documents[1]["text"] = "word " * 2000
    source = write_lines(tmp_path / "a.jsonl", [*documents, *documents, *documents])
    report = ingest(source, tmp_path / "store")
    assert len(report.warnings) == 2 and "characters are U+FFFD" in report.warnings[0]
    code, out, _ = shell(tmp_path / "store", "validate", "web")
    assert code == 3
    for check in ("replaced", "repeated", "one_document"):
        assert f"[{check}]" in out
    ignored = [option for name in ("replaced", "repeated", "one_document") for option in ("--ignore", name)]
    assert shell(tmp_path / "store", "validate", "web", *ignored)[0] == 0
