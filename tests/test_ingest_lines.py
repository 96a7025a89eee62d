"""A kind that is not of the package goes through ingest: tars, tables, counts, and what may go wrong.

Expected rows are told from the text files themselves, read back with tarfile, json and pyarrow.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from foundry_testing.kills import killed
from foundry_testing.lines import known

from robot_foundry.cli.data.ingest import command
from robot_foundry.ingest.engine import Options, run
from robot_foundry.ingest.remapping import run as remap
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.runtime import files
from robot_foundry.runtime.errors import FoundryError, UsageError

SPEC = "name: notes\nlayout: lines\ncontent: {shard_bytes: 60}\n"
KEPT = ("shards", "datasets", "refs", "builds")


@pytest.fixture(scope="module", autouse=True)
def lines_are_known() -> Iterator[None]:
    with known():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve documents of one to six lines, in two folders."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(12):
        path = folder / ("a" if i % 2 else "b") / f"{i:02d}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"line {n} of {i}, äöü\n" for n in range(1 + i % 6)), "utf-8")
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("spec") / "notes.yaml"
    path.write_text(SPEC)
    return str(path)


@pytest.fixture(scope="module")
def undisturbed(source: Path, spec: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store after one run without trouble."""
    store = tmp_path_factory.mktemp("undisturbed")
    report = ingest(spec, source, store)
    assert (report.discovered, report.written, report.quarantined, report.noop) == (12, 12, (), False)
    assert report.shards_written >= 4
    return store


def ingest(spec: str, source: Path, store: Path, **options: Any) -> Report:
    return run(spec, str(source), store=store, name="notes", options=Options(**options))


