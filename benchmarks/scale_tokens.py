"""Opening large versions of tokens: time and memory to the first rows, and where they go.

    python benchmarks/scale_tokens.py [--documents 1e7 1e8 1e9]

A store is generated for each size: shards of 125,000 documents of 1,000 tokens on average, with manifest and
tables as ingest writes them; all have the same content, as links to one tar and one table. So a billion
documents are 10¹² tokens in 8,000 shards and 944,000 blocks. What is measured is `load` of rows of 1,024 of
the training split, the positions of the first batches, and the first batches of 256, in a process of its own,
with the files in the page cache and one thread; see `scale.py` for the columns.

What bends next: of a version with S shards, N blocks and D documents, as they are here,

    manifest    530 B · S on disk
    blocks      53 B · N: mapped, and read once to be proven; 60 B · N of arrays in a loader
    documents   44 B a document of those shards, 256 at most, that a loader has open: mapped, and proven when
                they are first opened
    D           nothing, unless a selection is by a condition, or holds out a share at which no band ends:
                then 36 B · D to select, and 20 B a range of what is selected
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scale import hexadecimal, local, measure_sizes, megabytes, print_stages, save

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import Manifest, ShardEntry, commit, count_names
from robot_foundry.catalog.mixture import make_mixture
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import TableFile
from robot_foundry.catalog.tables import table_digest
from robot_foundry.catalog.tokens.schema import Schema
from robot_foundry.catalog.tokens.tables import BLOCKS_SCHEMA, DOCUMENTS_SCHEMA, PAGES_SCHEMA
from robot_foundry.loader.load import load
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.shards.index import write_index
from robot_foundry.shards.tar import TarWriter
from robot_foundry.shards.tokens.blocks import (
    HASH,
    TokenDocuments,
    block_key,
    by_band,
    cut,
    page_checksums,
    shard_members,
)

T = TypeVar("T")
NAME, BATCH, SEED, LENGTH = "large", 256, 0, 1024
DOCUMENTS, TOKENS, VOCABULARY = 125_000, 1000, 32_000  # documents of a shard, tokens of one
SCHEMA = Schema("0" * 32, VOCABULARY, 0, 0, 1)


def generate(folder: Path, num_documents: int) -> None:
    """A store of about this many documents."""
    rng = np.random.default_rng(SEED)
    store, num_shards = Store(folder), max(1, num_documents // DOCUMENTS)
    shard_keys = hexadecimal(rng, num_shards, 32)
    content = shard_content(rng)
    cuts = list(cut(by_band(content), 1 << 20))
    with (folder / "one.tar").open("wb") as file:
        tar = TarWriter(file)
        for member, data in shard_members(by_band(content), SCHEMA.tokenizer):
            tar.add(member, data)
        made = tar.close()
    (folder / "one.index").write_bytes(write_index(made.members))
    of_shard = {
        "documents": documents_table(cuts),
        "pages": pa.table([np.concatenate([page_checksums(b.token_N) for _, b in cuts])], PAGES_SCHEMA),
    }
    blocks = blocks_table(cuts, num_shards)
    files = {name: save(folder / f"{name}.arrow", table) for name, table in of_shard.items()}
    tables, written = {"blocks": table_digest(blocks)}, {"blocks": save(folder / "blocks.arrow", blocks)}
    for name, table in of_shard.items():
        named, digest = [f"{name}/{key}" for key in shard_keys], table_digest(table)
        tables |= dict.fromkeys(named, digest)
        written |= dict.fromkeys(named, files[name])
    num_tokens = len(content.token_N)
    version = commit(store, manifest_of(shard_keys, made.sha256, made.num_bytes, num_tokens, tables, written))
    place(folder, "blocks.arrow", local(store, store.table(NAME, version.version_id, "blocks")))
    for key in shard_keys:
        place(folder, "one.tar", local(store, store.shard_tar(NAME, key)))
        place(folder, "one.index", local(store, store.shard_index(NAME, key)))
        for name in of_shard:
            table = store.table(NAME, version.version_id, f"{name}/{key}")
            place(folder, f"{name}.arrow", local(store, table))


def manifest_of(
    shard_keys: list[str],
    sha256: str,
    num_bytes: int,
    num_tokens: int,
    tables: dict[str, str],
    files: dict[str, TableFile],
) -> Manifest:
    shards = tuple(ShardEntry(key, sha256, num_bytes, DOCUMENTS, num_tokens) for key in shard_keys)
    counts = {"documents": len(shards) * DOCUMENTS, "tokens": len(shards) * num_tokens}
    return Manifest(
        NAME,
        "0" * 32,
        SCHEMA,
        "tokens",
        shards,
        tables,
        dict.fromkeys(count_names(kind_named("tokens")), 0) | counts,
        files=files,
    )


def place(folder: Path, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(folder / name, path)


def shard_content(rng: np.random.Generator) -> TokenDocuments:
    """Documents as long as those of the web, in tokens and in bytes."""
    length_D = np.maximum(1, rng.lognormal(np.log(TOKENS) - 0.5, 1.0, DOCUMENTS)).astype(np.int64)
    end_D = np.cumsum(length_D)
    token_N = rng.integers(2, VOCABULARY, int(end_D[-1]), dtype=np.uint16)
    token_N[end_D - 1] = SCHEMA.end
    hash_D = rng.integers(0, 2**64, DOCUMENTS, dtype=np.uint64)
    columns = (end_D, 4 * length_D, hash_D, np.arange(DOCUMENTS))
    docs_D4 = np.stack([column.astype(np.uint64) for column in columns], 1)
    return TokenDocuments(token_N, docs_D4, np.zeros(DOCUMENTS, bool))


def documents_table(blocks: list[tuple[int, TokenDocuments]]) -> pa.Table:
    end_D, bytes_D, hash_D, row_D = np.concatenate([block.docs_D4 for _, block in blocks]).T
    num_tokens = [len(block.token_N) for _, block in blocks]
    before = np.cumsum([0, *num_tokens[:-1]])
    end_D = end_D + np.repeat(before, [len(block) for _, block in blocks]).astype(np.uint64)
    start_D = np.concatenate([[0], end_D[:-1]]).astype(np.int64)
    sizes = [len(block) for _, block in blocks]
    block_D = np.repeat(np.arange(len(sizes)), sizes)
    columns = (block_D, start_D, end_D.astype(np.int64) - start_D, bytes_D, hash_D, row_D)
    return pa.table([np.asarray(column) for column in columns], DOCUMENTS_SCHEMA.names).cast(DOCUMENTS_SCHEMA)


def blocks_table(blocks: list[tuple[int, TokenDocuments]], num_shards: int) -> pa.Table:
    """The same blocks of every shard."""

    def each(values: list[Any]) -> NDArray:
        return np.tile(np.array(values), num_shards)

    tokens = [len(block.token_N) for _, block in blocks]
    keys = pa.array([block_key(number) for number in range(len(blocks))])
    number_N = pa.array(np.tile(np.arange(len(blocks)), num_shards))
    columns = {
        "shard": np.repeat(np.arange(num_shards), len(blocks)),
        "key": keys.take(number_N),
        "row_start": each(np.cumsum([0, *tokens[:-1]]).tolist()),
        "num_tokens": each(tokens),
        "num_documents": each([len(block) for _, block in blocks]),
        "band": each([band for band, _ in blocks]),
        "hash_max": each([block.docs_D4[:, HASH].max() for _, block in blocks]),
    }
    return pa.table(columns).cast(BLOCKS_SCHEMA)


def measure(folder: Path) -> dict[str, Any]:
    """Seconds of each stage, waited and of work, and megabytes after it, up to the first batch."""
    stages: dict[str, tuple[float, float, float, float]] = {}
    versions = OpenVersions(Store(folder))

    def timed(name: str, stage: Callable[[], T]) -> T:
        start = time.perf_counter(), time.process_time()
        result = stage()
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        stages[name] = (*seconds, megabytes("VmHWM"), megabytes("RssAnon"))
        return result

    timed("imports", lambda: None)
    opened = timed("manifest, parsed and checked", lambda: versions.open(NAME))
    timed("blocks, proven", lambda: opened.table("blocks"))
    timed("selection of the split", opened.select)
    mixture = timed("mixture", lambda: make_mixture(versions, {NAME: 1}))
    loader = timed("loader", lambda: load(mixture, RowSpec(LENGTH), seed=SEED, global_batch=BATCH, threads=0))
    timed("first positions", lambda: loader._share.samples(0))
    timed("first batch", lambda: next(loader))
    timed("second batch", lambda: next(loader))
    rows = loader.counts()[0]
    loader.close()
    return {
        "shards": len(opened.manifest.shards),
        "documents": opened.manifest.num_groups,
        "tokens": opened.manifest.num_samples,
        "blocks": opened.table("blocks").num_rows,
        "rows": rows,
        "stages": stages,
        "sizes": {path.stem: path.stat().st_size for path in folder.glob("datasets/*/*/*.*")},
    }


def show(measured: dict[str, Any], generated_s: float) -> None:
    stages, documents = measured["stages"], measured["documents"]
    to_positions = list(stages).index("first positions") + 1
    waited, worked = (sum(stage[i] for stage in list(stages.values())[:to_positions]) for i in (0, 1))
    grown = stages["first positions"][2] - stages["imports"][2]
    each = 1e9 / documents  # thousandths for a million documents
    print(
        f"{documents:.3g} documents, {measured['tokens']:.3g} tokens, {measured['blocks']:,} blocks, "
        f"{measured['shards']:,} shards (generated in {generated_s:.0f} s): {measured['rows']:,} rows\n"
        f"    first positions after {waited:.2f} s ({worked:.2f} s of work) and {grown:,.0f} MB: "
        f"{worked * each:.1f} ms and {grown * each:.0f} kB for a million documents"
    )
    print_stages(stages)
    sizes = measured["sizes"]
    print(
        f"    manifest: {sizes['manifest'] / measured['shards']:.0f} B a shard on disk; "
        f"blocks: {sizes['blocks'] / measured['blocks']:.0f} B a block\n"
    )


if __name__ == "__main__":
    measure_sizes(__file__, __doc__, "--documents", generate=generate, measure=measure, show=show)
