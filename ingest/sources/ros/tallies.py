"""What becomes of every message of a topic, so that the numbers add up to those of the bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Of one message: no stream takes it; one takes it; some frame uses it; it cannot be read.
UNMAPPED, TAKEN, USED, REFUSED = range(4)


@dataclass
class Tally:
    """`states` has a byte a message, in the order of the bag; `reasons` count those that cannot be read.

    `partly` counts those that one stream takes and another cannot, by the reason.
    """

    type: str
    states: bytearray = field(default_factory=bytearray)
    reasons: Counter[str] = field(default_factory=Counter)
    partly: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.states)

    def refuse(self, reason: str) -> None:
        self.states.append(REFUSED)
        self.reasons[reason] += 1

    def drop(self, ordinals: Sequence[int], reason: str) -> None:
        """Refuse messages that were taken."""
        for ordinal in ordinals:
            self.states[ordinal] = REFUSED
            self.reasons[reason] += 1

    def use(self, ordinals: ArrayLike) -> None:
        """Some frame uses the messages of these ordinals."""
        places = np.asarray(ordinals, np.int64)
        if places.size:
            np.frombuffer(self.states, np.uint8)[places] = USED

    @property
    def num_taken(self) -> int:
        return self.states.count(TAKEN) + self.states.count(USED)

    @property
    def first_reason(self) -> str | None:
        """The most frequent one."""
        most = (self.reasons or self.partly).most_common(1)
        return most[0][0] if most else None

    def to_json(self) -> dict[str, Any]:
        """Numbers that add up to `read`; `dropped` are those that no frame is near enough to."""
        counted = {
            "type": self.type,
            "read": len(self.states),
            "used": self.states.count(USED),
            "dropped": self.states.count(TAKEN),
            "unmapped": self.states.count(UNMAPPED),
            "refused": self.states.count(REFUSED),
        }
        told = {"reasons": self.reasons, "partly": self.partly}
        return {**counted, **{name: dict(sorted(why.items())) for name, why in told.items() if why}}


def remarks(tallies: Mapping[str, Tally]) -> dict[str, str]:
    """What is told of topics with messages that cannot be read; the numbers are in `Tally.to_json`."""
    return {
        topic: f"has messages that {'are' if tally.reasons else 'a stream has'} refused: {tally.first_reason}"
        for topic, tally in tallies.items()
        if tally.reasons or tally.partly
    }
