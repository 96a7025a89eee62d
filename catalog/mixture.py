"""Mixtures: exact shares of selections of versions, addressed by content.

A mixture holds no bytes: `Component`s name a version, a selection of its rows and a rational weight. Equal
content has the equal id, however the weights were written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from robot_foundry.catalog.schema import check_keys
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError

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

    @cached_property
    def id(self) -> str:
        """32 hex digits of the content."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        components = [asdict(c) | {"selection": dict(c.selection)} for c in self.components]
        return {"components": components, "lanes": self.lanes, "span": self.span}

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Mixture:
        check_keys(obj, ("components", "lanes", "span"), "mixture")
        for entry in obj["components"]:
            check_keys(entry, _COMPONENT_KEYS, "a component of the mixture")
        return cls(tuple(Component(**entry) for entry in obj["components"]), obj["lanes"], obj["span"])


def parse_weights(text: str) -> dict[str, Fraction]:
    """'sim=0.6,real=2/5' → {'sim': 3/5, 'real': 2/5}: decimals and fractions are taken exactly."""
    weights: dict[str, Fraction] = {}
    for part in text.split(","):
        ref, sign, value = part.strip().rpartition("=")
        if not sign or not ref or not value:
            raise UsageError(
                f"weights '{text}': '{part.strip()}' is not REF=WEIGHT", hint="--weights sim=0.6,real=0.4"
            )
        if ref in weights:
            raise UsageError(f"weights '{text}' name '{ref}' twice")
        weights[ref] = exact_weight(value, ref)
    return weights


def exact_weight(value: str | float | Fraction, ref: str) -> Fraction:
    """`value` as an exact positive fraction; a float counts as the decimal it prints as (0.6 is 3/5)."""
    try:
        weight = value if isinstance(value, Fraction) else Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"weight '{value}' of '{ref}' is not a number or fraction") from error
    if weight <= 0:
        raise UsageError(f"weight {value} of '{ref}' is not positive", hint=f"leave '{ref}' out instead")
    return weight
