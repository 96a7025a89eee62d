"""Packed rows of tokens for the loader: how many there are, and who reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.tokens.schema import Schema, schema_of
from robot_foundry.catalog.version import Version
from robot_foundry.loader.kind import LoaderKind
from robot_foundry.loader.load import Loader
from robot_foundry.loader.share import Share
from robot_foundry.loader.tokens.dataset import TokenDataset
from robot_foundry.loader.tokens.packing import PackedRows
from robot_foundry.loader.tokens.reader import RowReader, rows_of
from robot_foundry.loader.tokens.rows import RowSpec

T = TypeVar("T")


class TokenLoader(Loader[T]):
    """A Loader of packed rows (`tokens.batch.TokenBatch`)."""

    window: RowSpec
    _rows: Sequence[PackedRows]

    @property
    def schema(self) -> Schema:
        """What the ids mean; the same of all components."""
        return schema_of(self.opened.parts[0].manifest)

    def counts(self) -> list[int]:
        self._rows = [rows_of(part, self.window.length) for part in self.opened.parts]
        return [len(rows) for rows in self._rows]

    def counted_by(self) -> Mapping[str, Any]:
        return {"rows": {"length": self.window.length}}

    def open_reader(self, share: Share) -> RowReader:
        return RowReader(self.opened, self._rows, self.window.length, share, seed=self.seed)


class TokensKind:
    """See `loader.kind.LoaderKind`."""

    settings: type[RowSpec] = RowSpec

    def counts(self, opened: OpenMixture, window: RowSpec) -> list[int]:
        return [len(rows_of(part, window.length)) for part in opened.parts]

    def open_loader(self, opened: OpenMixture, window: RowSpec, **options: Any) -> TokenLoader[Any]:
        return TokenLoader(opened, window, **options)

    def open_dataset(self, versions: OpenVersions, version: Version, split: str) -> TokenDataset:
        return TokenDataset(versions, version, split)


KIND: LoaderKind = TokensKind()
