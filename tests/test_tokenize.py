"""Tokens of a version of text: every document exactly, the same bytes whatever happens, nothing silent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.kills import killed
from foundry_testing.texts import SMALL, content, ingest, some_documents, texts_of, write_lines
from foundry_testing.tokens import WideTokenizer
from make_robomimic import make as make_robots

from robot_foundry.catalog.manifest import read_manifest
from robot_foundry.catalog.opened import OpenVersion, OpenVersions
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.tokens.tokenizers import find, keep, names, read_id
from robot_foundry.ingest.engine import Options
from robot_foundry.ingest.engine import run as run_ingest
from robot_foundry.ingest.report import Report
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.ingest.tokens import encode, tokenize
from robot_foundry.ingest.tokens.training import selected_texts, train_tokenizer
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.text import blocks as text_blocks
from robot_foundry.shards.tokens import blocks
from robot_foundry.shards.tokens.bpe import train
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.fast_tokenizer import FastTokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer

ODD = ["a\x00b", "<|endoftext|> is text", "\n\n  \t", "🙂" * 50, "e\u0301", "x"]
DOCUMENTS = [*some_documents(60), *({"text": text} for text in ODD)]
BPE = train(texts_of(some_documents(40)), 300)
TOKENIZERS: dict[str, Tokenizer] = {"byte": ByteTokenizer(), "bpe": BPE}


def make(store: Path, name: str = "tokens", tokenizer: Tokenizer = BPE, **options: Any) -> Report:
    return tokenize.run("web", tokenizer, store=store, name=name, options=Options(**options))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the text `web` in several shards."""
    folder = tmp_path_factory.mktemp("text")
    ingest(write_lines(folder / "web.jsonl", DOCUMENTS), folder / "store")
    assert len(OpenVersions(Store(folder / "store")).open("web").manifest.shards) > 3
    return folder / "store"


@pytest.fixture
def store(text: Path, tmp_path: Path) -> Path:
    return shutil.copytree(text, tmp_path / "store")