def content(store: Path) -> dict[str, bytes]:
    """Bytes of all that a store keeps, not of its cache."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for top in KEPT
        for path in sorted((store / top).rglob("*"))
        if path.is_file() and not path.name.startswith(".tmp-")
    }


def folder_of(store: Path, report: Report) -> Path:
    assert report.version is not None
    return store / "datasets" / "notes" / report.version.version_id


def table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.ipc.open_file(path).read_all().to_pylist()
    return rows


def texts_of(store: Path, report: Report) -> dict[str, list[str]]:
    """The lines of every document by its file, as the tables have them."""
    folder = folder_of(store, report)
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    texts = {}
    for row in table(folder / "documents.arrow"):
        lines = table(folder / "lines" / f"{shards[row['shard']]['key']}.arrow")
        own = lines[row["row_start"] : row["row_start"] + row["num_lines"]]
        assert [line["line"] for line in own] == list(range(row["num_lines"]))
        texts[row["source"]] = [line["text"] for line in own]
    return texts


def lines_in(source: Path) -> dict[str, list[str]]:
    return {
        path.relative_to(source).as_posix(): path.read_text("utf-8").splitlines()
        for path in source.rglob("*.txt")
    }


def test_every_line_is_in_a_tar_and_a_table_and_is_counted(source, spec, undisturbed):
    report = ingest(spec, source, undisturbed)
    assert report.noop and texts_of(undisturbed, report) == lines_in(source)
    manifest = json.loads((folder_of(undisturbed, report) / "manifest.json").read_text())
    num_lines = sum(map(len, lines_in(source).values()))
    assert (manifest["kind"], manifest["schema"]) == ("lines", {"encoding": "utf-8"})
    counts = {"discovered": 12, "written": 12, "quarantined": 0, "documents": 12, "lines": num_lines}
    assert {name: manifest["counts"][name] for name in counts} == counts
    assert sum(shard["num_documents"] for shard in manifest["shards"]) == 12
    assert sum(shard["num_lines"] for shard in manifest["shards"]) == num_lines
    told = report.to_json()
    assert (told["documents"], told["lines"]) == (12, num_lines) and "episodes" not in told
    members = {}
    for shard in manifest["shards"]:
        with tarfile.open(undisturbed / "shards" / "notes" / f"{shard['key']}.tar") as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}
    told_by = {name: json.loads(data) for name, data in members.items() if name.endswith(".json")}
    stored = {
        about["source"]: members[name.replace("document.json", "txt")].decode().split("\n")
        for name, about in told_by.items()
    }
    assert stored == lines_in(source) and len(members) == 24


@pytest.mark.parametrize(
    "point",
    [
        "storage-before-rename:4",
        "shard-tar-written:3",
        "shard-done:2",
        "tables-done",
        "commit-after-manifest",
    ],
)
def test_a_killed_run_is_completed_by_the_next(source, spec, undisturbed, tmp_path, point):
    script = (
        "import sys; from foundry_testing.lines import known; from robot_foundry.ingest.engine import run\n"
        "with known(): run(sys.argv[1], sys.argv[2], store=sys.argv[3], name='notes')"
    )
    killed(script, spec, source, tmp_path, at=point)
    whole = len(list((tmp_path / "shards").rglob("*.index.arrow")))
    report = ingest(spec, source, tmp_path)
    assert report.shards_reused == whole and not report.noop
    assert content(tmp_path) == content(undisturbed)


def test_what_cannot_be_read_is_named_and_counted_in_every_run(source, spec, tmp_path):
    """Refused while it is listed, while it is read, and while its rows are made."""
    bad = shutil.copytree(source, tmp_path / "source")
    (bad / "latin.txt").write_bytes(b"caf\xe9\n")
    (bad / "blank.txt").write_bytes(b" \n")
    (bad / "fed.txt").write_text("one\n\ftwo\n")
    (bad / "image.png").write_bytes(b"no text")
    expected = {
        "blank.txt": "it holds no document",
        "latin.txt#latin": "its byte 3 is not UTF-8",
        "fed.txt#fed": "it has a form feed",
    }
    for lost in ((), ("builds",), ("builds", "cache"), ("builds", "cache", "shards")):
        for name in lost:
            shutil.rmtree(tmp_path / "store" / name)
        report = ingest(spec, bad, tmp_path / "store")
        assert dict(report.quarantined) == expected
        assert (report.discovered, report.written, report.counts["documents"]) == (15, 12, 12)
        assert texts_of(tmp_path / "store", report) == lines_in(source)
    assert "passed over 1 file that the layout lines does not read: image.png" in report.warnings
    with pytest.raises(FoundryError, match="3 units were refused and 2 allowed"):
        ingest(spec, bad, tmp_path / "strict", max_errors=2)
    assert not (tmp_path / "strict" / "datasets").exists()


def test_a_grown_source_writes_new_shards_only(source, spec, undisturbed, tmp_path):
    store = shutil.copytree(undisturbed, tmp_path / "store")
    grown = shutil.copytree(source, tmp_path / "source")
    (grown / "b" / "05.txt").write_text("new\n\n")
    before = ingest(spec, source, store)
    report = ingest(spec, grown, store)
    assert (report.written, report.noop, str(report.version)) == (13, False, "notes@v2")
    # The shard in which it falls ends elsewhere, or is cut in two by it.
    assert 1 <= report.shards_written <= 2 and report.shards_reused >= before.shards_reused - 1
    assert texts_of(store, report) == lines_in(grown)
    assert "1 lines are blank: content.keep_blank=false leaves them out" in report.warnings
    assert texts_of(store, before) == lines_in(source)


def test_the_order_of_a_listing_changes_no_byte(source, spec, undisturbed, tmp_path, monkeypatch):
    walked = files.walk
    monkeypatch.setattr(files, "walk", lambda root: reversed(list(walked(root))))
    report = ingest(spec, source, tmp_path)
    assert report.written == 12
    assert content(tmp_path) == content(undisturbed)


def test_a_limit_and_another_content_make_versions_of_their_own(source, spec, tmp_path):
    assert ingest(spec, source, tmp_path, limit=5).counts["documents"] == 5
    whole = run(load_spec(spec, ["content.keep_blank=false"]), source, store=tmp_path, name="notes")
    # Other content may be other bytes, so no shard is shared, though here they are the same.
    assert whole.shards_reused == 0 and whole.counts["documents"] == 12


def test_the_command_counts_in_the_words_of_the_kind(source, spec, tmp_path):
    shown = CliRunner().invoke(command, [spec, str(source), "--store", str(tmp_path), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "12 documents, " in shown.stdout and "text: utf-8" in shown.stdout
    shown = CliRunner().invoke(command, [spec, str(source), "--store", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    num_lines = sum(map(len, lines_in(source).values()))
    assert shown.stdout.startswith(f"notes@v1: 12 documents, {num_lines} lines, ")


def test_copies_and_mappings_are_told_in_the_words_of_the_kind(source, spec, tmp_path):
    doubled = shutil.copytree(source, tmp_path / "source")
    shutil.copy(doubled / "a" / "01.txt", doubled / "again.txt")
    report = ingest(spec, doubled, tmp_path / "store")
    (told,) = report.warnings
    assert "whose documents count twice" in told and "again.txt holds what a/01.txt holds" in told
    with pytest.raises(FoundryError, match="notes@v1 holds lines, and only a robot dataset has a mapping"):
        remap("notes", {}, store=tmp_path / "store")


def test_the_spec_is_read_by_its_kind(spec):
    with pytest.raises(UsageError, match="content.shard_byte: is not a key here, did you mean 'shard_bytes'"):
        load_spec(spec, ["content.shard_byte=1"])
    with pytest.raises(UsageError, match="mapping: is not a key here"):
        load_spec(spec, ["mapping={}"])
