"""The questions that a version's pairs ask: each answer of a conversation, behind all that was said before.

What a question is about, its *kind*, pairs may say in the metadata `kinds`: a name for each answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robot_foundry.shards.pairs.pair import ASSISTANT, USER, Turn

KINDS = "kinds"
ANY = "answer"  # the kind where nothing says one


@dataclass(frozen=True)
class Question:
    """One answer that is asked for.

    pair    the number of its pair among those that are scored
    kind    what it is about
    turns   the conversation before it, with the true answers to earlier questions
    answer  what the data says
    """

    pair: int
    kind: str
    turns: tuple[Turn, ...]
    answer: str

    @property
    def text(self) -> str:
        """What is asked last."""
        return self.turns[-1].text


def questions_of(pair: int, turns: Sequence[Turn], metadata: Mapping[str, Any]) -> list[Question]:
    """The questions of a pair in their order; none of a pair that has captions alone.

    An answer that does not follow a turn of the user answers no question.
    """
    at = [number for number, turn in enumerate(turns) if turn.role == ASSISTANT]
    kinds = kinds_of(len(at), metadata) or [ANY] * len(at)
    return [
        Question(pair, kind, tuple(turns[:number]), turns[number].text)
        for number, kind in zip(at, kinds, strict=True)
        if number and turns[number - 1].role == USER
    ]


def kinds_of(num_answers: int, metadata: Mapping[str, Any]) -> list[str] | None:
    """What the metadata calls each answer; None where it does not name just these."""
    named = metadata.get(KINDS)
    if not isinstance(named, list) or len(named) != num_answers:
        return None
    return named if all(isinstance(kind, str) for kind in named) else None
