"""Two kinds in one store: ls, show, query, mix and validate serve both, and know neither.

The second kind is that of tests alone, `foundry_testing.lines`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from foundry_testing.lines import known
from make_robomimic import make

from robot_foundry.catalog import Catalog
from robot_foundry.catalog.kind import ROOMS, all_kinds
from robot_foundry.catalog.manifest import Manifest, TableFile, commit, read_manifest
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.catalog.version import Version
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.ingest.engine import run
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.index import read_index, write_index
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tar import TarWriter

# Three documents of 3, 1 and 2 lines, of which one is blank.
TEXTS = {"a.txt": "one\n\nthree\n", "b.txt": "alone\n", "c.txt": "first\nsecond\n"}


@pytest.fixture(autouse=True, scope="module")
def lines() -> Iterator[None]:
    with known():
        yield


@pytest.fixture(scope="module")
def made(lines: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of robots (sim) and lines (notes, more), and a mixture of each: blend and reading."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "notes").mkdir()
    for name, text in TEXTS.items():
        (folder / "notes" / name).write_text(text)
    (folder / "more").mkdir()
    (folder / "more" / "d.txt").write_text("".join(f"line {i}\n" for i in range(20)))
    spec = folder / "notes.yaml"
    spec.write_text("name: notes\nlayout: lines\ncontent: {shard_bytes: 10}\n")
    store = folder / "store"
    for name in ("notes", "more"):
        run(str(spec), str(folder / name), store=store, name=name)
    make(folder / "sim.hdf5", episodes=2, frames=6, size=16)
    run("robomimic", str(folder / "sim.hdf5"), store=store, name="sim")
    for weights, name in (("sim=1", "blend"), ("notes=0.5,more=0.5", "reading")):
        arguments = ["mix", "--weights", weights, "--as", name, "--split", "all", "--store", str(store)]
        assert run_command(group, "foundry-data", arguments) == 0
    return store


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "store")


class Shell:
    def __init__(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self.capsys = store, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = run_command(group, "foundry-data", [*arguments, "--store", str(self.store)])
        out, err = self.capsys.readouterr()
        return code, out, err

    def json(self, *arguments: str) -> dict[str, Any]:
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        shown: dict[str, Any] = json.loads(out)
        return shown


@pytest.fixture
def shell(made: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    capsys.readouterr()
    return Shell(made, capsys)


def test_ls_shows_what_each_kind_counts(shell: Shell) -> None:
    code, out, _ = shell("ls")
    header, *rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert header == ["version", "kind", "documents", "lines", "episodes", "frames", *header[6:]]
    counts = {row[0]: row[1:6] for row in rows}
    assert counts == {
        "blend@v1": ["mixture", "-", "-", "2", "12"],
        "more@v1": ["lines", "1", "20", "-", "-"],
        "notes@v1": ["lines", "3", "6", "-", "-"],
        "reading@v1": ["mixture", "4", "26", "-", "-"],
        "sim@v1": ["robot", "-", "-", "2", "12"],
    }
    _, out, _ = shell("ls", "sim")
    assert out.split()[:6] == ["version", "kind", "episodes", "frames", "size", "quarantined"]
    _, out, _ = shell("ls", "notes")
    assert out.split()[:6] == ["version", "kind", "documents", "lines", "size", "quarantined"]


def test_ls_counts_groups_and_samples_of_all_kinds(shell: Shell) -> None:
    rows = {row["dataset"]: row for row in shell.json("ls")["datasets"]}
    assert [(row["holds"], row["groups"], row["samples"]) for row in rows.values()] == [
        *[("robot", 2, 12), ("lines", 1, 20), ("lines", 3, 6), ("lines", 4, 26), ("robot", 2, 12)]
    ]
    assert (rows["notes"]["documents"], rows["notes"]["lines"], rows["notes"]["episodes"]) == (3, 6, None)
    assert (rows["notes"]["encoding"], rows["sim"]["encoding"], rows["sim"]["fps"]) == ("utf-8", None, 20)
    listed = {entry.version.dataset: entry for entry in Catalog(shell.store).ls()}
    assert (listed["reading"].kind, listed["reading"].holds) == ("mixture", "lines")
    assert (listed["notes"].groups, listed["notes"].samples) == (3, 6)


def test_queries_reach_the_rows_of_every_kind(shell: Shell) -> None:
    def rows(query: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in Catalog(shell.store).sql(query).to_pylist()]

    assert rows("SELECT dataset, source, num_lines FROM documents ORDER BY source") == [
        *[("notes", "a.txt", 3), ("notes", "b.txt", 1), ("notes", "c.txt", 2), ("more", "d.txt", 20)]
    ]
    assert rows("SELECT count(*) FROM documents_notes") == [(3,)]
    assert rows('SELECT list(text ORDER BY text) FROM "lines_notes@v1"') == [
        (["", "alone", "first", "one", "second", "three"],)
    ]
    assert rows("SELECT version, name, bits FROM encodings ORDER BY version") == [
        *[("more@v1", "utf-8", 8), ("notes@v1", "utf-8", 8)]
    ]
    assert rows("SELECT sum(documents), sum(lines), sum(episodes), sum(frames) FROM shards") == [
        (4, 26, 2, 12)
    ]
    assert rows("SELECT count(*), count(DISTINCT dataset) FROM episodes") == [(2, 1)]
    assert rows("SELECT count(*) FROM frames_sim") == [(12,)]
    for query in ("FROM frames_notes", "FROM documents_sim", "FROM lines_reading", "FROM lines"):
        with pytest.raises(UsageError, match="does not exist"):
            rows(query)
    with pytest.raises(FoundryError, match="did you mean 'notes'"):
        rows("FROM documents_note")


def test_query_help_names_the_tables_of_every_kind() -> None:
    """As a fresh process that knows the second kind, too, would print it."""
    import importlib

    from robot_foundry.cli.data import query

    help_text = importlib.reload(query).command.help or ""
    tables = "versions shards dims cameras metadata_columns encodings"
    for part in (tables, "frames_NAME", "documents ", "max(num_lines)"):
        assert part in help_text


def test_names_in_the_catalogue_are_of_one_kind_alone(made: Path) -> None:
    kinds = all_kinds()
    in_place = [(name, rows) for kind in kinds for name, rows in kind.sql.in_place.items()]
    # Kinds may share a table of which each has rows.
    shared = {(name, tuple(kind.sql.tables[name])) for kind in kinds for name in kind.sql.tables}
    tables = [name for name, _ in shared]
    # What there is of one version at a time may have the same name in several kinds.
    tables += [name for name, rows in in_place if rows.of_all is not None]
    columns = [name for kind in kinds for name in kind.sql.columns.names]
    counted = {name for kind in kinds for name in (kind.groups, kind.samples)}
    assert len(tables) == len(set(tables)) and len(columns) == len(set(columns))
    assert counted.isdisjoint(columns)
    hashed = {"format", "kind", "schema", "shards", "tables", "mixture"}
    assert all(hashed.isdisjoint(kind.shard_tables) for kind in kinds)
    found = Catalog(made).sql("SELECT groups, samples FROM versions WHERE dataset = 'notes'").to_pylist()
    assert found == [{"groups": 3, "samples": 6}]


def test_show_tells_of_documents_and_lines(shell: Shell) -> None:
    code, out, _ = shell("show", "notes")
    assert code == 0
    for line in (
        "documents    3 of 1 to 3 lines",
        "units        3 found, 3 written, 0 quarantined",
        "encoding     utf-8",
        "a.txt         3",
    ):
        assert line in out.splitlines()
    [held] = [line for line in out.splitlines() if line.startswith("lines   ")]
    assert held.startswith("lines        6 in ")
    assert not any(line.startswith("blank ") for line in out.splitlines())
    shown = shell.json("show", "notes")
    assert shown["documents"] == {"lines_min": 1, "lines_max": 3} and "episodes" not in shown
    _, out, _ = shell("show", "reading")
    assert "more@v1" in out and "notes@v1" in out and "dim" not in out.split()


def test_kinds_are_not_mixed_and_flags_are_of_their_kind(shell: Shell) -> None:
    code, _, err = shell("mix", "--weights", "sim=1,notes=1")
    assert code == 1 and "robot" in err and "lines" in err
    result = shell.json("mix", "--weights", "notes=1", "--split", "all", "--where", "num_lines > 1")
    assert [c["num_samples"] for c in result["mixture"]["components"]] == [5]


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_store_of_two_kinds_is_clean(made: Path, deep: bool) -> None:
    num_shards = len(list((made / "shards" / "notes").glob("*.tar")))
    assert num_shards > 1
    [one] = validate("notes", store=made, deep=deep)
    assert one.findings == ()
    assert one.checked == {
        "shards": num_shards,
        "documents": 3,
        "lines": 6,
        "members": 6,
        "texts_decoded": 3 if deep else 0,
        "tables": num_shards + 1,
    }
    assert [str(one.version) for one in validate("reading", store=made, deep=deep)] == [
        *["reading@v1", "more@v1", "notes@v1"]
    ]
    for ref in ("reading", "sim", "blend"):
        assert [f for one in validate(ref, store=made, deep=deep) for f in one.damage] == []


def test_validate_prints_what_the_kind_says(shell: Shell, tmp_path: Path) -> None:
    code, out, _ = shell("validate", "notes")
    assert code == 0 and "3 documents, 6 lines, 6 members" in out and "  1 of 6 lines are blank" in out
    (tmp_path / "e.txt").write_text("x\n\n\n\n")
    run(str(shell.store.parent / "notes.yaml"), str(tmp_path), store=tmp_path / "blank", name="notes")
    blank = Shell(tmp_path / "blank", shell.capsys)
    code, out, err = blank("validate", "notes")
    assert code == 3 and "[blank] notes@v1: 3 of 4 lines are blank" in out
    assert "--ignore 'blank:lines'" in err
    assert blank("validate", "notes", "--ignore", "blank")[0] == 0
    code, _, err = blank("validate", "notes", "--ignore", "blnk")
    assert code == 2 and "did you mean 'blank'" in err


def damage(store: Path, deep: bool = False) -> list[str]:
    found = validate("notes", store=store, deep=deep)
    return [f"{finding.check}: {finding.message}" for one in found for finding in one.damage]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def tar_with(store: Path, source: str) -> Path:
    """The tar that holds the document of this file."""
    [shard] = [row["shard"] for row in rows_of(store) if row["source"] == source]
    return store / "shards" / "notes" / f"{manifest_of(store).shards[shard].key}.tar"


def rows_of(store: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.ipc.open_file(folder_of(store) / "documents.arrow").read_all().to_pylist()
    return rows


def manifest_of(store: Path) -> Manifest:
    return read_manifest(Store(store), resolve(Store(store), "notes"))


def folder_of(store: Path) -> Path:
    return store / "datasets" / "notes" / manifest_of(store).version_id


def recommitted(store: Path, **changed: Any) -> Version:
    """A manifest that says something else and is whole: as a writer with a fault would have made it."""
    old, source = manifest_of(store), folder_of(store)
    manifest = replace(old, build_id="0" * 32, **changed)
    target = source.parent / manifest.version_id
    if source != target:
        shutil.copytree(source, target)
    (target / "manifest.json").unlink()
    return commit(Store(store), manifest)


def test_a_flipped_byte_of_a_text_is_found_deep_and_a_tar_that_is_gone_at_once(store: Path) -> None:
    tar = tar_with(store, "a.txt")
    index = read_index(Store(tar.parent).storage, tar.with_suffix(".index.arrow").name).to_pylist()
    [text] = [row for row in index if row["name"].endswith(".txt")]
    flip(tar, text["offset"])
    assert damage(store) == []
    assert [text["name"] in found and found.startswith("tar: ") for found in damage(store, deep=True)] == [
        True
    ]
    tar.unlink()
    assert damage(store) == [f"tar: {tar} is missing"]


@pytest.mark.parametrize("name", ["documents", "lines"])
def test_a_flipped_byte_of_a_table_is_found(store: Path, name: str) -> None:
    folder = folder_of(store)
    path = folder / "documents.arrow" if name == "documents" else sorted((folder / name).iterdir())[0]
    flip(path, path.stat().st_size // 2)
    [found] = damage(store)
    assert found.startswith("tables: ") and str(path) in found


def test_counts_that_are_not_those_of_the_tables_are_found(store: Path) -> None:
    recommitted(store, counts=dict(manifest_of(store).counts) | {"documents": 4, "lines": 7})
    assert [found.partition(": ")[2] for found in damage(store) if found.startswith("counts")] == [
        "notes@v1: the manifest counts 4 documents, there are 3",
        "notes@v1: the manifest counts 7 lines, there are 6",
    ]


def test_rows_that_are_not_those_of_their_document_are_found(store: Path) -> None:
    rows, old = rows_of(store), manifest_of(store)
    [longest] = [row for row in rows if row["source"] == "a.txt"]
    longest["row_start"] += 1
    table = pa.Table.from_pylist(rows, schema=old.holds.columns("documents", old.schema))
    data = write_table(table)
    recommitted(
        store,
        tables=dict(old.tables) | {"documents": table_digest(table)},
        files=dict(old.files) | {"documents": TableFile.of(data)},
    )
    (folder_of_newest(store) / "documents.arrow").write_bytes(data)
    assert damage(store) == [
        f"lines: notes@v2: document {longest['key']} is not where the table of documents says"
    ]


def folder_of_newest(store: Path) -> Path:
    return store / "datasets" / "notes" / resolve(Store(store), "notes").version_id


def test_a_member_that_is_missing_is_found(store: Path) -> None:
    """The tar, its index and the manifest agree; only the kind knows that a text is lacking."""
    tar, storage = tar_with(store, "c.txt"), Store(store).storage
    path = str(tar.relative_to(store))
    index = storage_index = path.replace(".tar", ".index.arrow")
    reader = ShardReader(storage, path, read_index(storage, index))
    members = {name: reader.read_name(name) for name in reader.index["name"].to_pylist()}
    [key] = [
        name.removesuffix(".txt") for name in members if name.endswith(".txt") and b"second" in members[name]
    ]
    del members[f"{key}.txt"]
    with storage.writer(path) as file:
        writer = TarWriter(file)
        for name, data in sorted(members.items()):
            writer.add(name, data)
        summary = writer.close()
    storage.write(storage_index, write_index(summary.members))
    shards = [
        replace(shard, tar_sha256=summary.sha256, tar_bytes=summary.num_bytes)
        if shard.key == tar.stem
        else shard
        for shard in manifest_of(store).shards
    ]
    recommitted(store, shards=tuple(shards))
    found = [text for text in damage(store, deep=True) if not text.startswith("counts")]
    assert found == [f"documents: {tar} has no text of {key}"]


def test_a_kind_that_nobody_knows_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ROOMS, "lines")
    with pytest.raises(FoundryError, match="there is no kind 'lines'"):
        manifest_of(made)
    assert {"there is no kind" in f.message for one in validate("notes", store=made) for f in one.damage} == {
        True
    }


def test_a_mixture_says_what_it_is_of_unless_it_is_of_robots(made: Path) -> None:
    """So mixtures that were stored when there was no other kind are read as before, and keep their bytes."""
    store = Store(made)
    for name, of in (("blend", None), ("reading", "lines")):
        version = resolve(store, name)
        path = store.manifest(name, version.version_id)
        assert json.loads(store.storage.read_bytes(path)).get("of") == of
        assert read_manifest(store, version).holds.name == (of or "robot")
