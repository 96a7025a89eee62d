"""What the numbers of a version of tokens mean: ids of one tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.runtime.canonical import check_keys
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.blocks import token_dtype
from robot_foundry.shards.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Schema:
    """`tokenizer` is its id, `size` its vocabulary; `start`, `end` and `pad` are ids of it.

    `start` stands before the first token of a document, `end` behind its last, `pad` where nothing is.
    """

    tokenizer: str
    size: int
    start: int
    end: int
    pad: int
    dtype: str = ""

    def __post_init__(self) -> None:
        least = token_dtype(self.size).name
        object.__setattr__(self, "dtype", self.dtype or least)
        if self.dtype != least:
            raise FoundryError(f"ids of {self.size:,} tokens are stored as {least}, not as {self.dtype}")
        outside = [name for name in ("start", "end", "pad") if not 0 <= getattr(self, name) < self.size]
        if outside:
            listed = " and ".join(outside)
            raise FoundryError(f"{listed} of a tokenizer of {self.size:,} tokens are none of its ids")

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Schema:
        """What ids of this tokenizer mean."""
        return cls(tokenizer.id, tokenizer.size, tokenizer.start, tokenizer.end, tokenizer.pad)

    @property
    def numpy(self) -> np.dtype:
        """How ids are stored: little-endian."""
        return token_dtype(self.size)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, obj: Mapping[str, Any], where: str = "schema") -> Schema:
        """Strict inverse; FoundryError names `where`."""
        check_keys(obj, [item.name for item in fields(cls)], where)
        for item in fields(cls):
            expected = str if item.name in ("tokenizer", "dtype") else int
            if type(obj[item.name]) is not expected:
                raise FoundryError(f"{where}: {item.name} is {obj[item.name]!r}")
        return cls(**obj)


def schema_of(manifest: Manifest) -> Schema:
    """What the ids of a version of tokens mean; FoundryError if it is a mixture, or of another kind."""
    if isinstance(manifest.schema, Schema):
        return manifest.schema
    is_mixture = manifest.mixture is not None
    what = "is a mixture" if is_mixture else f"holds {manifest.holds.samples}, not tokens"
    raise FoundryError(
        f"'{manifest.dataset}' {what}",
        hint="ask for its components" if is_mixture else f"foundry-data show {manifest.dataset}",
    )
