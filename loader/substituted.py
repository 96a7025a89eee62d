"""Damaged samples that were replaced by others of their dataset, and how many are let pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from robot_foundry.catalog.components import Component
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key, uniform
from robot_foundry.shards.errors import CorruptData

T = TypeVar("T")
MAX_SUBSTITUTIONS = 100  # so many are let pass however few samples were read
MAX_SUBSTITUTED = 0.01  # and beyond that this share of the samples read
MAX_ATTEMPTS = 16


@dataclass(frozen=True)
class Damage:
    """What is corrupt: a member of a shard's tar, or (None) what the shard says of its groups."""

    shard: str
    member: str | None
    reason: str


@dataclass(frozen=True)
class Substitution:
    """Position k holds `substitute` in place of the corrupt `sample` of component `dataset`.

    `version` is a reference to the component's version. `reason` names the tar; `shard` is its path and
    `member` its corrupt member, None where it is the shard.
    """

    k: int
    dataset: str
    version: str
    sample: int
    substitute: int
    reason: str
    shard: str
    member: str | None

    @classmethod
    def of(cls, component: Component, k: int, sample: int, substitute: int, damage: Damage) -> Substitution:
        """That of a `sample` of a component for its `damage`."""
        told = component.name, component.version, sample, substitute
        return cls(k, *told, damage.reason, damage.shard, damage.member)


def twice(call: Callable[[], T]) -> T:
    """`call()`, once more if it met corruption: the first read may have been the fault."""
    try:
        return call()
    except CorruptData:
        return call()


def substitutes(component: Component, seed: int, k: int, *, count: int | None = None) -> Iterator[int]:
    """The samples to try, one after the other, in place of a corrupt one at position k of the order.

    They depend on the arguments alone, so every reader of position k takes the same one. The component has
    `count` samples, or those that it selects.
    """
    count = component.num_samples if count is None else count
    k_1 = np.array([k], np.int64)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        share = uniform(key("substitute", seed, attempt, component.name), k_1)[0]
        yield int(share * count)


def all_corrupt(component: Component, sample: int, reason: str) -> FoundryError:
    """The error where none of the substitutes of a sample is whole."""
    return FoundryError(
        f"'{component.name}' is corrupt in {MAX_ATTEMPTS} samples drawn in place of sample {sample}; "
        f"the first: {reason}",
        hint=f"foundry-data validate {component.version} --deep",
    )


def check_substituted(
    number: int, read: int, last: Substitution, *, at_least: int, share: float, hint: str
) -> None:
    """FoundryError where of `read` samples more than `at_least`, and more than `share`, were substituted."""
    limit = max(at_least, int(share * read))
    if number > limit:
        raise FoundryError(
            f"{number} samples were corrupt, above the limit of {limit} among {read}; "
            f"the last, sample {last.sample} of '{last.dataset}': {last.reason}",
            hint=hint,
        )
