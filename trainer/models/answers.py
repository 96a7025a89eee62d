"""Answers to many prompts at once, each the likeliest next token after token, from keys and values kept.

Prompts of a batch have different lengths: padding stands behind each, is seen by none, and an answer's tokens
follow the positions of its own prompt. So an answer does not depend on what it is batched with.
Shapes: B rows, S tokens of the longest prompt, K positions kept so far, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.models.layers.attention import KeyValues, attention_bias, pick
from robot_foundry.trainer.models.vision_language import PictureRows, VisionLanguage


@torch.no_grad()
def answer_ids(
    model: VisionLanguage,
    prompts: PictureRows,
    *,
    tokens: int,
    ends: Collection[int],
    size: int | None = None,
) -> list[list[int]]:
    """Up to `tokens` ids that go on from each prompt, each the likeliest, until one of `ends`.

    Args:
        prompts: rows of one pair, from their first token on, on the model's device.
        ends: ids that end an answer; they are not given.
        size: ids below it are chosen alone, where a tokenizer has fewer than the model.

    Raises UsageError if `size` is none of the model's.
    """
    vocabulary = model.config.backbone.decoder.vocabulary
    if not 0 < (vocabulary if size is None else size) <= vocabulary:
        raise UsageError(f"the tokenizer has {size} ids, the model {vocabulary}")
    steps = _Steps(model, prompts, size)
    answers: list[list[int]] = [[] for _ in range(len(prompts.token_BS))]
    going = set(range(len(answers)))
    for place in range(tokens):
        chosen = (steps.first() if place == 0 else steps.next()).tolist()
        going -= {row for row in going if chosen[row] in ends}
        for row in going:
            answers[row].append(chosen[row])
        if not going:
            break
    return answers


class _Steps:
    """The decoder on its way through a batch, and the ids that it chose last."""

    def __init__(self, model: VisionLanguage, prompts: PictureRows, size: int | None) -> None:
        self._model, self._prompts, self._size = model, prompts, size
        self._past = [KeyValues() for _ in range(model.config.backbone.decoder.depth)]
        self._seen_BK = prompts.segment_BS >= 0
        self._length_B = self._seen_BK.sum(dim=1)
        self._chosen_B = torch.empty(0)

    def first(self) -> Tensor:
        """The ids [B] behind the prompts."""
        hidden_BSD = self._model.hidden(self._prompts, self._past)
        return self._choose(pick(hidden_BSD, self._length_B[:, None] - 1))

    def next(self) -> Tensor:
        """The ids [B] behind those chosen last."""
        self._seen_BK = F.pad(self._seen_BK, (0, 1), value=True)
        hidden_B1D = self._model.backbone.decoder.states(
            self._chosen_B[:, None],
            self._length_B[:, None],
            attention_bias(self._seen_BK)[:, None, None],
            self._past,
        )
        self._length_B = self._length_B + 1
        return self._choose(hidden_B1D)

    def _choose(self, hidden_B1D: Tensor) -> Tensor:
        logit_BV = F.linear(hidden_B1D[:, 0], self._model.output_weight)
        self._chosen_B = logit_BV[:, : self._size].argmax(dim=-1)
        return self._chosen_B