@pytest.fixture(scope="module")
def undisturbed(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = shutil.copytree(text, tmp_path_factory.mktemp("undisturbed") / "store")
    make(store)
    return store


def opened(store: Path, name: str = "tokens") -> OpenVersion:
    return OpenVersions(Store(store)).open(name)


def decoded(version: OpenVersion, tokenizer: Tokenizer) -> list[tuple[int, int, str]]:
    """(shard, row in its text, decoded text) of all documents, from members of the tars alone."""
    found = []
    for ordinal, entry in enumerate(version.manifest.shards):
        shard = open_tar(version.store, version.version.dataset, entry.key)
        for key in blocks.block_keys(shard):
            token_N, begin = blocks.read_tokens(shard, key), 0
            for end, _, _, row in blocks.read_docs(shard, key).tolist():
                assert token_N[end - 1] == tokenizer.end
                found.append((ordinal, row, tokenizer.decode(token_N[begin : end - 1])))
                begin = end
    return found


def in_text(version: OpenVersion) -> list[tuple[int, int, str]]:
    """The same of a version of text."""
    found = []
    for ordinal, entry in enumerate(version.manifest.shards):
        shard = open_tar(version.store, version.version.dataset, entry.key)
        texts = [text for key in text_blocks.block_keys(shard) for text in text_blocks.read_texts(shard, key)]
        found += [(ordinal, row, text) for row, text in enumerate(texts)]
    return found


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_document_is_there_once_and_decodes_to_its_text(
    store: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "BATCH_CHARACTERS", 150)  # so that blocks of text are several batches
    tokenizer = TOKENIZERS[name]
    report = make(store, tokenizer=tokenizer)
    version = opened(store)
    documents = decoded(version, tokenizer)
    assert sorted(documents) == in_text(opened(store, "web"))
    assert sorted(text for *_, text in documents) == sorted(texts_of(DOCUMENTS))
    tokens = sum(len(ids) + 1 for ids in tokenizer.encode(texts_of(DOCUMENTS)))
    assert report.counts == {
        "discovered": len(DOCUMENTS),
        "written": len(DOCUMENTS),
        "quarantined": 0,
        "documents": len(DOCUMENTS),
        "tokens": tokens,
        "bytes": version.manifest.counts["bytes"],
    }
    assert report.warnings == ()
    schema = version.manifest.schema.to_json()
    assert schema == {
        **{"tokenizer": tokenizer.id, "size": tokenizer.size, "start": tokenizer.start},
        **{"end": tokenizer.end, "pad": tokenizer.pad, "dtype": "uint16"},
    }


@pytest.mark.parametrize("fraction", ["1/10", "1/3"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_same_documents_are_held_out_as_tokens_and_as_text(
    undisturbed: Path, split: str, fraction: str
) -> None:
    text, tokens = opened(undisturbed, "web"), opened(undisturbed)
    spec = SelectionSpec(split, fraction)
    held = list(selected_texts(text, text.select(spec)))
    selection = tokens.select(spec)
    assert selection.num_groups == len(held)
    assert selection.num_samples == sum(len(ids) + 1 for ids in BPE.encode(held))


def test_where_is_on_what_the_text_says(undisturbed: Path) -> None:
    text, tokens = opened(undisturbed, "web"), opened(undisturbed)
    spec = SelectionSpec("all", where="language = 'de' AND n > 10")
    held = list(selected_texts(text, text.select(spec)))
    expected = [d["text"] for d in DOCUMENTS if d.get("language") == "de" and d["n"] > 10]
    assert sorted(held) == sorted(expected)
    assert tokens.select(spec).num_samples == sum(len(ids) + 1 for ids in BPE.encode(held))
    few = tokens.select(SelectionSpec("all", where="num_tokens <= 10"))
    lengths = [len(ids) + 1 for ids in BPE.encode(texts_of(DOCUMENTS))]
    assert few.num_groups == sum(length <= 10 for length in lengths)


def test_where_needs_the_text(store: Path) -> None:
    make(store)
    shutil.rmtree(store / "refs" / "web")
    version = opened(store)
    assert version.select(SelectionSpec("all")).num_groups == len(DOCUMENTS)
    with pytest.raises(FoundryError, match="the text that tokens@v1 was made of, web@.* is not in the store"):
        version.select(SelectionSpec("all", where="n > 3"))


def test_again_there_is_nothing_to_do(store: Path) -> None:
    first = make(store)
    before = content(store)
    again = make(store)
    assert again.noop and again.version == first.version and again.shards_written == 0
    assert content(store) == before
    shutil.rmtree(store / "cache")
    (store / "builds" / "tokens").rename(store / "gone")
    found = make(store)
    assert not found.noop and found.shards_written == 0 and found.version == first.version
    assert content(store) == before


def test_a_version_is_known_by_its_tokens_alone(store: Path) -> None:
    one, two = make(store), make(store, "other")
    assert one.version is not None and two.version is not None
    assert one.version.version_id == two.version.version_id
    assert make(store, "third", ByteTokenizer()).version.version_id != one.version.version_id


def test_only_shards_of_new_text_are_written(store: Path, tmp_path: Path) -> None:
    before = make(store)
    more = [*DOCUMENTS, *some_documents(3, 500)]
    ingest(write_lines(tmp_path / "grown" / "web.jsonl", DOCUMENTS), store, name="grown")
    write_lines(tmp_path / "grown" / "more.jsonl", more[len(DOCUMENTS) :])
    ingest(tmp_path / "grown", store)
    after = make(store)
    assert after.shards_reused == before.shards_written and after.shards_written > 0
    assert sorted(text for *_, text in decoded(opened(store), BPE)) == sorted(texts_of(more))


KILLED = """
import json, sys
from robot_foundry.ingest.tokens.tokenize import run
from robot_foundry.shards.tokens.tokenizers import read
run("web", read(sys.argv[2]), store=sys.argv[1], name="tokens")
"""


@pytest.mark.parametrize(
    "point",
    [
        *("shard-tar-written:2", "shard-done:3", "tables-done"),
        *("commit-before-manifest", "commit-after-manifest", "commit-after-ref"),
    ],
)
def test_killed_anywhere_and_run_again_it_is_as_if_never_killed(
    store: Path, undisturbed: Path, tmp_path: Path, point: str
) -> None:
    file = tmp_path / "bpe.json"
    file.write_text(json.dumps(BPE.to_json()))
    killed(KILLED, store, file, at=point)
    whole = len(list((store / "shards" / "tokens").glob("*.index.arrow")))
    report = make(store)
    assert report.shards_reused == whole
    assert content(store) == content(undisturbed)


def test_workers_give_the_bytes_of_one_process(store: Path, undisturbed: Path, ray_workers: int) -> None:
    make(store, workers=2)
    assert content(store) == content(undisturbed)


def test_an_object_store_gets_the_same_version(undisturbed: Path, tmp_path: Path) -> None:
    there = "memory://tokenized"
    run_ingest(
        load_spec("text", SMALL), write_lines(tmp_path / "web.jsonl", DOCUMENTS), store=there, name="web"
    )
    report = tokenize.run("web", BPE, store=there, name="tokens")
    assert report.version == opened(undisturbed).version


def test_a_dry_run_writes_nothing_and_expects_what_comes(store: Path) -> None:
    before = content(store)
    dry = tokenize.run("web", BPE, store=store, name="tokens", dry_run=True)
    assert dry.version is None and dry.preview is not None
    assert content(store) == before and not (store / "tokenizers").exists()
    made = make(store)
    assert made.version is not None and made.version.build_id == dry.build_id
    assert dry.shards_written == made.shards_written
    assert dry.counts["documents"] == made.counts["documents"]
    assert dry.counts["tokens"] == pytest.approx(made.counts["tokens"], rel=0.5)


def lossy() -> FastTokenizer:
    """One that forgets capitals."""
    definition = {**BPE.to_json()["definition"], "normalizer": {"type": "Lowercase"}}
    return FastTokenizer(definition, end=BPE.end, start=BPE.start, pad=BPE.pad)


def test_what_a_tokenizer_loses_is_counted_told_and_may_be_refused(tmp_path: Path) -> None:
    texts = ["all small", "Not this", "nor THIS", "fine"]
    store = tmp_path / "store"
    ingest(write_lines(tmp_path / "web.jsonl", [{"text": text} for text in texts]), store)
    with pytest.raises(FoundryError, match="2 documents are not what .* the first: web.jsonl#2, web.jsonl#3"):
        tokenize.run("web", lossy(), store=store, name="tokens", strict=True)
    assert not (store / "refs" / "tokens").exists()
    report = make(store, tokenizer=lossy())
    assert report.shards_written == 0  # all of them lie there already
    (warning,) = report.warnings
    assert warning.startswith("the tokens of 2 documents do not give back their text: web.jsonl#2, web.js")
    assert read_manifest(Store(store), report.version).provenance["inexact"]["documents"] == 2
    with pytest.raises(FoundryError, match="2 documents are not what"):
        tokenize.run("web", lossy(), store=store, name="tokens", strict=True)


def test_only_whole_text_is_made_into_tokens(store: Path, tmp_path: Path) -> None:
    make_robots(tmp_path / "sim.hdf5", episodes=1, frames=4, size=16)
    run_ingest("robomimic", tmp_path / "sim.hdf5", store=store, name="sim")
    with pytest.raises(UsageError, match="sim@v1 holds frames, and tokens are made of text"):
        tokenize.run("sim", BPE, store=store, name="tokens")
    with pytest.raises(FoundryError, match="'web' holds characters; give these tokens another name"):
        make(store, "web")
    with pytest.raises(UsageError, match="dataset name 'A B' is not allowed"):
        make(store, "A B")
    tar = sorted((store / "shards" / "web").glob("*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[data.index(b"txt.zst") + 512 + 20] ^= 1
    tar.write_bytes(data)
    with pytest.raises(FoundryError, match=r"txt\.zst' of .* is damaged"):
        make(store)
    assert not (store / "refs" / "tokens").exists()
    tar.unlink()
    with pytest.raises(FoundryError, match="web@v1 cannot be made into tokens: .*tar is missing"):
        make(store)


# Tokenizers in a store, and trained on its text.


def test_a_tokenizer_is_found_by_name_by_id_and_by_file(store: Path, tmp_path: Path) -> None:
    there = Store(store)
    keep(there, BPE, "bpe")
    keep(there, BPE, "bpe")
    file = tmp_path / "other.json"
    other = train(["abc abc"], 270)
    file.write_text(json.dumps(other.to_json()))
    for place, expected in (("bpe", BPE), (BPE.id[:8], BPE), (BPE.id, BPE), (str(file), other)):
        assert find(there, place).id == expected.id
    assert find(there, "byte").id == ByteTokenizer().id
    assert names(there) == {"bpe": BPE.id}
    for name in ("bpe", "byte"):
        with pytest.raises(UsageError, match=f"'{name}' is the name of the tokenizer"):
            keep(there, other, name)
    assert find(there, other.id[:8]).id == other.id  # what took minutes to train is not lost for a name
    with pytest.raises(UsageError, match="there is no tokenizer 'bpf', did you mean 'bpe'"):
        find(there, "bpf")
    with pytest.raises(UsageError, match="tokenizer name 'B P' is not allowed"):
        keep(there, other, "B P")
    assert names(there) == {"bpe": BPE.id}


def test_a_damaged_tokenizer_is_told(store: Path) -> None:
    there = Store(store)
    keep(there, BPE, "bpe")
    path = store / "tokenizers" / f"{BPE.id}.json"
    data = path.read_bytes()
    for wrong in (data.replace(b'"dropout":null', b'"dropout":0.5'), data[:-1], b"[]"):
        path.write_bytes(wrong)
        with pytest.raises(FoundryError, match=f"{BPE.id}.json is damaged"):
            find(there, "bpe")
    path.unlink()
    with pytest.raises(FoundryError, match="is not in the store"):
        read_id(there, BPE.id)
    keep(there, BPE)
    assert find(there, "bpe").id == BPE.id
    name = store / "tokenizers" / "names" / "bpe"
    name.write_bytes(name.read_bytes().replace(BPE.id[:4].encode(), b"0000"))
    with pytest.raises(FoundryError, match="names/bpe is damaged: its checksum differs"):
        names(there)


def test_a_version_keeps_its_tokenizer(undisturbed: Path) -> None:
    schema: Any = opened(undisturbed).manifest.schema
    assert read_id(Store(undisturbed), schema.tokenizer).id == BPE.id


def test_training_sees_the_training_documents_alone(text: Path) -> None:
    version = opened(text, "web")
    spec = SelectionSpec("train", "1/4", where="language = 'en'")
    selection = version.select(spec)
    held = list(selected_texts(version, selection))
    kept = [d["text"] for d in DOCUMENTS if d.get("language") == "en"]
    assert 0 < len(held) < len(kept) and set(held) < set(kept)
    assert sum(map(len, held)) == selection.num_samples
    assert train_tokenizer(version, selection, 290).id == train(held[::-1], 290).id


def test_ids_are_wide_where_the_vocabulary_is(store: Path) -> None:
    wide = WideTokenizer()
    make(store, tokenizer=wide)
    version = opened(store)
    assert version.manifest.schema.to_json()["dtype"] == "uint32"
    assert sorted(decoded(version, wide)) == in_text(opened(store, "web"))
    shard = open_tar(version.store, "tokens", version.manifest.shards[0].key)
    assert blocks.read_tokens(shard, blocks.block_keys(shard)[0]).dtype == np.uint32
