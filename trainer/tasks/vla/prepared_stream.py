"""A loader whose batches are prepared when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robot_foundry.loader.load import Loader
from robot_foundry.trainer.streams import Preparation, Prepared


class PreparedStream:
    """See `trainer.streams.Stream`."""

    def __init__(self, loader: Loader, prepare: Preparation) -> None:
        self._loader, self._prepare = loader, prepare

    @property
    def substitutions(self) -> Sequence[Any]:
        return self._loader.substitutions

    def __enter__(self) -> PreparedStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._loader.close()

    def __iter__(self) -> Iterator[Prepared]:
        return self

    def __next__(self) -> Prepared:
        return self._prepare(next(self._loader))

    def batch(self, b: int) -> Prepared:
        return self._prepare(self._loader.batch(b))

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._loader.load_state_dict(state)
