"""What of a unit is refused, by reason: as the head of its last block tells it, and as reports do."""

from __future__ import annotations

from collections.abc import Sequence

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.ingest.sources.unusable import shown
from robot_foundry.shards.origin import Refusal

# Of one unit: places that are named for a reason, and reasons that are told apart.
MOST_NAMED, MOST_REASONS = 5, 20
# Characters of a place and of a reason: a source may call anything by a name of any length.
LONGEST_PLACE, LONGEST_REASON = 200, 1000
OTHER_REASONS = "it cannot be taken for one of many reasons"


class Refusals:
    """Counts what is refused, and keeps the places of the first for each reason."""

    def __init__(self) -> None:
        self._by_reason: dict[str, Refusal] = {}

    def add(self, place: str, reason: str, count: int = 1) -> None:
        """`place` is that of the first of `count` groups, as their ids are; `reason` names no content."""
        place, reason = shown(place, LONGEST_PLACE), shown(reason, LONGEST_REASON)
        if reason not in self._by_reason and len(self._by_reason) >= MOST_REASONS:
            reason = OTHER_REASONS
        before = self._by_reason.get(reason, Refusal(reason, 0, ()))
        first = before.first if len(before.first) == MOST_NAMED else (*before.first, place)
        self._by_reason[reason] = Refusal(reason, before.count + count, first)

    @property
    def found(self) -> list[Refusal]:
        """In the order in which the reasons came up."""
        return list(self._by_reason.values())


def quarantined(file: str, refused: Sequence[Refusal]) -> list[Quarantined]:
    """The refusals of a file as reports tell them."""
    return [Quarantined(_places(file, refusal), refusal.reason, refusal.count) for refusal in refused]


def _places(file: str, refusal: Refusal) -> str:
    """The first groups of a refusal as a user finds them: the file, and where in it."""
    if refusal.first == (file,):
        return file
    more = ", …" if refusal.count > len(refusal.first) else ""
    return f"{file}#{', '.join(refusal.first)}{more}"
