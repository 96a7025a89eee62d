"""What a kind of data gives the loader, and where it is found by the kind's name.

The module of a kind holds `open_loader(store, mixture, window, **options)`: a `loader.load.Loader` with these
options, whose `open_reader(share)` makes the `Reader` of the batches of a rank's share. A kind that replaces
nothing returns no substitutions, and how far ahead a reader works for later steps is its own affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar

from robot_foundry.catalog.components import Mixture
from robot_foundry.catalog.manifest import known_manifest
from robot_foundry.catalog.refs import component_version
from robot_foundry.catalog.store import Store
from robot_foundry.loader.substituted import Substitution

BatchT = TypeVar("BatchT", covariant=True)
MODULES = {"robot": "robot_foundry.loader.robot.kind"}


class Window(Protocol):
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


def module_of(store: Store, mixture: Mixture) -> Any:
    """The module of the kind of a mixture, which is that of each of its components."""
    kind = known_manifest(store, component_version(store, mixture.components[0])).kind
    return import_module(MODULES[kind])
