"""Reads batches of rows of pairs: texts from proven tables, pictures decoded by threads into the batch.

Only proven corruption of a picture is replaced, with its row by another one of the same component that
depends on (seed, k, attempt) alone; every other error is raised.

Legend: B rows of a batch, m pairs of some rows, N pictures, H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.loader.pairs.batch import PairBatch, Row, assembled, length_for
from robot_foundry.loader.pairs.packing import PairRowsOf
from robot_foundry.loader.pairs.source import PairShard, PictureAt, opened_tar
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.loader.pairs.template import PairText, chosen, rendered_all
from robot_foundry.loader.share import Share
from robot_foundry.loader.substituted import Damage, Substitution, all_corrupt, substitutes, twice
from robot_foundry.runtime.keyed import key, uniform
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.pictures.decode import decode
from robot_foundry.shards.reader import ShardReader

MAX_OPEN_SHARDS = 64  # each holds the places of its pictures
MAX_OPEN_TARS = 256  # each holds a file descriptor, of the 1024 that a process usually may have
_DRAFTED_ROWS = 256  # texts cost least for many rows at once
_CHUNKS_PER_THREAD = 4  # enough that threads end together, few enough that handing out costs nothing


@dataclass(frozen=True)
class _Draft:
    """A row, and where its pictures lie."""

    row: Row
    pictures: Sequence[PictureAt]


class PairReader:
    """Reads the batches of a share; `rows` are those of each component.

    Threads change nothing but the time it takes; 0 decodes in the caller's thread.
    """

    def __init__(
        self,
        opened: OpenMixture,
        rows: Sequence[PairRowsOf],
        spec: PairSpec,
        share: Share,
        *,
        seed: int,
        threads: int,
    ) -> None:
        self._parts, self._rows, self._spec = opened.parts, rows, spec
        self._share, self._seed, self._threads = share, seed, threads
        self._selections = [part.select() for part in opened.parts]
        self._steps_per_draft = max(1, _DRAFTED_ROWS // len(share))
        self._draft = lru_cache(maxsize=2)(self._draft_steps)
        self._shard = lru_cache(MAX_OPEN_SHARDS)(self._open_shard)
        self._tar = lru_cache(MAX_OPEN_TARS)(self._open_tar)
        self._pool = ThreadPoolExecutor(threads, "decode") if threads else None

    def read(self, step: int) -> tuple[PairBatch, list[Substitution]]:
        """The batch of a step, and what had to be substituted in it."""
        k_B, dataset_B, sample_B = self._share.samples(step)
        first = step % self._steps_per_draft * len(k_B)
        drafts = self._draft(step // self._steps_per_draft)[first : first + len(k_B)]
        image_NHWC, damaged = self._decoded(drafts)
        substitutions = []
        if damaged:
            counts = np.cumsum([len(draft.pictures) for draft in drafts])[:-1]
            images = np.split(image_NHWC, counts)
            for b, damage in sorted(damaged.items()):
                told = int(k_B[b]), int(dataset_B[b]), int(sample_B[b])
                drafts[b], images[b], substitution = self._substitute(*told, damage)
                substitutions.append(substitution)
            image_NHWC = np.concatenate(images)
        rows, pad = [draft.row for draft in drafts], self._spec.tokenizer.pad
        batch = assembled(step, k_B, dataset_B, rows, image_NHWC, length=self._length(rows), pad=pad)
        return batch, substitutions

    def close(self) -> None:
        """End the threads and let go of the files."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._draft.cache_clear()
        self._shard.cache_clear()
        self._tar.cache_clear()

    def _length(self, rows: Sequence[Row]) -> int:
        """Tokens a row of a batch: those of all rows where they are packed, else of the longest one."""
        length = self._spec.rows.length
        return length if self._spec.rows.packed else min(length, length_for(rows))

    def _draft_steps(self, run: int) -> list[_Draft]:
        """The rows of the steps of a run, one step behind the other."""
        first = run * self._steps_per_draft
        parts = [self._share.samples(step) for step in range(first, first + self._steps_per_draft)]
        return self._drafts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _drafts(
        self, k_n: NDArray[np.int64], dataset_n: NDArray[np.int32], row_n: NDArray[np.int64]
    ) -> list[_Draft]:
        """All but the pixels of the rows with these numbers, which stand at the positions k."""
        pairs = [self._rows[number][row] for number, row in zip(dataset_n.tolist(), row_n, strict=True)]
        count_n = np.array([len(of_row) for of_row in pairs])
        end_n = np.cumsum(count_n)
        place_m = np.arange(end_n[-1]) - np.repeat(end_n - count_n, count_n)
        found = self._found(np.repeat(dataset_n, count_n), np.concatenate(pairs).astype(np.int64))
        choice_m = self._choices(np.repeat(k_n, count_n), place_m).tolist()
        tokenizer, image_tokens = self._spec.tokenizer, self._spec.image_tokens
        forms = [chosen(text, tokenizer, c) for (text, _), c in zip(found, choice_m, strict=True)]
        whole = rendered_all(forms, tokenizer, image_tokens)
        parts = [made.cut(self._spec.rows.length, image_tokens) for made in whole]
        drafts = []
        for end, count in zip(end_n.tolist(), count_n.tolist(), strict=True):
            here = range(end - count, end)
            row = Row(parts[here.start : end], sum(len(whole[m]) - len(parts[m]) for m in here))
            pictures = [place for m in here for place in found[m][1][: len(parts[m].image_starts)]]
            drafts.append(_Draft(row, pictures))
        return drafts

    def _choices(self, k_m: NDArray[np.int64], place_m: NDArray[np.int64]) -> NDArray[np.float64]:
        """What decides of each pair which of its captions it is, by its place in the row at position k."""
        choice_m = np.empty(len(k_m))
        for place in np.unique(place_m).tolist():
            here = place_m == place
            choice_m[here] = uniform(key("caption", self._seed, place), k_m[here])
        return choice_m

    def _found(
        self, dataset_m: NDArray[np.int32], sample_m: NDArray[np.int64]
    ) -> list[tuple[PairText, list[PictureAt]]]:
        """What pairs say, and where their pictures lie."""
        found: dict[int, tuple[PairText, list[PictureAt]]] = {}
        for number in np.unique(dataset_m).tolist():
            of_part = np.flatnonzero(dataset_m == number)
            shard_p, row_p = self._selections[number].locate(sample_m[of_part])
            for ordinal in np.unique(shard_p).tolist():
                shard, here = self._shard(number, ordinal), shard_p == ordinal
                rows = row_p[here].tolist()
                for m, row, text in zip(of_part[here].tolist(), rows, shard.texts(rows), strict=True):
                    found[m] = text, shard.pictures(row)
        return [found[m] for m in range(len(sample_m))]

    def _decoded(self, drafts: Sequence[_Draft]) -> tuple[NDArray[np.uint8], Mapping[int, Damage]]:
        """The pictures [N] of rows, and of each row that has a corrupt one what is."""
        pictures = [(b, picture) for b, draft in enumerate(drafts) for picture in draft.pictures]
        image_NHWC = np.empty((len(pictures), *self._spec.rows.image, 3), np.uint8)
        decoded = partial(_decode_some, pictures, image_NHWC, self._spec.rows.fit)
        if self._pool is None or len(pictures) < 2:
            return image_NHWC, decoded(range(len(pictures)))
        size = -(-len(pictures) // (self._threads * _CHUNKS_PER_THREAD))
        chunks = [range(n, min(n + size, len(pictures))) for n in range(0, len(pictures), size)]
        damaged: dict[int, Damage] = {}
        for of_chunk in self._pool.map(decoded, chunks):
            damaged = of_chunk | damaged  # of a row the first is told
        return image_NHWC, damaged

    def _substitute(
        self, k: int, number: int, sample: int, damage: Damage
    ) -> tuple[_Draft, NDArray[np.uint8], Substitution]:
        component = self._parts[number].component
        for substitute in substitutes(component, self._seed, k, count=len(self._rows[number])):
            [draft] = self._drafts(*(np.array([n]) for n in (k, number, substitute)))
            image_NHWC, damaged = self._decoded([draft])
            if not damaged:
                return draft, image_NHWC, Substitution.of(component, k, sample, substitute, damage)
        raise all_corrupt(component, sample, damage.reason)

    def _open_shard(self, number: int, ordinal: int) -> PairShard:
        return PairShard(self._parts[number].opened, ordinal, partial(self._tar, number))

    def _open_tar(self, number: int, tar: str) -> ShardReader:
        return opened_tar(self._parts[number].opened, tar)


def _decode_some(
    pictures: Sequence[tuple[int, PictureAt]], image_NHWC: NDArray[np.uint8], fit: str, numbers: range
) -> dict[int, Damage]:
    """Write some of the pictures; what is corrupt, by the rows that they are of."""
    damaged: dict[int, Damage] = {}
    for n in numbers:
        b, picture = pictures[n]
        try:
            twice(partial(_decode_one, picture, image_NHWC[n], fit))
        except CorruptData as error:
            damaged.setdefault(b, picture.damage(error))
    return damaged


def _decode_one(picture: PictureAt, out_HWC: NDArray[np.uint8], fit: str) -> None:
    height, width = out_HWC.shape[:2]
    decode(picture.read(), (height, width), fit=fit, out=out_HWC)
