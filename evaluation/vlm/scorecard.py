"""The scorecard of a vision-language model: what it answers about pictures that it sees, and does not see.

Every question is asked three times: with its pictures, with blank ones, and with those of another pair. What
a model gets right without seeing, it knows from the questions. The loss is taken in the same three ways,
and of the texts without pictures.

Legend: n pairs, q questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.evaluation.intervals import bootstrap_mean
from robot_foundry.evaluation.vlm.asked import AskedPairs
from robot_foundry.evaluation.vlm.controls import (
    ABSENT,
    BLANK,
    CONDITIONS,
    LOSS_CONDITIONS,
    REAL,
    SHUFFLED,
    blank,
    partners,
)
from robot_foundry.evaluation.vlm.losses import losses
from robot_foundry.evaluation.vlm.questions import ANY, KINDS, Question, kinds_of, questions_of
from robot_foundry.evaluation.vlm.scores import Marked, chance, how_many_numbers, mark, score
from robot_foundry.runtime.keyed import key, uniform
from robot_foundry.runtime.progress import Progress
from robot_foundry.shards.pairs.pair import ASSISTANT, num_places
from robot_foundry.trainer.tasks.vlm.answering import Asked, answers, check_answers
from robot_foundry.trainer.tasks.vlm.trained import Trained

PAIRS_AT_ONCE = 64
_MORE_TOKENS = 8  # than the longest true answer of its kind has, which an answer may have


@dataclass(frozen=True)
class Scorecard:
    """What was asked, what was answered, and what the pairs cost the model.

    `partner_n` is the pair whose pictures each was shown, -1 for none. `answers` has those to each question
    by condition, None where the condition is none of its pair; `loss_sum_n` and `loss_tokens_n` are by
    condition, NaN and 0 there.
    """

    asked: AskedPairs
    seed: int
    questions: Sequence[Question]
    answers: Mapping[str, Sequence[str | None]]
    partner_n: NDArray[np.int64]
    loss_sum_n: Mapping[str, NDArray[np.float64]]
    loss_tokens_n: Mapping[str, NDArray[np.int64]]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All figures; the same of the same model and data."""
        kinds = sorted({question.kind for question in self.questions})
        return {
            "mixture_id": self.asked.opened.mixture.id,
            "data": self.asked.to_json(),
            "seed": self.seed,
            "pairs": len(self.asked),
            "questions": len(self.questions),
            "loss": self._loss(),
            "kinds": {kind: self._of_kind(kind) for kind in kinds},
            "notes": list(self.notes),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Each question with its place and the answers to it."""
        rows = []
        for number, question in enumerate(self.questions):
            given = {name: self.answers[name][number] for name in CONDITIONS}
            place = {"data": self.asked.name(question.pair), "id": self.asked.pair(question.pair).id}
            rows.append(
                {
                    **place,
                    "kind": question.kind,
                    "question": question.text,
                    "answer": question.answer,
                    **given,
                }
            )
        return rows

    def _of_kind(self, kind: str) -> dict[str, Any]:
        of_kind = [q for q, question in enumerate(self.questions) if question.kind == kind]
        truths = [self.questions[q].answer for q in of_kind]
        num_numbers = how_many_numbers(truths)
        marks: dict[str, dict[int, Marked]] = {}
        for name in CONDITIONS:
            given = ((q, self.answers[name][q]) for q in of_kind)
            marks[name] = {
                q: mark(answer, self.questions[q].answer, num_numbers)
                for q, answer in given
                if answer is not None
            }
        scores: dict[str, Any] = {
            name: score(list(of_name.values()), num_numbers) for name, of_name in marks.items() if of_name
        }
        scores["chance"] = chance(truths, num_numbers)
        for name in (BLANK, SHUFFLED):
            if marks[name]:
                scores[f"{REAL}_minus_{name}"] = self._gain(marks[REAL], marks[name])
        return scores

    def _gain(self, real: Mapping[int, Marked], control: Mapping[int, Marked]) -> dict[str, Any]:
        """How much more often answers are right than those of a control, over the questions of both.

        The pairs are what is drawn from: answers about one picture go together.
        """
        gain_n, count_n = np.zeros(len(self.asked)), np.zeros(len(self.asked))
        for q, marked in control.items():
            gain_n[self.questions[q].pair] += int(real[q].is_exact) - int(marked.is_exact)
            count_n[self.questions[q].pair] += 1
        mean, low, high = bootstrap_mean(gain_n, count_n, seed=self.seed)
        return {"exact": mean, "exact_95": [low, high]}

    def _loss(self) -> dict[str, Any]:
        """Nats a token, by condition, and what a control costs more than the pictures themselves."""
        shown: dict[str, Any] = {}
        for name in LOSS_CONDITIONS:
            tokens_n = self.loss_tokens_n[name]
            if not tokens_n.any():
                continue
            has_n = tokens_n > 0
            sum_n = self.loss_sum_n[name]
            shown[name] = {"nats": float(sum_n[has_n].sum() / tokens_n.sum()), "tokens": int(tokens_n.sum())}
            if name != REAL:
                more_n = np.where(has_n, sum_n - self.loss_sum_n[REAL], 0.0)
                mean, low, high = bootstrap_mean(more_n, tokens_n, seed=self.seed)
                shown[f"{name}_minus_{REAL}"] = {"nats": mean, "nats_95": [low, high]}
        return shown


def scorecard(
    trained: Trained, opened: OpenMixture, *, most: int | None = None, seed: int = 0, quiet: bool = True
) -> Scorecard:
    """Ask the model about all pairs that the mixture selects, or `most` of them.

    A question has the true answers to those before it in its conversation. `seed` decides which pairs are
    drawn, whose pictures each is shown in place of its own, and which of several captions its loss is of.
    """
    check_answers(trained)
    asked = AskedPairs(opened, most=most, seed=seed)
    partner_n = partners(asked.content_n, asked.num_pictures_n, seed)
    questions, notes = _questions(asked)
    budget = _budgets(trained, questions)
    given: dict[str, list[str | None]] = {name: [None] * len(questions) for name in CONDITIONS}
    sum_n = {name: np.full(len(asked), np.nan) for name in LOSS_CONDITIONS}
    tokens_n = {name: np.zeros(len(asked), np.int64) for name in LOSS_CONDITIONS}
    choice_n = uniform(key("scored-caption", seed), np.arange(len(asked)))
    of_pair = _by_pair(questions, len(asked))
    with Progress(len(asked), "pairs", "scorecard", quiet=quiet) as progress:
        for start in range(0, len(asked), PAIRS_AT_ONCE):
            chunk = range(start, min(start + PAIRS_AT_ONCE, len(asked)))
            for name in CONDITIONS:
                shown = _shown(asked, chunk, name, partner_n)
                here = sorted(shown)
                if not here:
                    continue
                sum_n[name][here], tokens_n[name][here] = losses(
                    trained, [asked.text(n) for n in here], [shown[n] for n in here], choice_n[here]
                )
                numbers = [q for n in here for q in of_pair[n]]
                for q, answer in _answers(trained, questions, numbers, shown, budget).items():
                    given[name][q] = answer
            if here := [n for n in chunk if asked.num_pictures_n[n]]:
                texts = [asked.text(n) for n in here]
                sum_n[ABSENT][here], tokens_n[ABSENT][here] = losses(trained, texts, None, choice_n[here])
                assert np.array_equal(tokens_n[ABSENT][here], tokens_n[REAL][here])  # the same are learnt
            progress.advance(len(chunk))
    notes += _without_controls(asked, partner_n)
    return Scorecard(asked, seed, questions, given, partner_n, sum_n, tokens_n, tuple(notes))


def _questions(asked: AskedPairs) -> tuple[list[Question], list[str]]:
    """All questions, and what is to be said of how they are named."""
    questions: list[Question] = []
    num_answers, num_unnamed = 0, 0
    for n in range(len(asked)):
        pair = asked.pair(n)
        questions += questions_of(n, pair.turns, pair.metadata)
        answers_here = sum(turn.role == ASSISTANT for turn in pair.turns)
        num_answers += answers_here
        num_unnamed += KINDS in pair.metadata and kinds_of(answers_here, pair.metadata) is None
    notes = []
    if num_unnamed:
        notes.append(
            f"of {num_unnamed} pairs `{KINDS}` does not name each answer: theirs are of kind '{ANY}'"
        )
    if num_answers > len(questions):
        notes.append(
            f"{num_answers - len(questions)} answers follow no turn of the user, and are not asked for"
        )
    return questions, notes


def _without_controls(asked: AskedPairs, partner_n: NDArray[np.int64]) -> list[str]:
    blind, alone = asked.num_pictures_n == 0, (partner_n < 0) & (asked.num_pictures_n > 0)
    notes = [f"{int(blind.sum())} pairs have no picture, so they have no controls"] if blind.any() else []
    if alone.any():
        notes.append(
            f"{int(alone.sum())} pairs have no other pair with as many pictures to be shown those of"
        )
    return notes


def _budgets(trained: Trained, questions: Sequence[Question]) -> dict[str, int]:
    """How many tokens an answer may have, by kind."""
    longest: dict[str, int] = {}
    lengths = map(len, trained.tokenizer.encode([question.answer for question in questions]))
    for question, length in zip(questions, lengths, strict=True):
        longest[question.kind] = max(longest.get(question.kind, 0), length)
    return {kind: length + _MORE_TOKENS for kind, length in longest.items()}


def _by_pair(questions: Sequence[Question], num_pairs: int) -> list[list[int]]:
    numbers: list[list[int]] = [[] for _ in range(num_pairs)]
    for q, question in enumerate(questions):
        numbers[question.pair].append(q)
    return numbers


def _shown(
    asked: AskedPairs, chunk: range, condition: str, partner_n: NDArray[np.int64]
) -> dict[int, list[NDArray[np.uint8]]]:
    """The pictures that each pair is shown, of those that have this condition."""
    if condition == REAL:
        return {n: asked.pictures(n) for n in chunk}
    if condition == BLANK:
        return {n: blank(asked.pictures(n)) for n in chunk if asked.num_pictures_n[n]}
    return {n: asked.pictures(int(partner_n[n])) for n in chunk if partner_n[n] >= 0}


def _asking(question: Question, pictures: Sequence[NDArray[np.uint8]]) -> Asked:
    """The question with the pictures that stand before it."""
    return pictures[: num_places(question.turns)], question.turns


def _answers(
    trained: Trained,
    questions: Sequence[Question],
    numbers: Sequence[int],
    shown: Mapping[int, Sequence[NDArray[np.uint8]]],
    budget: Mapping[str, int],
) -> dict[int, str]:
    """The answers to these questions; those of a kind are asked together, as they are about as long."""
    by_kind: dict[str, list[int]] = {}
    for q in numbers:
        by_kind.setdefault(questions[q].kind, []).append(q)
    given: dict[int, str] = {}
    for kind, of_kind in by_kind.items():
        asking = [_asking(questions[q], shown[questions[q].pair]) for q in of_kind]
        given |= dict(zip(of_kind, answers(trained, asking, tokens=budget[kind]), strict=True))
    return given
