"""Rows of pairs for the loader: how many there are, and who reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.version import Version
from robot_foundry.loader.kind import LoaderKind
from robot_foundry.loader.load import Loader
from robot_foundry.loader.pairs.cached import cached
from robot_foundry.loader.pairs.dataset import PairDataset
from robot_foundry.loader.pairs.lengths import tokens_of
from robot_foundry.loader.pairs.packing import PACKING_VERSION, PackedRows, PairRowsOf, SingleRows, packed
from robot_foundry.loader.pairs.reader import PairReader
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.loader.share import Share
from robot_foundry.runtime.canonical import digest_of, sha256_hex

T = TypeVar("T")


class PairLoader(Loader[T]):
    """A Loader of rows of pairs (`pairs.batch.PairBatch`)."""

    window: PairSpec
    _rows: Sequence[PairRowsOf]
    _packed_by: str | None  # a digest of all that packing has seen

    def counts(self) -> list[int]:
        self._rows, self._packed_by = rows_of(self.opened, self.window)
        return [len(rows) for rows in self._rows]

    def counted_by(self) -> Mapping[str, Any]:
        return {"rows": {"packed": self._packed_by}}

    def open_reader(self, share: Share) -> PairReader:
        return PairReader(self.opened, self._rows, self.window, share, seed=self.seed, threads=self._threads)


class PairsKind:
    """See `loader.kind.LoaderKind`."""

    settings: type[PairSpec] = PairSpec

    def counts(self, opened: OpenMixture, window: PairSpec) -> list[int]:
        return [len(rows) for rows in rows_of(opened, window)[0]]

    def open_loader(self, opened: OpenMixture, window: PairSpec, **options: Any) -> PairLoader[Any]:
        return PairLoader(opened, window, **options)

    def open_dataset(self, versions: OpenVersions, version: Version, split: str) -> PairDataset:
        return PairDataset(versions, version, split)


def rows_of(opened: OpenMixture, spec: PairSpec) -> tuple[list[PairRowsOf], str | None]:
    """The rows of each component of a mixture; and where they are packed, a digest of what decides them."""
    if not spec.rows.packed:
        return [SingleRows(part.component.num_samples) for part in opened.parts], None
    tokens = [tokens_of(part, spec) for part in opened.parts]
    deciding = [
        {
            "packing": PACKING_VERSION,
            "length": spec.rows.length,
            "tokens": sha256_hex(tokens_n.astype("<i4").tobytes()),
        }
        for tokens_n in tokens
    ]
    rows: list[PairRowsOf] = [
        _packed(opened.store, of, tokens_n, spec.rows.length)
        for of, tokens_n in zip(deciding, tokens, strict=True)
    ]
    return rows, digest_of(deciding)


def _packed(store: Store, of: Mapping[str, Any], tokens_n: NDArray[np.int32], length: int) -> PackedRows:
    def make() -> NDArray[np.int32]:
        made = packed(tokens_n, length)
        return np.concatenate([made.count_R, made.pair_n])

    both = cached(store, "pair-rows", of, make)
    return PackedRows(*np.split(both, [len(both) - len(tokens_n)]))


KIND: LoaderKind = PairsKind()
