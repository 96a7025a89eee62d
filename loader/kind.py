"""What comes out of a loader, by the kind of data: the loader's face of a kind (see `catalog.kind`).

Which samples a batch has, and how it is prefetched, resumed and limited, is the same for every kind; what is
read of them is not. A kind that replaces nothing returns no substitutions, and how far ahead a reader works
for later steps is its own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from robot_foundry.catalog.kind import face
from robot_foundry.catalog.opened import OpenMixture, OpenVersion, OpenVersions
from robot_foundry.catalog.version import Version
from robot_foundry.loader.substituted import Substitution

BatchT = TypeVar("BatchT", covariant=True)


class SampleSettings(Protocol):
    """The settings of a kind's samples, as far as they decide which rows are samples at all."""

    @property
    def skipped(self) -> Sequence[str]:
        """Flags of rows that are none."""
        ...


class Reader(Protocol[BatchT]):
    """Reads a rank's batches; several threads may ask at once."""

    def read(self, step: int) -> tuple[BatchT, Sequence[Substitution]]:
        """The batch of an optimiser step, and what was substituted in it. A pure function of its samples."""
        ...

    def close(self) -> None:
        """End threads and let go of files."""
        ...


class LoaderKind(Protocol):
    """The loader's face of a kind."""

    @property
    def settings(self) -> type[SampleSettings]:
        """The class of the settings of a sample, which has a default for each."""
        ...

    def counts(self, opened: OpenMixture, window: Any) -> Sequence[int]:
        """How many samples each component has under these settings: those of `Mixture.counts`, or what the
        settings make of them."""
        ...

    def open_loader(self, opened: OpenMixture, window: Any, **options: Any) -> Any:
        """A `loader.load.Loader` with these options, whose `open_reader` gives a `Reader`.

        `window` are settings of a sample, of the class `settings`.
        """
        ...

    def open_dataset(self, versions: OpenVersions, version: Version, split: str) -> Any:
        """The samples of a split of a version as a sequence to look into; the version is no mixture."""
        ...


def kind_of(opened: OpenMixture | OpenVersion) -> LoaderKind:
    """The loader's face of the kind of a version, or of each component of a mixture."""
    kind: LoaderKind = face(opened.kind.name, "loader")
    return kind
