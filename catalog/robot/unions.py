"""What the components of a mixture of robot datasets have in common: the unions of their dims, their rates.

Legend: E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robot_foundry.catalog.components import Component, Mixture
from robot_foundry.catalog.manifest import known_manifest
from robot_foundry.catalog.refs import component_version
from robot_foundry.catalog.robot.episode_tables import episode_rates
from robot_foundry.catalog.robot.schema import Schema, schema_of
from robot_foundry.catalog.robot.tables import read_episodes
from robot_foundry.catalog.store import Store
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError, nearest


def component_schema(store: Store, component: Component) -> Schema:
    """The schema of the version that the component names."""
    return schema_of(known_manifest(store, component_version(store, component)))


@dataclass(frozen=True)
class Unions:
    """Unions over a mixture: of `state`, and of every action stream that all components have.

    `schemas` are by component name. To scatter a component give its schema's embodiment.
    """

    state: ActionSpace
    streams: Mapping[str, ActionSpace]
    schemas: Mapping[str, Schema]

    def check_stream(self, name: str) -> None:
        """FoundryError, which names the components that lack it, unless all have this action stream."""
        if name not in self.streams:
            lacking = [component for component, schema in self.schemas.items() if name not in schema.streams]
            raise FoundryError(
                f"there is no action stream '{name}' in {', '.join(lacking)}{nearest(name, self.streams)} "
                f"(streams{' of all' if len(self.schemas) > 1 else ''}: {', '.join(self.streams)})"
            )


def unions_of(store: Store, mixture: Mixture) -> Unions:
    """The unions of a mixture; components that cannot be united raise FoundryError."""
    schemas = {component.name: component_schema(store, component) for component in mixture.components}
    embodiments = [schema.embodiment for schema in schemas.values()]
    common = set.intersection(*(set(schema.streams) for schema in schemas.values()))
    if not common:
        listed = "; ".join(f"{name}: {', '.join(s.streams) or 'none'}" for name, s in schemas.items())
        raise FoundryError(f"the components have no action stream in common ({listed})")

    def union(stream: str) -> ActionSpace:
        parts = [schema.space(stream) for schema in schemas.values()]
        try:
            return ActionSpace.union(*parts, embodiments=embodiments)
        except FoundryError as error:
            raise FoundryError(f"{', '.join(schemas)} cannot be mixed: in {stream}, {error}") from error

    return Unions(union("state"), {stream: union(stream) for stream in sorted(common)}, schemas)


def component_rates(store: Store, component: Component) -> tuple[float, float] | None:
    """The least and the greatest rate of its episodes in Hz, None where no episode's is known."""
    nominal = component_schema(store, component).fps
    if nominal:
        return nominal, nominal
    rate_E = episode_rates(read_episodes(store, component_version(store, component)))
    rate_E = rate_E[np.isfinite(rate_E)]
    return (float(rate_E.min()), float(rate_E.max())) if rate_E.size else None
