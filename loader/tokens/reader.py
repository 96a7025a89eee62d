"""Fills batches of packed rows from proven pages of tokens.

Only proven corruption is replaced, by another row of the same component that depends on (seed, k, attempt)
alone; every other error is raised.

Legend: B rows of a batch, S tokens of a row, T tokens of a span of it, D documents of a shard, d those of a
span.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture, Part
from robot_foundry.catalog.tokens.schema import schema_of
from robot_foundry.loader.share import Share
from robot_foundry.loader.substituted import Damage, Substitution, all_corrupt, substitutes
from robot_foundry.loader.tokens.batch import TokenBatch, allocate
from robot_foundry.loader.tokens.packing import PackedRows, Row
from robot_foundry.loader.tokens.source import Page, TokenShard
from robot_foundry.shards.errors import CorruptMember

MAX_OPEN_SHARDS = 256  # each holds a file descriptor, of the 1024 that a process usually may have
MAX_PAGES = 256  # of 64 KiB: rows of a lane are neighbours for a while, and ask for the same page again


class RowReader:
    """Reads the batches of a share; `rows` are those of each component, `length` the tokens of one."""

    def __init__(
        self, opened: OpenMixture, rows: Sequence[PackedRows], length: int, share: Share, *, seed: int
    ) -> None:
        self._parts, self._rows, self._length = opened.parts, rows, length
        self._share, self._seed = share, seed
        self._schema_D = [schema_of(part.manifest) for part in self._parts]
        self._shard = lru_cache(MAX_OPEN_SHARDS)(self._open_shard)
        self._page = lru_cache(MAX_PAGES)(self._read_page)

    def read(self, step: int) -> tuple[TokenBatch, list[Substitution]]:
        """The batch of a step, and what had to be substituted in it."""
        k_B, dataset_B, sample_B = self._share.samples(step)
        batch = allocate(step, k_B, dataset_B, self._length)
        damaged: dict[int, Damage] = {}
        for number in np.unique(dataset_B).tolist():
            row_n = np.flatnonzero(dataset_B == number)
            for row, packed in zip(row_n.tolist(), self._rows[number].at(sample_B[row_n]), strict=True):
                damage = self._fill(batch, row, number, packed)
                if damage is not None:
                    damaged[row] = damage
        return batch, [self._substitute(batch, row, int(sample_B[row]), damaged[row]) for row in damaged]

    def close(self) -> None:
        """Let go of the files."""
        self._shard.cache_clear()
        self._page.cache_clear()

    def _substitute(self, batch: TokenBatch, row: int, sample: int, damage: Damage) -> Substitution:
        k, number = int(batch.k_B[row]), int(batch.dataset_B[row])
        component, rows = self._parts[number].component, self._rows[number]
        for substitute in substitutes(component, self._seed, k, count=len(rows)):
            [packed] = rows.at(np.array([substitute], np.int64))
            if self._fill(batch, row, number, packed) is None:
                return Substitution.of(component, k, sample, substitute, damage)
        raise all_corrupt(component, sample, damage.reason)

    def _fill(self, batch: TokenBatch, row: int, number: int, packed: Row) -> Damage | None:
        """Write a row, or say why that cannot be."""
        shard, schema = self._shard(number, packed.shard), self._schema_D[number]
        try:
            spans = [self._tokens(number, packed, *span) for span in packed.spans]
        except CorruptMember as error:
            return Damage(shard.tar, shard.member(packed.block), str(error))
        for column, value in (
            (batch.token_BS, schema.pad),
            (batch.target_BS, schema.pad),
            (batch.segment_BS, -1),
            (batch.position_BS, 0),
        ):
            column[row] = value
        at = segment = 0
        num_bytes = 0.0
        for (begin, end), ids_T1 in zip(packed.spans, spans, strict=True):
            first_d, sizes_d, begins_d, bytes_d = _documents(shard, begin, end)
            part = slice(at, at + end - begin)
            batch.token_BS[row, part] = ids_T1[:-1]
            batch.token_BS[row, part][first_d[begins_d]] = schema.start
            batch.target_BS[row, part] = ids_T1[1:]
            batch.segment_BS[row, part] = np.repeat(np.arange(segment, segment + len(first_d)), sizes_d)
            batch.position_BS[row, part] = np.arange(end - begin) - np.repeat(first_d, sizes_d)
            num_bytes += float(bytes_d.sum())
            at, segment = part.stop, segment + len(first_d)
        batch.bytes_B[row] = num_bytes
        return None

    def _tokens(self, number: int, packed: Row, begin: int, end: int) -> NDArray[np.int32]:
        """The token before a span, which its first one is predicted from, and those of the span [1 + T].

        At the start of a block any token stands in for the one before: a document begins there.
        """
        shard = self._shard(number, packed.shard)
        before = max(begin - 1, shard.start(packed.block))
        ids = shard.tokens(packed.block, before, end, partial(self._page, number, packed.shard))
        return ids if before < begin else np.concatenate([ids[:1], ids])

    def _open_shard(self, number: int, ordinal: int) -> TokenShard:
        return TokenShard(self._parts[number].opened, ordinal)

    def _read_page(self, number: int, ordinal: int, page: int) -> Page:
        return self._shard(number, ordinal).page(page)


def rows_of(part: Part, length: int) -> PackedRows:
    """The rows of a component of a mixture."""
    return PackedRows(part.opened, part.select(), length)


def _documents(
    shard: TokenShard, begin: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Of the documents [d] with tokens among `begin` … `end` - 1 of a shard: where in the span their part of
    it is, how many tokens that has, whether the document begins with it, and the bytes it stands for."""
    first = int(np.searchsorted(shard.start_D, begin, side="right")) - 1
    last = int(np.searchsorted(shard.start_D, end, side="left"))
    start_d = shard.start_D[first:last]
    first_d = np.maximum(start_d, begin) - begin
    sizes_d = np.diff(first_d, append=end - begin)
    bytes_d = shard.num_bytes_D[first:last] * (sizes_d / shard.num_tokens_D[first:last])
    return first_d, sizes_d, start_d >= begin, bytes_d
