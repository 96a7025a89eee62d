"""The distribution of every dimension of a space.

Shape suffixes: N = rows, D = dims of the space.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError

Array = NDArray[Any]
_FORMAT = 1
_EMPTY = Digest.of(())


@dataclass(frozen=True)
class Statistics:
    """One Digest for each dimension of `space`, in its order. A dimension without data has an empty one."""

    space: ActionSpace
    digests: tuple[Digest, ...]

    def __post_init__(self) -> None:
        if len(self.digests) != len(self.space):
            raise FoundryError(
                f"{len(self.digests)} digests do not fit a space of {len(self.space)} dimensions"
            )

    @classmethod
    def of(cls, values_ND: Array, mask_ND: Array | None, space: ActionSpace) -> Statistics:
        """Statistics of rows (..., D), without what the mask (it broadcasts to the values) denies."""
        if values_ND.shape[-1:] != (len(space),):
            raise FoundryError(
                f"values of shape {values_ND.shape} do not fit a space of {len(space)} dimensions"
            )
        if mask_ND is None:
            return cls(space, tuple(Digest.of(values_ND[..., i]) for i in range(len(space))))
        mask_ND = np.broadcast_to(mask_ND, values_ND.shape)
        return cls(space, tuple(Digest.of(values_ND[..., i][mask_ND[..., i]]) for i in range(len(space))))

    @classmethod
    def empty(cls, space: ActionSpace) -> Statistics:
        return cls(space, (_EMPTY,) * len(space))

    @classmethod
    def merge_all(cls, statistics: Iterable[Statistics]) -> Statistics:
        """All leaves as one, bit for bit the same whatever their order; they must be of one space."""
        leaves = list(statistics)
        if not leaves:
            raise FoundryError("no statistics to merge")
        space = leaves[0].space
        for leaf in leaves:
            if leaf.space != space:
                raise FoundryError(
                    f"statistics of unlike spaces cannot be merged: {leaf.space} and {space}",
                    hint="bring each into the union first: statistics.into(union)",
                )
        columns = zip(*(leaf.digests for leaf in leaves), strict=True)
        return cls(space, tuple(Digest.merge_all(column) for column in columns))

    def into(self, space: ActionSpace, *, embodiment: str | None = None) -> Statistics:
        """These statistics over a union that holds this space; its other dimensions have no data."""
        digests = [_EMPTY] * len(space)
        for digest, at in zip(self.digests, self.space.indices_in(space, embodiment), strict=True):
            digests[at] = digest
        return Statistics(space, tuple(digests))

    def scaled(self, times: int) -> Statistics:
        """As if each value had been seen `times` times, see `Digest.scaled`."""
        return Statistics(self.space, tuple(digest.scaled(times) for digest in self.digests))

    def __getitem__(self, name: str) -> Digest:
        return self.digests[self.space.index(name)]

    def percentiles(self, q: Sequence[float]) -> Array:
        """(len(q), D) values, NaN for dimensions without data."""
        columns = [digest.percentile(np.asarray(q, np.float64)) for digest in self.digests]
        return np.stack(columns, axis=-1) if columns else np.empty((len(q), 0))

    @property
    def counts(self) -> NDArray[np.int64]:
        """(D,) finite values seen."""
        return np.array([digest.count for digest in self.digests], np.int64)

    def to_json(self) -> str:
        """Exact text form, digests in base64."""
        digests = [base64.b64encode(digest.to_bytes()).decode() for digest in self.digests]
        return json.dumps({"format": _FORMAT, "space": self.space.to_json(), "digests": digests})

    @classmethod
    def from_json(cls, text: str) -> Statistics:
        data = json.loads(text)
        if data.get("format") != _FORMAT:
            raise FoundryError(f"statistics of format {data.get('format')!r}, this version reads {_FORMAT}")
        digests = tuple(Digest.from_bytes(base64.b64decode(digest)) for digest in data["digests"])
        return cls(ActionSpace.from_json(data["space"]), digests)
