"""Versions of tokens as people see them: commands, SQL, and what damage is found."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from foundry_testing.shells import Shell
from foundry_testing.texts import SMALL, ingest, some_documents, texts_of, write_lines

import robot_foundry
from robot_foundry.catalog.manifest import Manifest, ShardEntry, commit
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.validation.validate import validate
from robot_foundry.ingest.tokens.tokenize import run as tokenize
from robot_foundry.shards.index import write_index
from robot_foundry.shards.tar import TarWriter
from robot_foundry.shards.tokens import blocks
from robot_foundry.shards.tokens.bpe import train
from robot_foundry.shards.tokens.tokenizers import read

DOCUMENTS = some_documents(50)
BPE = train(texts_of(DOCUMENTS[:30]), 300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    ingest(write_lines(folder / "web.jsonl", DOCUMENTS), folder / "store")
    tokenize("web", BPE, store=folder / "store", name="tokens")
    return folder / "store"


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "store")


@pytest.fixture
def shell(made: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    capsys.readouterr()
    return Shell(capsys)


def test_from_text_to_tokens_by_commands(shell: Shell, tmp_path: Path) -> None:
    store, source = tmp_path / "store", write_lines(tmp_path / "web.jsonl", DOCUMENTS)
    options = [option for override in SMALL for option in ("--set", override)]
    assert shell(store, "ingest", "text", str(source), "--as", "web", *options)[0] == 0
    out = tmp_path / "bpe.json"
    trained = shell.json(
        store, "tokenizer", "train", "web", "--vocab", "300", "--as", "bpe", "--out", str(out)
    )
    assert trained["names"] == ["bpe"] and trained["size"] == 300
    assert read(out).id == trained["id"]
    held = OpenVersions(Store(store)).open("web").select()
    assert (trained["documents"], trained["characters"]) == (held.num_groups, held.num_samples)
    code, text, _ = shell(store, "tokenizer", "train", "web", "--vocab", "300")
    of = f"from {held.num_groups} documents, {held.num_samples:,} characters of web@v1"
    assert code == 0 and text == f"bpe {trained['id'][:12]}: 300 tokens {of}\n"
    again = shell.json(store, "tokenizer", "show", str(out))
    assert again["id"] == trained["id"] and again["tokens"][str(again["end"])] == "<|endoftext|>"
    listed = shell.json(store, "tokenizer", "show")["tokenizers"]
    assert [one["names"] for one in listed] == [["byte"], ["bpe"]]
    code, text, _ = shell(store, "tokenizer", "show", "bpe")
    assert code == 0 and f"id           {trained['id']}" in text.splitlines()
    assert "end          294 <|endoftext|>" in text.splitlines()
    dry = shell.json(store, "tokenize", "web", "--tokenizer", "bpe", "--dry-run")
    assert dry["version"] is None and dry["preview"]["schema"]["size"] == 300
    pointer = tmp_path / "versions" / "tokens.json"
    report = shell.json(store, "tokenize", "web", "--tokenizer", "bpe", "--pointer", str(pointer))
    assert report["version"] == "web-bpe@v1" and report["documents"] == len(DOCUMENTS)
    assert json.loads(pointer.read_text())["version_id"] == report["version_id"]
    code, text, _ = shell(store, "tokenize", "web@v1", "--tokenizer", str(out), "--as", "web-bpe")
    assert code == 0 and "; nothing to do\n50 units discovered = 50 written + 0 quarantined" in text
    folder = tmp_path / "Smol LM"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(BPE.transformers_json()))
    assert shell.json(store, "tokenizer", "add", str(folder), "--as", "smol")["size"] == BPE.size
    report = shell.json(store, "tokenize", "web@v1", "--tokenizer", str(folder / "tokenizer.json"))
    assert report["version"] == "web-smol-lm@v1"
    code, _, err = shell(store, "query", "FROM documents_web-smol-lm")
    assert code == 2 and "names with a dash stand in double quotes" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tokenize", "web"], 2, "Missing option '--tokenizer'"),
        (["tokenize", "web", "--tokenizer", "bite"], 2, "there is no tokenizer 'bite', did you mean 'byte'"),
        (["tokenize", "wib", "--tokenizer", "byte"], 1, "there is no dataset 'wib'"),
        (
            ["tokenize", "tokens", "--tokenizer", "byte"],
            2,
            "tokens@v1 holds tokens, and tokens are made of text",
        ),
        (["tokenizer", "train", "tokens"], 2, "tokens@v1 holds tokens"),
        (["tokenizer", "train", "web", "--vocab", "9"], 2, "a vocabulary has 264 to"),
        (["tokenizer", "train", "web", "--as", "byte"], 2, "'byte' is the name of the tokenizer"),
        (["tokenizer", "train", "web", "--where", "n > 1000"], 1, "no characters of web@v1 are selected"),
        (
            ["mix", "--weights", "tokens=1", "--where", "n > 1000"],
            1,
            """foundry-data query 'SELECT * FROM "documents_tokens@v1" LIMIT 9' shows what""",
        ),
        (["tokenizer", "trian", "web"], 2, "has no command 'trian', did you mean 'train'"),
        (["tokenizer", "add", "nowhere"], 2, "there is no tokenizer at nowhere"),
        (
            ["remap", "tokens", "--set", "mapping.x=1"],
            2,
            "holds tokens, and only a robot dataset has a mapping",
        ),
    ],
)
def test_what_cannot_be_is_said(
    store: Path, shell: Shell, arguments: list[str], code: int, said: str
) -> None:
    ended, _, err = shell(store, *arguments)
    assert (ended, said in err) == (code, True), err
    assert not (store / "refs" / "web-byte").exists()


def test_a_text_without_more_pairs_gives_a_small_vocabulary(shell: Shell, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ingest(write_lines(tmp_path / "web.jsonl", [{"text": "ab"}, {"text": "ab ab"}]), store)
    code, out, err = shell(store, "tokenizer", "train", "web", "--val-fraction", "0")
    assert code == 0 and "266 tokens from 2 documents" in out
    assert "Warning: the text has only so many pairs: 266 tokens, not 8,192" in err


def test_ls_show_and_sql_tell_of_tokens(made: Path, shell: Shell) -> None:
    tokens = sum(len(ids) + 1 for ids in BPE.encode(texts_of(DOCUMENTS)))
    num_bytes = sum(len(text.encode()) for text in texts_of(DOCUMENTS))
    listed = {row["dataset"]: row for row in shell.json(made, "ls")["datasets"]}
    assert (listed["tokens"]["kind"], listed["tokens"]["tokens"]) == ("tokens", tokens)
    assert (listed["tokens"]["tokenizer"], listed["web"]["tokenizer"]) == (BPE.id, None)
    shown = shell.json(made, "show", "tokens")
    assert shown["tokenizer"]["tokenizer"] == BPE.id and shown["tokenizer"]["names"] == []
    assert shown["documents"]["bytes_a_token"] == pytest.approx(num_bytes / (tokens - 50))
    numbers = shell.json(made, "stats", "tokens")["numbers"]
    assert [(row["number"], row["count"]) for row in numbers] == [("tokens", 50), ("bytes", 50)]
    assert [row["mean"] for row in numbers] == pytest.approx([tokens / 50, num_bytes / 50])
    code, out, _ = shell(made, "show", "tokens")
    assert code == 0
    assert f"tokenizer    {BPE.id[:12]}, 300 tokens, stored as uint16" in out.splitlines()
    text_id = OpenVersions(Store(made)).open("web").version.version_id
    assert f"text         web@v1 ({text_id[:12]})" in out.splitlines()
    sql = "SELECT n, language, num_tokens, num_bytes FROM documents_tokens ORDER BY n"
    rows = shell.json(made, "query", sql)["rows"]
    assert rows == [
        {
            "n": document["n"],
            "language": document["language"],
            "num_tokens": len(BPE.encode([document["text"]])[0]) + 1,
            "num_bytes": len(document["text"].encode()),
        }
        for document in DOCUMENTS
    ]


def test_show_tells_that_the_text_is_gone(store: Path, shell: Shell) -> None:
    shutil.rmtree(store / "refs" / "web")
    code, out, _ = shell(store, "show", "tokens")
    assert code == 0 and "which is not in the store" in out
    code, _, err = shell(store, "query", "SELECT * FROM documents_tokens")
    assert code == 1 and "the text that tokens@v1 was made of" in err


def test_a_whole_version_is_found_whole(made: Path, shell: Shell) -> None:
    for deep in ([], ["--deep"]):
        told = shell.json(made, "validate", "tokens", *deep)
        (version,) = told["versions"]
        assert version["damage"] == version["doubts"] == []
    assert version["checked"]["documents_decoded"] == len(DOCUMENTS)


def found(store: Path, *, deep: bool = True) -> list[tuple[str, str, str]]:
    (validation,) = validate("tokens", store=store, deep=deep)
    return [(finding.check, finding.message, finding.remedy) for finding in validation.damage]


def test_a_lost_tokenizer_and_a_flipped_bit_are_found(store: Path) -> None:
    tar = sorted((store / "shards" / "tokens").glob("*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[data.index(b"tokens.npy") + 512 + 140] ^= 1
    tar.write_bytes(data)
    assert found(store, deep=False) == []
    ((check, said, remedy),) = found(store)
    assert check == "tar" and "in 'block-000000.tokens.npy'" in said
    assert "run the same foundry-data tokenize again" in remedy
    data[data.index(b"tokens.npy") + 512 + 140] ^= 1
    tar.write_bytes(data)
    (store / "tokenizers" / f"{BPE.id}.json").unlink()
    assert {(check, remedy) for check, _, remedy in found(store)} == {
        ("tokenizer", "foundry-data tokenizer add puts one there")
    }
    tar.unlink()
    ((check, said, _),) = found(store, deep=False)
    assert check == "tar" and said.endswith("is missing")


Members = dict[str, bytes]
KEY = "block-000000"


def rewritten(store: Path, change: Callable[[Members], None]) -> None:
    """A version `tokens` whose first tar has other members, and all of whose hashes say so."""
    opened = OpenVersions(Store(store)).open("tokens")
    manifest, entry = opened.manifest, opened.manifest.shards[0]
    shard = open_tar(opened.store, "tokens", entry.key)
    members = {name: shard.read_name(name) for name in shard.index["name"].to_pylist()}
    change(members)
    sink = io.BytesIO()
    tar = TarWriter(sink)
    for name in sorted(members):
        tar.add(name, members[name])
    summary = tar.close()
    opened.store.storage.write(opened.store.shard_tar("tokens", entry.key), sink.getvalue())
    opened.store.storage.write(opened.store.shard_index("tokens", entry.key), write_index(summary.members))
    changed = ShardEntry(entry.key, summary.sha256, summary.num_bytes, entry.num_groups, entry.num_samples)
    counts = {**manifest.counts, "bytes": manifest.counts["bytes"] + summary.num_bytes - entry.tar_bytes}
    _recommit(store, manifest, replace(manifest, shards=(changed, *manifest.shards[1:]), counts=counts))


def _recommit(store: Path, before: Manifest, after: Manifest) -> None:
    there = Store(store)
    if after.version_id != before.version_id:
        shutil.copytree(
            store / there.version_dir("tokens", before.version_id),
            store / there.version_dir("tokens", after.version_id),
            ignore=shutil.ignore_patterns("manifest.json"),
        )
    commit(there, replace(after, build_id="0" * 32))


def array(members: Members, suffix: str, change: Callable[[np.ndarray], None]) -> None:
    values = blocks.read_npy(members[f"{KEY}{suffix}"]).copy()
    change(values)
    members[f"{KEY}{suffix}"] = blocks.npy_bytes("x", values)


def other_tokens(members: Members) -> None:
    """Other ids, and pages that are right of them."""
    array(members, blocks.TOKENS, lambda token_N: token_N.__setitem__(0, token_N[0] ^ 1))
    token_N = blocks.read_npy(members[f"{KEY}{blocks.TOKENS}"])
    members[f"{KEY}{blocks.PAGES}"] = blocks.npy_bytes("x", blocks.page_checksums(token_N))


def no_end(members: Members) -> None:
    array(members, blocks.TOKENS, lambda token_N: token_N.__setitem__(-1, 5))
    token_N = blocks.read_npy(members[f"{KEY}{blocks.TOKENS}"])
    members[f"{KEY}{blocks.PAGES}"] = blocks.npy_bytes("x", blocks.page_checksums(token_N))


def head(**values: Any) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        name = f"{KEY}{blocks.HEAD}"
        members[name] = json.dumps({**json.loads(members[name]), **values}).encode()

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_tokens, "of which 1 documents do not decode to the text that they were made of"),
        (no_end, "with ids that the tokenizer lacks, or a document without end"),
        (lambda m: array(m, blocks.TOKENS, lambda t: t.__setitem__(0, 7)), "whose pages are not its tokens"),
        (lambda m: array(m, blocks.PAGES, lambda p: p.__setitem__(0, 7)), "whose pages are not its tokens"),
        (
            lambda m: array(m, blocks.DOCS, lambda d: d.__setitem__((0, blocks.HASH), 2**64 - 1)),
            "of another band",
        ),
        (head(band=0), "with documents of another band"),
        (head(tokenizer="0" * 32), "of another tokenizer"),
        (head(num_documents=1000), "whose documents end elsewhere"),
        (head(num_inexact=1), "where its head says 1"),
        (lambda m: m.pop(f"{KEY}{blocks.PAGES}"), "does not have the four members of each block"),
        (lambda m: m.update({f"{KEY}{blocks.HEAD}": b"{}"}), "is damaged"),
    ],
)
def test_tokens_that_are_not_those_of_the_text_are_found(
    store: Path, change: Callable[[Members], None], said: str
) -> None:
    rewritten(store, change)
    findings = found(store)
    assert any(said in message for _, message, _ in findings), findings


def with_table(store: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """A version `tokens` one of whose tables has other values, which its manifest names."""
    opened = OpenVersions(Store(store)).open("tokens")
    manifest = opened.manifest
    full = name if name == "blocks" else f"{name}/{manifest.shards[0].key}"
    table = change(opened.table(full))
    after = replace(
        manifest,
        tables={**manifest.tables, full: table_digest(table)},
        files={**manifest.files, full: TableFile.of(write_table(table))},
    )
    _recommit(store, manifest, after)
    path = Store(store).table("tokens", after.version_id, full)
    Store(store).storage.write(path, write_table(table))


def with_first(column: str, value: int) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_numpy().copy()
        values[0] = value
        at = table.column_names.index(column)
        return table.set_column(at, table.schema.field(column), pa.array(values))

    return change


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("blocks", "shard", 99, "of a shard that the manifest lacks"),
        ("blocks", "shard", 1, "not in the order of shards"),
        ("blocks", "row_start", 1, "do not follow each other"),
        ("blocks", "num_tokens", 3, "blocks"),
        ("blocks", "num_documents", 3, "documents in the blocks"),
        ("blocks", "band", 0, "is not what it holds"),
        ("blocks", "hash_max", 5, "is not what it holds"),
        ("documents", "start", 1, "has documents that do not follow each other"),
        ("documents", "block", 9, "is not what it holds"),
    ],
)
def test_tables_that_disagree_are_found(
    store: Path, table: str, column: str, value: int, said: str, deep: bool
) -> None:
    with_table(store, table, with_first(column, value))
    findings = found(store, deep=deep)
    assert any(said in message for _, message, _ in findings), findings


@pytest.mark.parametrize(
    ("table", "column"), [("documents", "num_bytes"), ("documents", "document"), ("pages", "crc32c")]
)
def test_tables_that_do_not_follow_from_the_tar_are_found(store: Path, table: str, column: str) -> None:
    with_table(store, table, with_first(column, 12345))
    assert any("has other rows than follow from the tar" in message for _, message, _ in found(store))


def test_tokens_open_as_documents_that_decode(made: Path) -> None:
    dataset = robot_foundry.open("tokens", store=made)
    texts = [BPE.decode(dataset[i]["tokens"]) for i in range(len(dataset))]
    assert sorted(texts) == sorted(texts_of(DOCUMENTS))
