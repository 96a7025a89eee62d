"""What comes out of a loader, by the kind of data: the loader's face of a kind (see `catalog.kind`).

Which samples a batch has, and how it is prefetched, resumed and limited, is the same for every kind; what is
read of them is not. A kind that replaces nothing returns no substitutions, and how far ahead a reader works
for later steps is its own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.kind import face
from robot_foundry.catalog.manifest import known_manifest
from robot_foundry.catalog.refs import component_version
from robot_foundry.catalog.store import Store
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


class Kind(Protocol):
    """The loader's face of a kind."""

    def open_loader(self, store: Store, mixture: Mixture, window: Any, **options: Any) -> Any:
        """A `loader.load.Loader` with these options, whose `open_reader` gives a `Reader`.

        `window` are the kind's own settings of a sample, None its default ones.
        """
        ...


def kind_of(store: Store, mixture: Mixture) -> Kind:
    """The kind of a mixture, which is that of each of its components."""
    manifest = known_manifest(store, component_version(store, mixture.components[0]))
    kind: Kind = face(manifest.kind, "loader")
    return kind
