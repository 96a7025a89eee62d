"""Damage and doubts of a version of text: blocks in tars against tables, and decoded text against both.

Legend: D documents of a block, K blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.text.documents import block_documents, block_row
from robot_foundry.catalog.text.doubts import doubts
from robot_foundry.catalog.text.tables import BLOCKS, BLOCKS_SCHEMA, DOCUMENTS, DOCUMENTS_SCHEMA, counts
from robot_foundry.catalog.validation.blocks import check_order, check_rows_of_blocks
from robot_foundry.catalog.validation.table_findings import Fault
from robot_foundry.catalog.validation.tasks import Conclusion, ShardCheck, Tables
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData, CorruptMember
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import (
    REPLACEMENT,
    BlockHead,
    block_keys,
    document_hash,
    read_encoded,
    read_head,
)


@dataclass(frozen=True)
class Members:
    """Of each block of a tar the rows of its documents as the tar has them, None where it cannot be read.

    `decoded` counts the documents whose text was read.
    """

    blocks: Sequence[tuple[BlockHead, pa.Table] | None]
    decoded: int


def count(tables: Tables) -> tuple[int, int] | None:
    """Documents and characters by the table of blocks."""
    blocks = tables[BLOCKS]
    return None if blocks is None else counts(blocks)


def check_tables(manifest: Manifest, tables: Tables, fault: Fault) -> None:
    """Blocks are of shards that are, in their order, and none is there twice."""
    blocks = tables[BLOCKS]
    if blocks is not None:
        check_order(blocks, manifest, fault)


def check_members(task: ShardCheck, reader: ShardReader, is_intact: bool, fault: Fault) -> Members:
    """The blocks of a tar; where it is to be deep, with all their text decoded."""
    blocks: list[tuple[BlockHead, pa.Table] | None] = []
    decoded = 0
    for number, key in enumerate(block_keys(reader)):
        try:
            head, rows = read_head(reader, key), block_documents(reader, key, number)
            blocks.append((head, rows))
            if task.deep and is_intact:
                _check_text(reader, key, head, rows)
                decoded += rows.num_rows
        except (CorruptMember, CorruptData, FoundryError) as error:
            blocks[number:] = [None]
            fault.shard("blocks", task.tar, f"has a block that cannot be read, {key}: {error}")
    held = [block[0] for block in blocks if block is not None]
    sizes = sum(head.num_documents for head in held), sum(head.num_characters for head in held)
    if len(held) == len(blocks) and sizes != (task.entry.num_groups, task.entry.num_samples):
        fault.manifest(
            "counts",
            f"shard {task.entry.key} holds {sizes[0]:,} documents and {sizes[1]:,} characters, the manifest "
            f"says {task.entry.num_groups:,} and {task.entry.num_samples:,}",
        )
    return Members(blocks, decoded)


def _check_text(reader: ShardReader, key: str, head: BlockHead, rows: pa.Table) -> None:
    """CorruptData where the texts are not those that the block says it has."""
    hash_D, length_D = (rows[name].to_pylist() for name in ("split_hash", "num_characters"))
    replaced = 0
    for row, text in enumerate(read_encoded(reader, key)):
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise CorruptData(f"document {row} is not UTF-8: {error}") from error
        if document_hash(text) != hash_D[row] or len(decoded) != length_D[row]:
            raise CorruptData(f"document {row} has another text than its hash and length say")
        replaced += decoded.count(REPLACEMENT)
    if replaced != head.num_replaced or sum(length_D) != head.num_characters:
        raise CorruptData("its head counts other characters than its text has")


def check_rows(task: ShardCheck, tables: Tables, members: Members | None, fault: Fault) -> int:
    """The documents table and the rows of blocks against the tar; how many documents were decoded."""
    if members is None:
        return 0
    documents, rows = tables.get(DOCUMENTS), task.rows[BLOCKS]
    expected = [None if block is None else block[1] for block in members.blocks]
    whole = [table for table in expected if table is not None]
    of_tar = pa.concat_tables([DOCUMENTS_SCHEMA.empty_table(), *whole])
    if documents is not None and len(whole) == len(expected) and not of_tar.equals(documents):
        fault.table(f"{DOCUMENTS}/{task.entry.key}", "does not hold the documents of the tar")
    if rows is not None:
        check_rows_of_blocks(BLOCKS, rows, members.blocks, block_row, "num_documents", fault)
    return members.decoded


def conclude(version: Version, manifest: Manifest, tables: Tables, shards: Sequence[int]) -> Conclusion:
    """What is doubtful by the sizes of blocks."""
    blocks = BLOCKS_SCHEMA.empty_table() if tables[BLOCKS] is None else tables[BLOCKS]
    found = doubts(blocks, manifest.counts["discovered"], manifest.counts["duplicates"])
    return Conclusion(
        checked={"texts_decoded": sum(shards)},
        doubts=tuple(replace(finding, message=f"{version}: {finding.message}") for finding in found),
    )
