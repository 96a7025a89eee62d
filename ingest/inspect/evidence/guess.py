"""What is believed of columns of an array: a reading, how sure it is, and by which evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from robot_foundry.ingest.spec.unfilled import TODO

__all__ = ["HIGH", "LOW", "MEDIUM", "ORDER", "TODO", "Guess", "Run", "least"]

HIGH, MEDIUM, LOW = "high", "medium", "low"
ORDER = (LOW, MEDIUM, HIGH)


@dataclass(frozen=True)
class Run:
    """Columns `start` up to and without `stop` of an array, every `step`-th, and what they hold.

    `kind` is one of `names`, `form` and `settings` are those of a field of a spec (`from`, and its keys), any
    of them TODO where nothing tells. `evidence` are sentences, those of names among them.
    """

    kind: str
    start: int
    stop: int
    form: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    confidence: str = LOW
    evidence: tuple[str, ...] = ()
    step: int = 1

    @property
    def columns(self) -> slice:
        return slice(self.start, self.stop, self.step)

    @property
    def width(self) -> int:
        return len(range(self.start, self.stop, self.step))

    @property
    def is_open(self) -> bool:
        """Whether something is left to the user."""
        return self.form == TODO or TODO in self.settings.values()

    def with_evidence(self, sentence: str, confidence: str | None = None, **settings: Any) -> Run:
        """The same with one more sentence; with another confidence or settings where these are given."""
        return replace(
            self,
            confidence=confidence or self.confidence,
            settings={**self.settings, **settings},
            evidence=(*self.evidence, sentence),
        )

    def moved(self, by: int) -> Run:
        return replace(self, start=self.start + by, stop=self.stop + by)


@dataclass(frozen=True)
class Guess:
    """A field of a mapping: the quantity, the array, how many columns it has, and the run of them."""

    quantity: str
    key: str
    num_columns: int
    run: Run

    @property
    def columns(self) -> tuple[int, ...] | None:
        """(start, stop) of some of the columns, with the step where it is not one; None for all."""
        run = self.run
        if run.width == self.num_columns:
            return None
        return (run.start, run.stop) if run.step == 1 else (run.start, run.stop, run.step)


def least(*confidences: str) -> str:
    """The lowest of the confidences."""
    return min(confidences, key=ORDER.index)
