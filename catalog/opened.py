"""Versions and mixtures, opened once and passed down: no reference, manifest or selection is read twice.

Legend: E groups (see `catalog.kind`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from robot_foundry.catalog.components import Component, Mixture
from robot_foundry.catalog.kind import Geometry, Kind
from robot_foundry.catalog.manifest import Manifest, read_manifest
from robot_foundry.catalog.refs import resolve
from robot_foundry.catalog.selection import Selection, SelectionSpec
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import named_table
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import FoundryError


class OpenVersion:
    """One committed version: its manifest, and what was read and proven of its tables so far.

    Tables and selections are kept as long as this object, tables of shards are not. A mixture has neither.
    """

    def __init__(self, store: Store, version: Version) -> None:
        """FoundryError if the version is not in the store, or its manifest damaged."""
        self.store, self.version = store, version
        self.manifest: Manifest = read_manifest(store, version)
        self._tables: dict[str, pa.Table] = {}
        self._selections: dict[SelectionSpec, Selection] = {}

    def __repr__(self) -> str:
        return f"OpenVersion({self.version})"

    @property
    def kind(self) -> Kind:
        """What its samples are, or those that it mixes."""
        return self.manifest.holds

    @cached_property
    def geometry(self) -> Geometry:
        """Where its groups [E] lie, each by itself."""
        return self.kind.geometry(self, None)

    def table(self, name: str) -> pa.Table:
        """The table `name` of the kind, or that of a shard as <table>/<shard key>; see `named_table`."""
        if name in self._tables:
            return self._tables[name]
        file = self.manifest.files.get(name)
        if file is None:
            raise FoundryError(f"{self.version} has no table '{name}'")
        columns = self.kind.columns(name.split("/")[0], self.manifest.schema)
        table = named_table(self.store, self.version, name, file, columns)
        if name in self.kind.tables:
            self._tables[name] = table
        return table

    def shard_table(self, name: str, ordinal: int) -> pa.Table:
        """The table `name` of a shard, which the manifest numbers."""
        return self.table(f"{name}/{self.manifest.shards[ordinal].key}")

    def group_tables(self, name: str, selection: Selection | None = None) -> Iterator[pa.Table]:
        """The table `name` of each shard, of a kind that has a row for each group in it.

        With a selection, the rows of groups that it holds.
        """
        is_held_E = None if selection is None else selection.holds(self.geometry)
        start = 0
        for ordinal in range(len(self.manifest.shards)):
            table = self.shard_table(name, ordinal)
            end = start + table.num_rows
            yield table if is_held_E is None else table.filter(pa.array(is_held_E[start:end]))
            start = end

    def select(self, spec: SelectionSpec | Mapping[str, Any] | None = None) -> Selection:
        """Select by `spec` or its JSON; None is the training split. NothingSelected where there is none."""
        if not isinstance(spec, SelectionSpec):
            spec = SelectionSpec.from_json(spec or {})
        if spec not in self._selections:
            self._selections[spec] = Selection.of(self, spec)
        return self._selections[spec]


class OpenVersions:
    """The versions of one store that one piece of work uses, each opened once.

    A reference means the same version throughout, whatever is committed meanwhile.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._of_refs: dict[str, OpenVersion] = {}
        self._of_ids: dict[tuple[str, str], OpenVersion] = {}

    @classmethod
    def of(cls, store: Store | OpenVersions) -> OpenVersions:
        """`store` itself where it holds what is open already."""
        return store if isinstance(store, OpenVersions) else cls(store)

    def open(self, ref: str | Version) -> OpenVersion:
        """The version that `ref` names; FoundryError where there is none."""
        if isinstance(ref, str) and ref in self._of_refs:
            return self._of_refs[ref]
        version = resolve(self.store, ref)
        place = version.dataset, version.version_id
        if place not in self._of_ids:
            self._of_ids[place] = OpenVersion(self.store, version)
        if isinstance(ref, str):
            self._of_refs[ref] = self._of_ids[place]
        return self._of_ids[place]

    def open_id(self, dataset: str, version_id: str) -> OpenVersion:
        """The version with this very id."""
        if (dataset, version_id) in self._of_ids:
            return self._of_ids[dataset, version_id]
        return self.open(f"{dataset}@{version_id}")

    def open_part(self, component: Component) -> Part:
        """A component of a mixture."""
        return Part(component, self.open_id(component.dataset, component.version_id))


@dataclass(frozen=True, eq=False)
class Part:
    """A component of a mixture, and its version opened."""

    component: Component
    opened: OpenVersion

    def select(self) -> Selection:
        """The rows of it; FoundryError when they are not the ones that the mixture was made with."""
        selection = self.opened.select(self.component.selection)
        if selection.num_samples != self.component.num_samples:
            raise FoundryError(
                f"component '{self.name}' selects {selection.num_samples} rows of {selection.version}, "
                f"the mixture was made with {self.component.num_samples}"
            )
        return selection

    @property
    def name(self) -> str:
        return self.component.name

    @property
    def manifest(self) -> Manifest:
        return self.opened.manifest


@dataclass(frozen=True, eq=False)
class OpenMixture:
    """A mixture with its opened components, in the mixture's order, which are all of one kind."""

    mixture: Mixture
    parts: tuple[Part, ...]
    versions: OpenVersions

    @classmethod
    def of(cls, store: Store | OpenVersions, mixture: Mixture) -> OpenMixture:
        """The mixture as it stands."""
        versions = OpenVersions.of(store)
        return cls(mixture, tuple(versions.open_part(c) for c in mixture.components), versions)

    def __post_init__(self) -> None:
        kinds = {part.name: part.opened.kind.name for part in self.parts}
        if len(set(kinds.values())) > 1:
            listed = ", ".join(f"{name} of {kind}" for name, kind in kinds.items())
            raise FoundryError(f"a mixture is of one kind of data, and these are not alike: {listed}")

    @property
    def store(self) -> Store:
        return self.versions.store

    @property
    def kind(self) -> Kind:
        """The kind that its components share."""
        return self.parts[0].opened.kind

    def alone(self) -> list[OpenMixture]:
        """Each component as a mixture of its own."""
        return [
            OpenMixture(self.mixture.alone(number), (part,), self.versions)
            for number, part in enumerate(self.parts)
        ]
