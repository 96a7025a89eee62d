"""Documents go into shards whole: the same bytes however it is run, and all of them counted.

What is expected is told from the source, and read back from the tars with tarfile, zstandard and numpy.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pyarrow as pa
import pytest
import zstandard
from click.testing import CliRunner
from foundry_testing.kills import killed
from foundry_testing.texts import SMALL, content, ingest, some_documents, texts_of, write_lines

from robot_foundry.cli.data.ingest import command
from robot_foundry.ingest.remapping import run as remap
from robot_foundry.ingest.report import Report
from robot_foundry.runtime.errors import FoundryError

BROKEN = ['{"text": null}', '{"text": "half', '{"txt": "other key"}', '{"text": 7}', '{"text": null}']


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of several units and of one, with copies of documents in one file and between files."""
    folder = tmp_path_factory.mktemp("source")
    documents = some_documents(60)
    write_lines(folder / "a.jsonl", [*documents[:40], documents[3], *BROKEN, "", *documents[40:]])
    write_lines(folder / "b" / "copy.jsonl", [*documents[10:20], *some_documents(20, 100)])
    with gzip.open(folder / "c.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(document) + "\n" for document in [documents[0], *some_documents(15, 200)])
    (folder / "d.md").write_text("# Title\n\nNo metadata here.\n")
    return folder


# Of `source`: 60 + 20 + 15 + 1 documents that are not alike, and copies: 1 in a, 10 in b, 1 in c.
WRITTEN, DUPLICATES = 96, 12


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("undisturbed")
    report = ingest(source, store)
    assert report.shards_written >= 6 and not report.noop
    return store


def manifest_of(store: Path, report: Report) -> dict[str, Any]:
    assert report.version is not None
    path = store / "datasets" / "web" / report.version.version_id / "manifest.json"
    read: dict[str, Any] = json.loads(path.read_text())
    return read


def stored(store: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Every document of a version as the members of its tars have it, in order."""
    documents = []
    for shard in manifest["shards"]:
        with tarfile.open(store / "shards" / "web" / f"{shard['key']}.tar") as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        for name in (name for name in members if name.endswith(".block.json")):
            key, head = name.removesuffix(".block.json"), json.loads(members[name])
            meta, text = (
                zstandard.ZstdDecompressor().decompress(members[f"{key}.{suffix}"]) if members else b""
                for suffix in ("meta.jsonl.zst", "txt.zst")
            )
            docs = np.load(io.BytesIO(members[f"{key}.docs.npy"]), allow_pickle=False)
            assert (len(docs), len(text)) == (head["num_documents"], head["num_bytes"])
            start = 0
            for (end, characters, hashed), line in zip(docs.tolist(), meta.splitlines(), strict=True):
                own = text[start:end]
                assert characters == len(own.decode())
                assert hashed == int.from_bytes(blake3.blake3(own).digest(8), "little")
                documents.append({"text": own.decode(), "file": head["file"], **json.loads(line)})
                start = end
    return documents


def test_every_document_is_in_a_block_once_with_what_the_source_says(source, undisturbed):
    report = ingest(source, undisturbed)
    manifest = manifest_of(undisturbed, report)
    documents = stored(undisturbed, manifest)
    by_file: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        by_file.setdefault(document["file"], []).append(document)
    a, copied = some_documents(60), some_documents(20, 100)
    assert sorted(by_file) == ["a.jsonl", "b/copy.jsonl", "c.jsonl.gz", "d.md"]
    assert sorted(texts_of(by_file["a.jsonl"])) == sorted(texts_of(a))
    assert sorted(texts_of(by_file["b/copy.jsonl"])) == sorted(texts_of(copied))
    assert texts_of(by_file["c.jsonl.gz"]) == texts_of(some_documents(15, 200))
    assert (
        by_file["d.md"][0]["text"] == "# Title\n\nNo metadata here.\n"
        and by_file["d.md"][0]["metadata"] == {}
    )
    places = {document["text"]: document["id"] for document in by_file["a.jsonl"]}
    # After the fortieth come a copy, the broken lines and a blank one.
    assert [places[d["text"]] for d in a] == [str(n) for n in (*range(1, 41), *range(48, 68))]
    told = {document["text"]: document["metadata"] for document in documents}
    assert all(told[d["text"]] == {k: v for k, v in d.items() if k != "text"} for d in (*a, *copied))
    counts = manifest["counts"]
    assert (counts["documents"], counts["characters"]) == (WRITTEN, sum(len(d["text"]) for d in documents))
    for name, number in {"num_documents": WRITTEN, "num_characters": counts["characters"]}.items():
        assert sum(shard[name] for shard in manifest["shards"]) == number


def test_what_went_in_is_what_came_out_was_refused_or_repeated(source, undisturbed):
    report = ingest(source, undisturbed)
    counts = manifest_of(undisturbed, report)["counts"]
    expected = {"discovered": 113, "written": WRITTEN, "quarantined": 5, "duplicates": DUPLICATES}
    assert {name: counts[name] for name in expected} == expected
    entries = {(entry.unit, entry.count): entry.reason for entry in report.refused}
    assert entries == {
        ("a.jsonl#42, 46", 2): "its 'text' is null",
        ("a.jsonl#43", 1): entries["a.jsonl#43", 1],
        ("a.jsonl#44", 1): "it has no 'text', did you mean 'txt'?",
        ("a.jsonl#45", 1): entries["a.jsonl#45", 1],
    }
    assert entries["a.jsonl#43", 1].startswith("it is not JSON")
    told = report.to_json()
    assert told["discovered"] == told["written"] + told["duplicates"] + sum(
        entry.get("count", 1) for entry in told["quarantined"]
    )


def test_blocks_and_tables_are_as_large_as_asked(source, undisturbed):
    manifest = manifest_of(undisturbed, ingest(source, undisturbed))
    folder = undisturbed / "datasets" / "web" / manifest["version_id"]
    blocks = pa.ipc.open_file(folder / "blocks.arrow").read_all().to_pylist()
    assert all(block["num_bytes"] <= 400 or block["num_documents"] == 1 for block in blocks)
    assert sum(block["num_bytes"] for block in blocks) / len(blocks) > 200
    rows = []
    for ordinal, shard in enumerate(manifest["shards"]):
        table = pa.ipc.open_file(folder / "documents" / f"{shard['key']}.arrow").read_all()
        here = [block for block in blocks if block["shard"] == ordinal]
        for row in table.to_pylist():
            rows.append({"file": here[row["block"]]["file"], **row})
        of_rows = table["block"].to_pylist()
        before = [sum(number < n for number in of_rows) for n in range(len(here))]
        assert [block["row_start"] for block in here] == before
    expected = stored(undisturbed, manifest)
    assert [(row["file"], row["id"], row["num_characters"]) for row in rows] == [
        (document["file"], document["id"], len(document["text"])) for document in expected
    ]
    assert [json.loads(row["metadata"] or "{}") for row in rows] == [d["metadata"] for d in expected]


@pytest.mark.parametrize(
    "point",
    [
        "storage-before-rename:5",
        "shard-tar-written:3",
        "shard-done:2",
        "tables-done",
        "commit-after-manifest",
    ],
)
def test_a_killed_run_is_completed_by_the_next(source, undisturbed, tmp_path, point):
    script = (
        "import sys, pathlib; from foundry_testing.texts import ingest\n"
        "ingest(*map(pathlib.Path, sys.argv[1:]))"
    )
    killed(script, source, tmp_path, at=point)
    whole = len(list((tmp_path / "shards").rglob("*.index.arrow")))
    report = ingest(source, tmp_path)
    assert report.shards_reused == whole and not report.noop
    assert content(tmp_path) == content(undisturbed)


def test_workers_give_the_bytes_of_one_process(source, undisturbed, tmp_path, ray_workers):
    pytest.importorskip("ray")
    assert ingest(source, tmp_path, workers=2).written == WRITTEN
    assert content(tmp_path) == content(undisturbed)


def test_what_is_left_out_is_told_again_without_the_cache(source, undisturbed, tmp_path):
    store = shutil.copytree(undisturbed, tmp_path / "store")
    before = ingest(source, store)
    for lost in (("builds",), ("builds", "cache")):
        for name in lost:
            shutil.rmtree(store / name)
        again = ingest(source, store)
        assert (again.refused, again.counts) == (before.refused, before.counts)
        assert again.shards_written == 0 and str(again.version) == "web@v1"


def test_a_grown_source_writes_what_is_new_and_first_copies_stay(source, undisturbed, tmp_path):
    store, grown = (
        shutil.copytree(undisturbed, tmp_path / "store"),
        shutil.copytree(source, tmp_path / "source"),
    )
    write_lines(grown / "z.jsonl", [some_documents(1)[0], *some_documents(4, 300)])
    report = ingest(grown, store)
    assert (report.written, report.counts["duplicates"]) == (WRITTEN + 4, DUPLICATES + 1)
    assert report.shards_written == 1
    # In front of all: what it holds is no longer taken from the file that had it before.
    write_lines(grown / "0.jsonl", [*some_documents(10, 100), *some_documents(1, 400)])
    report = ingest(grown, store)
    assert (report.written, report.counts["duplicates"]) == (WRITTEN + 5, DUPLICATES + 11)
    by_file = {d["text"]: d["file"] for d in stored(store, manifest_of(store, report))}
    assert by_file[some_documents(1, 100)[0]["text"]] == "0.jsonl" and len(by_file) == WRITTEN + 5


def test_duplicates_stay_where_that_is_asked_for(source, tmp_path):
    report = ingest(source, tmp_path, "content.deduplicate=false")
    assert (report.written, report.counts["duplicates"]) == (WRITTEN + DUPLICATES, 0)
    assert report.discovered == 113


def test_a_file_of_copies_alone_has_no_shard_and_no_warning(tmp_path):
    write_lines(tmp_path / "source" / "a.jsonl", some_documents(8))
    shutil.copy(tmp_path / "source" / "a.jsonl", tmp_path / "source" / "b.jsonl")
    report = ingest(tmp_path / "source", tmp_path / "store")
    assert (report.written, report.counts["duplicates"], report.warnings) == (8, 8, ())
    files = {d["file"] for d in stored(tmp_path / "store", manifest_of(tmp_path / "store", report))}
    assert files == {"a.jsonl"}


def test_a_source_without_anything_is_refused_in_a_whole_sentence(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    with pytest.raises(FoundryError, match="^nothing was written, and nothing was found in the source$"):
        ingest(tmp_path / "empty.jsonl", tmp_path / "store")


def test_units_that_cannot_be_read_and_documents_count_alike(source, tmp_path):
    bad = shutil.copytree(source, tmp_path / "source")
    (bad / "e.jsonl").write_text("[\n1]\n")
    report = ingest(bad, tmp_path / "store", max_errors=6)
    assert (report.counts["quarantined"], report.discovered) == (6, 114)
    with pytest.raises(
        FoundryError, match="6 units were refused and 5 allowed: e.jsonl: it is one JSON value"
    ):
        ingest(bad, tmp_path / "strict", max_errors=5)
    assert not (tmp_path / "strict" / "datasets").exists()
    only = tmp_path / "only"
    write_lines(only / "x.jsonl", BROKEN)
    with pytest.raises(
        FoundryError, match="nothing was written, 5 units were refused: .*; 1 more for the same"
    ):
        ingest(only, tmp_path / "store", name="only")


def test_a_limit_takes_the_first_units(source, tmp_path):
    report = ingest(source, tmp_path, limit=1)
    assert 0 < report.written < 40 and report.counts["quarantined"] == 0


def test_a_name_of_metadata_that_no_document_has_is_told(source, tmp_path):
    report = ingest(source, tmp_path, "content.metadata=[n, langauge]")
    assert "content.metadata names 'langauge', which no document has" in report.warnings
    again = ingest(source, tmp_path, "content.metadata=[n, langauge]")
    assert again.noop and again.warnings == report.warnings


def test_the_command_tells_of_documents_duplicates_and_dry_runs(source, tmp_path):
    options = [option for override in SMALL for option in ("--set", override)]
    given = ["text", str(source), "--as", "web", "--store", str(tmp_path), *options]
    shown = CliRunner().invoke(command, [*given, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert (
        "metadata: good (boolean), language (string), n (integer), score (number), tags (json)"
        in shown.stdout
    )
    assert "duplicates: 12 documents are left out" in shown.stdout
    assert "refused by their headers; their documents are counted when they are read" in shown.stdout
    assert not (tmp_path / "shards").exists() and not (tmp_path / "datasets").exists()
    shown = CliRunner().invoke(command, given)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("web@v1: 96 documents, ")
    assert "113 units discovered = 96 written + 5 quarantined + 12 duplicates" in shown.stdout
    assert "Warning: 5 of 113 units left out:" in shown.stderr
    assert "  a.jsonl#42, 46: its 'text' is null (2 units)" in shown.stderr
    with pytest.raises(FoundryError, match="web@v1 holds characters, and only a robot dataset has a mapping"):
        remap("web", {}, store=tmp_path)


def test_a_dry_run_needs_no_store_to_write_to(source, tmp_path):
    (tmp_path / "store").write_text("a file, in which no folder can be made")
    given = ["text", str(source), "--as", "web", "--store", str(tmp_path / "store"), "--dry-run"]
    shown = CliRunner().invoke(command, given)
    assert shown.exit_code == 0, shown.output
    assert "duplicates: 12 documents are left out" in shown.stdout
