"""What the components of a mixture of robot datasets have in common: the unions of their dims, their rates.

Legend: E episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_foundry.catalog.opened import OpenMixture, Part
from robot_foundry.catalog.robot.episode_tables import episode_rates
from robot_foundry.catalog.robot.schema import Schema, schema_of
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError, nearest


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

    def columns(self) -> dict[str, list[dict[str, Any]]]:
        """By stream, `state` first, the dims: `name`, `unit`, and `components`, who has it by name."""
        columns: dict[str, list[dict[str, Any]]] = {}
        for stream, union in {"state": self.state, **self.streams}.items():
            held = {
                name: set(schema.space(stream).indices_in(union, schema.embodiment).tolist())
                for name, schema in self.schemas.items()
            }
            columns[stream] = [
                {
                    "name": dim.name,
                    "unit": dim.unit,
                    "components": {name: i in indices for name, indices in held.items()},
                }
                for i, dim in enumerate(union)
            ]
        return columns


def unions_of(opened: OpenMixture) -> Unions:
    """The unions of a mixture; components that cannot be united raise FoundryError."""
    schemas = {part.name: schema_of(part.manifest) for part in opened.parts}
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


def component_rates(part: Part) -> tuple[float, float] | None:
    """The least and the greatest rate of its episodes in Hz, None where no episode's is known."""
    nominal = schema_of(part.manifest).fps
    if nominal:
        return nominal, nominal
    rate_E = episode_rates(part.opened.table("episodes"))
    rate_E = rate_E[np.isfinite(rate_E)]
    return (float(rate_E.min()), float(rate_E.max())) if rate_E.size else None
