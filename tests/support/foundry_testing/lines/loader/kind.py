"""The kind `lines` as the loader knows it.

Legend: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from foundry_testing.lines.loader.source import Line, LineSource
from robot_foundry.catalog.components import Component
from robot_foundry.catalog.opened import OpenMixture, OpenVersions
from robot_foundry.catalog.selection import SelectionSpec
from robot_foundry.catalog.version import Version
from robot_foundry.loader.kind import LoaderKind
from robot_foundry.loader.load import Loader
from robot_foundry.loader.share import Share
from robot_foundry.loader.substituted import Substitution, all_corrupt, substitutes
from robot_foundry.shards.errors import CorruptMember

T = TypeVar("T")


@dataclass(frozen=True)
class LinesWindow:
    """The settings of a sample: whether lines without a character are none."""

    skip_blank: bool = False

    @property
    def skipped(self) -> tuple[str, ...]:
        return ("blank",) if self.skip_blank else ()


@dataclass(frozen=True)
class Lines:
    """A rank's rows of global batch `step`: positions in the order, components of the mixture, and lines."""

    step: int
    k_B: NDArray[np.int64]
    dataset_B: NDArray[np.int32]
    line_B: tuple[Line, ...]


class LineReader:
    """See `loader.kind.Reader`. A line of a damaged text is replaced by another of its dataset."""

    def __init__(self, opened: OpenMixture, share: Share, seed: int) -> None:
        self._components = [part.component for part in opened.parts]
        self._sources = [LineSource(part.opened, part.select()) for part in opened.parts]
        self._share, self._seed = share, seed

    def read(self, step: int) -> tuple[Lines, Sequence[Substitution]]:
        k_B, dataset_B, sample_B = self._share.samples(step)
        rows = zip(k_B.tolist(), dataset_B.tolist(), sample_B.tolist(), strict=True)
        read = [self._line(self._components[d], self._sources[d], k, sample) for k, d, sample in rows]
        lines = Lines(step, k_B, dataset_B, tuple(line for line, _ in read))
        return lines, [replaced for _, replaced in read if replaced is not None]

    def close(self) -> None:
        self._sources.clear()

    def _line(
        self, component: Component, source: LineSource, k: int, sample: int
    ) -> tuple[Line, Substitution | None]:
        try:
            return source.line(sample), None
        except CorruptMember as error:
            reason, tar, member = str(error), source.tar(sample).tar_path, source.member(sample)
        for other in substitutes(component, self._seed, k):
            try:
                line = source.line(other)
            except CorruptMember:
                continue
            told = component.name, component.version, sample, other, reason, tar, member
            return line, Substitution(k, *told)
        raise all_corrupt(component, sample, reason)


class LinesLoader(Loader[T]):
    """A Loader of `Lines`."""

    def open_reader(self, share: Share) -> LineReader:
        return LineReader(self.opened, share, self.seed)


class LinesDataset:
    """The lines of a split of a version, in shard, document and line order."""

    def __init__(self, versions: OpenVersions, version: Version, split: str) -> None:
        opened = versions.open(version)
        self._source = LineSource(opened, opened.select(SelectionSpec(split=split)))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> Line:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self._source.line(i)


class LinesKind:
    """See `loader.kind.Kind`."""

    settings: type[LinesWindow] = LinesWindow

    def counts(self, opened: OpenMixture, window: LinesWindow) -> list[int]:
        return opened.mixture.counts

    def open_loader(self, opened: OpenMixture, window: LinesWindow, **options: Any) -> LinesLoader[Any]:
        return LinesLoader(opened, window, **options)

    def open_dataset(self, versions: OpenVersions, version: Version, split: str) -> LinesDataset:
        return LinesDataset(versions, version, split)


KIND: LoaderKind = LinesKind()
