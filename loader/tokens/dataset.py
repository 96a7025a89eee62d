"""One version of tokens, opened to look into: its documents as ids.

Legend: E entries of a geometry, documents or blocks of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.tokens.schema import Schema, schema_of
from robot_foundry.catalog.tokens.tokenizers import read_id
from robot_foundry.catalog.version import Version
from robot_foundry.loader.tokens.source import TokenShard
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.tokens.tokenizer import Tokenizer

_OPEN_SHARDS = 16


class TokenDataset:
    """A version of tokens as a sequence of documents, in shard order and as they are stored there.

    `dataset[i]` is a dict: `tokens`, int32 [N], the one that ends the document among them; `num_bytes` of its
    text; `shard` and `document`, the shard of the text that it comes from, and its row there. `text(i)` is
    what its tokens decode to.
    """

    def __init__(self, versions: OpenVersions, version: Version, split: str = "all") -> None:
        self._opened, self.version = versions.open(version), version
        self.manifest = self._opened.manifest
        self.schema: Schema = schema_of(self.manifest)
        spec = SelectionSpec(split=split)
        self.selection = self._opened.select(spec)
        entries = self._opened.kind.geometry(self._opened, spec)
        self._entries = entries.take(self.selection.holds(entries))
        count_E = self._entries.count_E
        self._ends_E = np.cumsum(np.ones(len(self._entries.hash_E), np.int64) if count_E is None else count_E)
        self._shard = lru_cache(_OPEN_SHARDS)(lambda ordinal: TokenShard(self._opened, ordinal))

    def __len__(self) -> int:
        return self.selection.num_groups

    def __repr__(self) -> str:
        return f"TokenDataset({self.version}, {len(self)} documents, {self.selection.num_samples} tokens)"

    def __getitem__(self, i: int) -> dict[str, Any]:
        if isinstance(i, bool) or not isinstance(i, int | np.integer):
            raise UsageError(f"documents of {self.version} are asked for by a whole number, got {i!r}")
        if not -len(self) <= i < len(self):
            raise IndexError(f"{self.version} has {len(self)} documents, there is no document {i}")
        i = int(i) % len(self)
        entry = int(np.searchsorted(self._ends_E, i, side="right"))
        shard = self._shard(ordinal := int(self._entries.shard_E[entry]))
        behind = int(self._ends_E[entry]) - i  # so many documents of the entry, with this one, are left in it
        end = int(self._entries.start_E[entry] + self._entries.length_E[entry])
        row = int(np.searchsorted(shard.start_D, end, side="left")) - behind
        return {
            "tokens": shard.document(row),
            "num_bytes": int(shard.num_bytes_D[row]),
            "shard": ordinal,
            "document": int(shard.row_D[row]),
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The one that made the tokens; FoundryError where the store lacks it."""
        return read_id(self._opened.store, self.schema.tokenizer)

    def text(self, i: int) -> str:
        """The text of a document, as its tokens have it."""
        return self.tokenizer.decode(self[i]["tokens"])
