"""Mixtures: exact shares of selections of versions, addressed by content.

A mixture holds no bytes: `Component`s name a version, a selection of its rows and a rational weight. Equal
content has the equal id, however the weights were written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from robot_foundry.runtime.canonical import check_keys, digest_of
from robot_foundry.runtime.errors import FoundryError

LANES = 64
SPAN = 64
_COMPONENT_KEYS = ("name", "dataset", "version_id", "weight", "selection", "num_samples")


@dataclass(frozen=True)
class Component:
    """A share of a mixture.

    `weight` is an exact fraction in lowest terms ("3/5"); `selection` is the spec of a `Selection` (split,
    val_fraction, …) and `num_samples` the rows it holds. `name` is the dataset's, or <dataset>@<12 hex> where
    a mixture has two components of one dataset.
    """

    name: str
    dataset: str
    version_id: str
    weight: str
    selection: Mapping[str, Any]
    num_samples: int

    @property
    def version(self) -> str:
        """A reference to the version, <dataset>@<12 hex>."""
        return f"{self.dataset}@{self.version_id[:12]}"

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.weight)


@dataclass(frozen=True)
class Mixture:
    """Components whose weights sum to 1 exactly.

    `lanes` canonical lanes deal the samples to ranks; a lane reads runs of `span` neighbouring samples. Both
    are part of the order of samples, hence of the id.
    """

    components: tuple[Component, ...]
    lanes: int = LANES
    span: int = SPAN

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", tuple(self.components))
        if not self.components:
            raise FoundryError("a mixture needs at least one component")
        if any(component.fraction <= 0 for component in self.components):
            raise FoundryError("the weights of a mixture must be positive")
        if sum(component.fraction for component in self.components) != 1:
            raise FoundryError("the weights of a mixture must sum to 1")
        if any(component.num_samples <= 0 for component in self.components):
            raise FoundryError("every component of a mixture needs at least one sample")
        if self.lanes < 1 or self.span < 1:
            raise FoundryError(f"lanes and span must be at least 1, got {self.lanes} and {self.span}")

    @property
    def counts(self) -> list[int]:
        """The samples that each component selects."""
        return [component.num_samples for component in self.components]

    @cached_property
    def id(self) -> str:
        """32 hex digits of the content."""
        return digest_of(self.to_json())

    def alone(self, number: int) -> Mixture:
        """One component as a mixture of its own."""
        return replace(self, components=(replace(self.components[number], weight="1"),))

    def to_json(self) -> dict[str, Any]:
        components = [asdict(c) | {"selection": dict(c.selection)} for c in self.components]
        return {"components": components, "lanes": self.lanes, "span": self.span}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Mixture:
        check_keys(obj, ("components", "lanes", "span"), "mixture")
        for entry in obj["components"]:
            check_keys(entry, _COMPONENT_KEYS, "a component of the mixture")
        return cls(tuple(Component(**entry) for entry in obj["components"]), obj["lanes"], obj["span"])
