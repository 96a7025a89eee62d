"""How right answers are: exactly, and where they are whole numbers, how near; and what guessing would give.

Answers are compared without regard to case and to how words are spaced. A kind of question is about numbers
where each true answer is as many whole numbers ("12 7"); one is near where none of them is off by more
than 1.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robot_foundry.evaluation.intervals import clopper_pearson

NEAR = 1
_NUMBER = r"[+-]?[0-9]{1,15}"
_NUMBERS = re.compile(rf"{_NUMBER}(?:(?:\s*,\s*|\s+){_NUMBER})*")


def plain(text: str) -> str:
    """The text as answers are compared."""
    return " ".join(text.split()).casefold()


def numbers_in(text: str) -> tuple[int, ...] | None:
    """The whole numbers that the text is, None if it is anything else."""
    text = text.strip()
    return tuple(map(int, re.findall(_NUMBER, text))) if _NUMBERS.fullmatch(text) else None


def how_many_numbers(truths: Sequence[str]) -> int:
    """How many whole numbers each of the true answers is, 0 unless all are as many."""
    counts = {len(numbers_in(text) or ()) for text in truths}
    return counts.pop() if len(counts) == 1 else 0


@dataclass(frozen=True)
class Marked:
    """One answer beside the true one. `distance` is None where the answers are no numbers, or one is not."""

    is_exact: bool
    is_near: bool = False
    distance: float | None = None


def mark(answer: str, truth: str, num_numbers: int) -> Marked:
    """`num_numbers` are those of each true answer of its kind, 0 where these are no numbers.

    The distance is that of the points that the numbers are.
    """
    given, true = numbers_in(answer), numbers_in(truth)
    if not num_numbers or true is None:
        return Marked(plain(answer) == plain(truth))
    if given is None or len(given) != num_numbers:
        return Marked(False)
    is_near = all(abs(a - b) <= NEAR for a, b in zip(given, true, strict=True))
    return Marked(given == true, is_near, math.dist(given, true))


def score(marks: Sequence[Marked], num_numbers: int) -> dict[str, Any]:
    """Shares of the answers of one kind, each with its exact 95 % interval.

    Answers count as independent of each other, which those about one picture need not be.
    """
    summed = {"answers": len(marks), **_share("exact", [item.is_exact for item in marks])}
    if num_numbers:
        distances = [item.distance for item in marks if item.distance is not None]
        summed |= _share("near", [item.is_near for item in marks])
        summed["mean_distance"] = math.fsum(distances) / len(distances) if distances else None
        summed["no_numbers"] = len(marks) - len(distances)
    return summed


def chance(truths: Sequence[str], num_numbers: int) -> dict[str, Any]:
    """What guessing gives: always the commonest true answer, and each of those that there are as often.

    Both know the answers that are asked for, so they are no less than what guessing gives elsewhere.
    """
    counts = Counter(plain(text) for text in truths)
    commonest = min(counts, key=lambda answer: (-counts[answer], answer))
    of_commonest = [mark(commonest, text, num_numbers) for text in truths]
    found: dict[str, Any] = {
        "different_answers": len(counts),
        "commonest": {"answer": commonest, **_rates(of_commonest, num_numbers)},
        "uniform": {"exact": 1 / len(counts)},
    }
    if num_numbers:
        near = sum(
            count * sum(mark(guess, truth, num_numbers).is_near for guess in counts)
            for truth, count in counts.items()
        )
        found["uniform"]["near"] = near / (len(truths) * len(counts))
    return found


def _rates(marks: Sequence[Marked], num_numbers: int) -> dict[str, float]:
    rates = {"exact": sum(item.is_exact for item in marks) / len(marks)}
    return rates | ({"near": sum(item.is_near for item in marks) / len(marks)} if num_numbers else {})


def _share(name: str, holds: Sequence[bool]) -> dict[str, Any]:
    low, high = clopper_pearson(sum(holds), len(holds))
    return {name: sum(holds) / len(holds), f"{name}_95": [low, high]}
