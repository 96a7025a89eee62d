"""How many damaged samples are let pass."""

from __future__ import annotations

from robot_foundry.loader.robot.reader import Substitution
from robot_foundry.runtime.errors import FoundryError

MAX_SUBSTITUTIONS = 100  # so many are let pass however few samples were read
MAX_SUBSTITUTED = 0.01  # and beyond that this share of the samples read


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
