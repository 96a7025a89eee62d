"""Damaged samples that were replaced by others of their dataset, and how many are let pass."""

from __future__ import annotations

from dataclasses import dataclass

from robot_foundry.runtime.errors import FoundryError

MAX_SUBSTITUTIONS = 100  # so many are let pass however few samples were read
MAX_SUBSTITUTED = 0.01  # and beyond that this share of the samples read


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
