"""A loader of packed rows: what it says of itself, and what is damaged.

That it is the same whatever the world, the threads or the process is tested as with robots, in
test_loader_batches and test_loader_processes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.batch_loaders import contents, texts
from foundry_testing.tokens import write_tokens

import robot_foundry
from robot_foundry.catalog.mixture import as_mixture, make_mixture
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.store import Store
from robot_foundry.ingest import ingest
from robot_foundry.ingest.tokens.tokenize import run as tokenize
from robot_foundry.ingest.tokens.training import train_tokenizer
from robot_foundry.loader.load import Loader
from robot_foundry.loader.tokens.batch import TokenBatch
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.index import read_index
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tokens.blocks import PAGE_BYTES
from robot_foundry.trainer.tasks.mixtures import epochs_of
from robot_foundry.windows.window import WindowSpec

PAGE_TOKENS = PAGE_BYTES // 2


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """`long` has blocks of several pages, `short` rows that are seldom full."""
    store = Store(tmp_path)
    write_tokens(
        store, "long", [texts("long", [40_000] * 3), texts("more", [30_000] * 3)], block_tokens=70_000
    )
    write_tokens(store, "short", [texts("short", [3, 50, 0, 7])], block_tokens=8)
    return store


def open_rows(store: Store, ref: Any = "long", length: int = 1000, **options: Any) -> Loader[TokenBatch]:
    defaults = {"seed": 3, "global_batch": 8, "split": "all", "threads": 0, "store": store}
    loader: Loader[TokenBatch] = robot_foundry.load(ref, RowSpec(length), **(defaults | options))
    return loader


def test_counts_are_rows_and_a_batch_counts_its_targets(store: Store) -> None:
    mixture = as_mixture(store, {"long": 0.5, "short": 0.5}, split="all")
    rows = RowSpec(1000)
    with open_rows(store, mixture) as loader:
        batches = [next(loader) for _ in range(40)]
        counts = dict(zip([c.name for c in loader.mixture.components], loader.counts(), strict=True))
        assert loader.schema.size == 264
    assert counts["short"] < counts["long"]  # 64 tokens: blocks are not joined to rows
    assert 210 <= counts["long"] < 220
    tokens = {c.name: c.num_samples for c in mixture.mixture.components}
    assert tokens == {"long": 3 * 40_001 + 3 * 30_001, "short": 64}
    for batch in batches:
        assert batch.token_BS.shape == (8, 1000) and batch.token_BS.dtype == np.int32
        assert batch.counts == {"text": int((batch.segment_BS >= 0).sum())}
        assert batch.sizes["bytes"] == batch.bytes_B.sum() > 0
    drawn = np.concatenate([batch.dataset_B for batch in batches])
    assert np.bincount(drawn).tolist() == [160, 160]
    epochs = dict(zip(tokens, epochs_of(mixture, rows, 320), strict=True))
    assert epochs == {name: 160 / count for name, count in counts.items()}


def test_the_length_is_part_of_the_state_and_needed_to_go_on(store: Store) -> None:
    with open_rows(store) as loader:
        next(loader)
        state = json.loads(json.dumps(loader.state_dict()))
        expected = contents([next(loader)])
    assert state["rows"] == {"length": 1000}
    with open_rows(store, threads=1) as same:
        same.load_state_dict(state)
        assert contents([next(same)]) == expected
    with (
        open_rows(store, length=500) as other,
        pytest.raises(FoundryError, match=r"it has rows \{'length': 1000\} \(here \{'length': 500\}\)"),
    ):
        other.load_state_dict(state)


def test_a_default_row_has_1024_tokens_and_a_window_is_none(store: Store) -> None:
    with robot_foundry.load("long", seed=0, global_batch=2, store=store) as loader:
        assert next(loader).token_BS.shape == (2, 1024)
    with pytest.raises(UsageError, match="a window of tokens is a RowSpec, not a WindowSpec"):
        robot_foundry.load("long", WindowSpec(), seed=0, global_batch=2, store=store)


def test_what_ingest_and_tokenize_make_is_loaded_and_decodes_to_the_source(tmp_path: Path) -> None:
    """By a tokenizer trained on it; and of the German documents alone."""
    lines = [{"text": f"Der Satz {i}: ☃ {'ja ' * (i % 5)}", "language": "de"} for i in range(60)]
    lines += [{"text": f"sentence {i}\n<|endoftext|>\x00", "language": "en"} for i in range(40)]
    (tmp_path / "source").mkdir()
    for number in range(2):
        text = "".join(json.dumps(line) + "\n" for line in lines[number::2])
        (tmp_path / "source" / f"{number}.jsonl").write_text(text)
    store = Store(tmp_path / "store")
    ingest("text", tmp_path / "source", store=store, name="prose")
    prose = OpenVersion(store, resolve(store, "prose"))
    tokenizer = train_tokenizer(prose, prose.select(), 300)
    tokenize("prose", tokenizer, store=store, name="ids")
    for where, wanted in ((None, lines), ("language = 'de'", lines[:60])):
        mixture = make_mixture(store, {"ids": 1}, split="all", where=where)
        with robot_foundry.load(
            mixture, RowSpec(32), seed=0, global_batch=1, split="all", threads=0
        ) as loader:
            count = loader.counts()[0]
            batches = {int(loader._order.at(b.k_B)[2][0]): b for b in (loader.batch(i) for i in range(count))}
        rows = [batches[i] for i in range(count)]
        targets = np.concatenate([row.target_BS[row.segment_BS >= 0] for row in rows])
        documents = np.split(targets, np.flatnonzero(targets == tokenizer.end) + 1)
        assert sorted(map(tokenizer.decode, documents[:-1])) == sorted(line["text"] for line in wanted)
        assert sum(row.sizes["bytes"] for row in rows) == pytest.approx(
            sum(len(line["text"].encode()) for line in wanted)
        )


def member_of(store: Store, block: int) -> tuple[Path, str, int]:
    """The first tar of `long`, the tokens of a block of it, and where their array begins in the tar."""
    [path, *_] = sorted(Path(store.url).glob("shards/long/*.tar"), key=lambda path: -path.stat().st_size)
    index = read_index(Store(path.parent).storage, f"{path.stem}.index.arrow").to_pylist()
    member = [row for row in index if row["name"].endswith(".tokens.npy")][block]
    return path, member["name"], member["offset"] + 128


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def cut(path: Path, place: int) -> None:
    """What lies behind `place` reads as nothing, and the tar has its size."""
    data = path.read_bytes()
    path.write_bytes(data[:place] + bytes(len(data) - place))


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_page_is_replaced_by_other_rows_and_told(
    store: Store, damage: Callable[[Path, int], None]
) -> None:
    steps = range(20)
    with open_rows(store) as loader:
        whole = contents([loader.batch(b) for b in steps])
        count = loader.counts()[0]
    path, member, start = member_of(store, 0)
    damage(path, start + PAGE_BYTES + 10)
    with open_rows(store) as loader, open_rows(store, threads=2) as ahead:
        given = contents([loader.batch(b) for b in steps])
        assert given == contents([next(ahead) for _ in steps])
        assert ahead.substitutions == loader.substitutions
        told = {item.k: item for item in loader.substitutions}
        changed = {k for k in whole if whole[k] != given[k]}
        assert changed == set(told) and changed
        k_n = np.array(sorted(told), np.int64)
        sample_n = loader._order.at(k_n)[2]
        rows = loader._rows[0]
        damaged = {int(sample) for sample in sample_n}
        for k, sample in zip(k_n.tolist(), sample_n.tolist(), strict=True):
            item = told[k]
            assert (item.dataset, item.sample) == ("long", sample)
            assert item.member == member or damage is cut  # which reaches into the blocks behind
            assert item.substitute not in damaged and 0 <= item.substitute < count
            assert f"{item.member!r}" in item.reason and "its page" in item.reason and path.name in item.shard
            [substitute] = rows.at(np.array([item.substitute]))
            [lost] = rows.at(np.array([sample]))
            assert lost != substitute
        # Only the rows that have a token of a damaged page, or are predicted from one, are lost.
        if damage is flip:
            spans = [rows.at(np.array([sample]))[0].spans for sample in damaged]
            assert all(end > PAGE_TOKENS and begin - 1 < 2 * PAGE_TOKENS for [(begin, end)] in spans)
    two_ranks = []
    for rank in range(2):
        with open_rows(store, rank=rank, world=2) as loader:
            two_ranks += [loader.batch(b) for b in steps]
    assert contents(two_ranks) == given


def test_a_page_that_is_garbled_once_is_read_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_rows(store) as loader:
        whole = contents([loader.batch(b) for b in range(5)])
    read_part, reads = ShardReader.read_part, Counter[tuple[str, int, int]]()

    def garbled(reader: ShardReader, row: int, begin: int, size: int) -> bytes:
        data = read_part(reader, row, begin, size)
        reads[reader.tar_path, row, begin] += 1
        return data if reads[reader.tar_path, row, begin] % 2 == 0 else bytes(size)

    monkeypatch.setattr(ShardReader, "read_part", garbled)
    with open_rows(store) as loader:
        assert contents([loader.batch(b) for b in range(5)]) == whole
        assert loader.substitutions == () and set(reads.values()) == {2}


def test_where_all_is_damaged_the_run_stops(store: Store) -> None:
    for path in Path(store.url).glob("shards/long/*.tar"):
        cut(path, 0)
    with (
        open_rows(store) as loader,
        pytest.raises(FoundryError, match="'long' is corrupt in 16 samples drawn in place of sample"),
    ):
        next(loader)


@pytest.mark.parametrize("table", ["documents", "pages", "blocks"])
def test_a_damaged_table_stops_the_run(store: Store, table: str) -> None:
    """Nothing else says which tokens are of which document, and which bytes are whole."""
    folder = Path(store.url) / "datasets" / "long"
    for path in folder.glob(f"*/{table}*") if table == "blocks" else folder.glob(f"*/{table}/*.arrow"):
        flip(path, path.stat().st_size // 2)
    with pytest.raises(FoundryError, match=f"table '{table}.*is damaged"), open_rows(store) as loader:
        next(loader)


def test_a_tar_that_is_gone_stops_the_run(store: Store) -> None:
    for path in Path(store.url).glob("shards/long/*.tar"):
        path.unlink()
    with open_rows(store) as loader, pytest.raises(FileNotFoundError):
        next(loader)


def test_few_descriptors_serve_many_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    write_tokens(store, "many", [texts(f"shard {i}", [40]) for i in range(12)])
    options = {"ref": "many", "length": 10, "global_batch": 60}
    with open_rows(store, **options) as loader:
        expected = contents([loader.batch(0)])
        assert open_tars(tmp_path) == 12
    assert open_tars(tmp_path) == 0
    monkeypatch.setattr("robot_foundry.loader.tokens.reader.MAX_OPEN_SHARDS", 2)
    with open_rows(store, **options) as loader:
        assert contents([loader.batch(0)]) == expected
        assert open_tars(tmp_path) <= 2


def open_tars(folder: Path) -> int:
    links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.is_relative_to(folder) and link.suffix == ".tar" for link in links)
