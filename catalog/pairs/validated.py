"""Damage and doubts of a version of pairs: blocks in tars against tables, and decoded pictures against both.

Legend: K blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.pairs.derived import block_row, pairs_table
from robot_foundry.catalog.pairs.doubts import Evidence, doubts
from robot_foundry.catalog.pairs.tables import BLOCKS, PAIRS, PAIRS_SCHEMA
from robot_foundry.catalog.tars import ADOPT_AGAIN, open_tar
from robot_foundry.catalog.validation.blocks import check_order, check_rows_of_blocks
from robot_foundry.catalog.validation.table_findings import Fault
from robot_foundry.catalog.validation.tasks import Conclusion, ShardCheck, Tables
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.pairs.pair import Picture
from robot_foundry.shards.pairs.shard import (
    HEAD,
    PAIR,
    BlockHead,
    StoredPair,
    block_keys,
    pair_key,
    picture_hash,
    picture_members,
    read_head,
    read_pairs,
)
from robot_foundry.shards.pictures.decode import verify
from robot_foundry.shards.reader import ShardReader

_OPEN_TARS = 8


@dataclass(frozen=True)
class Members:
    """Of each block of a tar its head and the rows of its pairs, None where it cannot be read.

    `decoded` counts the pictures that were decoded.
    """

    blocks: Sequence[tuple[BlockHead, pa.Table] | None] = ()
    decoded: int = 0


@dataclass(frozen=True)
class Seen:
    """Of a shard how many pictures were decoded, and the `Evidence` of its tar, None of a damaged one."""

    decoded: int = 0
    evidence: Evidence | None = None


def count(tables: Tables) -> tuple[int, int] | None:
    """Pairs, as groups and as samples, by the table of blocks."""
    blocks = tables[BLOCKS]
    if blocks is None:
        return None
    pairs = pc.sum(blocks["num_pairs"]).as_py() or 0
    return pairs, pairs


def check_tables(manifest: Manifest, tables: Tables, fault: Fault) -> None:
    """Blocks are of shards that are, in their order, none is there twice, and they count what shards have."""
    blocks = tables[BLOCKS]
    if blocks is None:
        return
    if not check_order(blocks, manifest, fault):
        return
    shard_K = blocks["shard"].to_numpy()
    held = np.bincount(shard_K, blocks["num_pairs"].to_numpy(), len(manifest.shards)).astype(np.int64)
    for entry, number in zip(manifest.shards, held.tolist(), strict=True):
        if (entry.num_groups, entry.num_samples) != (number, number):
            fault.manifest(
                "counts",
                f"shard {entry.key} has {number:,} pairs by its blocks, {entry.num_groups:,} by the manifest",
            )


def check_members(task: ShardCheck, reader: ShardReader, is_intact: bool, fault: Fault) -> Members:
    """The blocks of a tar; where it is to be deep, with all pictures decoded, wherever they lie.

    Of a tar that was adopted nothing is known but that others name its members.
    """
    if not task.entry.num_groups:
        return Members()
    blocks: list[tuple[BlockHead, pa.Table] | None] = []
    pictures, names = _Pictures(task, reader, is_intact), set[str]()
    for number, key in enumerate(block_keys(reader)):
        try:
            head, pairs = read_head(reader, key), list(read_pairs(reader, key))
            _check_sums(head, pairs)
            names |= {f"{key}{HEAD}", *_own_members(key, pairs)}
            blocks.append((head, pairs_table(pairs, key, number)))
        except FoundryError as error:
            blocks.append(None)
            fault.shard("blocks", task.tar, f"has a block that cannot be read, {key}: {error}")
            continue
        for pair in pairs:
            pictures.check(pair)
    pictures.tell(fault)
    if None not in blocks and names != set(reader.index["name"].to_pylist()):
        fault.shard("blocks", task.tar, "has other members than its pairs name")
    return Members(blocks, pictures.decoded)


def _check_sums(head: BlockHead, pairs: Sequence[StoredPair]) -> None:
    """CorruptData where a head counts other things than its block has."""
    pictures = [picture for stored in pairs for picture in stored.pair.pictures]
    sums = {
        "num_pictures": len(pictures),
        "num_characters": sum(stored.num_characters for stored in pairs),
        "num_bytes": sum(picture.num_bytes for picture in pictures),
        "adopted": tuple(sorted({picture.tar for picture in pictures if picture.tar is not None})),
    }
    unlike = [name for name, value in sums.items() if getattr(head, name) != value]
    if unlike:
        raise CorruptData(f"its head says another {unlike[0]} than its pairs have")


def _own_members(block: str, pairs: Sequence[StoredPair]) -> list[str]:
    """The names that the tar has of these pairs. CorruptData where a picture has another than it should."""
    names = []
    for number, stored in enumerate(pairs):
        key = pair_key(block, number)
        names.append(f"{key}{PAIR}")
        in_order = picture_members(key, [picture.encoding for picture in stored.pair.pictures])
        for picture, name in zip(stored.pair.pictures, in_order, strict=True):
            if picture.tar is None:
                if picture.member != name:
                    raise CorruptData(f"picture {picture.member!r} of pair {key} should be {name!r}")
                names.append(name)
    return names


class _Pictures:
    """Compares pictures with what is said of them: those of a shard, and what adopted tars have of it."""

    def __init__(self, task: ShardCheck, own: ShardReader, is_intact: bool) -> None:
        self._task, self._own, self._is_intact = task, own, is_intact
        self._adopted = lru_cache(_OPEN_TARS)(self._open)
        self.decoded = 0
        self._faults: dict[str | None, list[str]] = {}
        self._unopened: dict[str, FoundryError] = {}

    def check(self, stored: StoredPair) -> None:
        for picture, number in zip(stored.pair.pictures, stored.hashes, strict=True):
            try:
                self._check(picture, number)
            except FoundryError as error:
                self._faults.setdefault(picture.tar, []).append(f"{picture.member!r}: {error}")

    def tell(self, fault: Fault) -> None:
        """One finding a tar: how many pictures are not as they should be, and the first."""
        for tar, faults in self._faults.items():
            more = f"; so are {len(faults) - 1:,} more" if len(faults) > 1 else ""
            what = f"has a picture that cannot be used, {faults[0]}{more}"
            if tar is None:
                fault.shard("pictures", self._task.tar, what)
            else:
                fault.add("pictures", tar, f"{fault.version}: adopted tar {tar} {what}", ADOPT_AGAIN)
        for tar, error in self._unopened.items():
            message = f"{fault.version}: pictures are in tar {tar}, which cannot be opened: {error.message}"
            fault.add("pictures", tar, message, error.hint or ADOPT_AGAIN)

    def _check(self, picture: Picture, number: int) -> None:
        reader = self._own if picture.tar is None else self._adopted(picture.tar)
        if reader is None:
            return
        row = reader.row(picture.member)
        if reader.size(row) != picture.num_bytes:
            raise CorruptData(f"has {reader.size(row):,} bytes in place of {picture.num_bytes:,}")
        if not self._task.deep or (picture.tar is None and not self._is_intact):
            return
        data = reader.read(row)
        if picture_hash(data) != number:
            raise CorruptData("is another picture than was taken")
        found = verify(data)
        if (found.encoding, found.height, found.width) != (picture.encoding, picture.height, picture.width):
            there = f"a {found.encoding} of {found.height} x {found.width}"
            raise CorruptData(f"is {there}, {picture.height} x {picture.width} was told of it")
        self.decoded += 1

    def _open(self, tar: str) -> ShardReader | None:
        try:
            return open_tar(self._task.store, self._task.version.dataset, tar)
        except FoundryError as error:
            self._unopened[tar] = error
            return None


def check_rows(task: ShardCheck, tables: Tables, members: Members | None, fault: Fault) -> Seen:
    """The table of pairs and the rows of blocks against the tar."""
    pairs, rows, evidence = tables.get(PAIRS), task.rows[BLOCKS], None
    if members is None:
        return Seen()
    whole = [block[1] for block in members.blocks if block is not None]
    of_tar = pa.concat_tables([PAIRS_SCHEMA.empty_table(), *whole])
    if len(whole) == len(members.blocks):
        evidence = Evidence.of(of_tar)
        if pairs is not None and not of_tar.equals(pairs):
            fault.table(f"{PAIRS}/{task.entry.key}", "does not hold the pairs of the tar")
    if rows is not None:
        check_rows_of_blocks(
            BLOCKS, rows, members.blocks, lambda head, row, _: block_row(head, row), "num_pairs", fault
        )
    return Seen(members.decoded, evidence)


def conclude(version: Version, manifest: Manifest, tables: Tables, shards: Sequence[Seen]) -> Conclusion:
    """What is doubtful by the tables of all shards."""
    evidence = [seen.evidence for seen in shards if seen.evidence is not None]
    found = doubts(evidence, manifest.counts["discovered"], manifest.counts["duplicates"])
    return Conclusion(
        checked={"pictures_decoded": sum(seen.decoded for seen in shards)},
        doubts=tuple(replace(finding, message=f"{version}: {finding.message}") for finding in found),
    )
