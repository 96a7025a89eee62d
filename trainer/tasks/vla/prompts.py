"""Instructions as tokens: of bytes, or as a question of the kind that a vision-language model has learnt.

A policy that starts from such a model has pictures and words in the form of its rows
(`loader.pairs.template`); where its answer would begin stands `<obs>`.
Shapes: B batch, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.pairs.template import prompt
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.pairs.pair import PLACE, USER, Turn, with_places
from robot_foundry.shards.tokens import tokenizers
from robot_foundry.shards.tokens.tokenizer import OBS, Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.foreign.templates import TEMPLATE, TEMPLATES, TemplatePrompts
from robot_foundry.trainer.models.tokenizer import ByteTokenizer
from robot_foundry.trainer.tasks.described import TOKENIZER

PROMPT = "prompt"
Ids = NDArray[np.int64]


class Words(Protocol):
    """How a policy reads instructions. `image_at` is how many tokens stand in front of its pictures.

    Its tokenizer is None where the bytes of a text are its ids.
    """

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    @property
    def image_at(self) -> int: ...

    def rows(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Token rows int64 [B, S], and the index int64 [B] of the first `<obs>` in each."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Prompts:
    """Instructions by the template of `tokenizer`, of `max_length` tokens at most, and `<obs>` tokens."""

    tokenizer: Tokenizer
    max_length: int
    num_obs: int = 1

    @cached_property
    def image_at(self) -> int:
        return self._prompt("")[1]

    def rows(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        ids_of = {text: self._prompt(text)[0] for text in dict.fromkeys(texts)}
        rows_BS = np.full((len(texts), max(map(len, ids_of.values()))), self.tokenizer.pad, np.int64)
        for row, text in zip(rows_BS, texts, strict=True):
            row[: len(ids_of[text])] = ids_of[text]
        return rows_BS, np.array([len(ids_of[text]) - self.num_obs for text in texts], np.int64)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": PROMPT,
            "max_length": self.max_length,
            "num_obs": self.num_obs,
            "tokenizer": self.tokenizer.to_json(),
        }

    def _prompt(self, text: str) -> tuple[Ids, int]:
        """Its ids without those of pictures, and where these begin."""
        (ids,) = self.tokenizer.encode([text])
        if len(ids) > self.max_length:
            text = self.tokenizer.decode(ids[: self.max_length])
        turns = with_places([Turn(USER, text.replace(PLACE, " "))], 1)
        assert turns is not None
        rendered = prompt(turns, self.tokenizer, image_tokens=0)
        obs = self.tokenizer.specials.get(OBS, self.tokenizer.pad)
        return np.array([*rendered.ids_N, *[obs] * self.num_obs], np.int64), rendered.image_starts[0]


def words_of(tokenizer: Tokenizer | None, max_length: int, num_obs: int, family: str | None = None) -> Words:
    """Of bytes where there is no tokenizer, by the template of `family` where the backbone is of one.

    Where the tokenizer has no `<obs>`, padding stands in its place, for a model that has vectors of its own.
    """
    if tokenizer is None:
        return ByteTokenizer(max_length, num_obs)
    if family is not None:
        return TemplatePrompts(tokenizer, max_length, num_obs, family)
    return Prompts(tokenizer, max_length, num_obs)


def words_from_json(value: Mapping[str, Any], where: str) -> Words:
    """What `to_json` of any of them wrote."""
    kind = value.get("type")
    if kind not in (PROMPT, TEMPLATE):
        return ByteTokenizer.from_json(dict(value))
    max_length, num_obs, family = value.get("max_length"), value.get("num_obs"), value.get("family")
    if not isinstance(max_length, int) or not isinstance(num_obs, int):
        raise FoundryError(f"{where} has no numbers max_length and num_obs")
    if kind == TEMPLATE and family not in TEMPLATES:
        raise FoundryError(f"{where}: the template {family!r} is none of {', '.join(TEMPLATES)}")
    return words_of(tokenizers.from_json(value.get("tokenizer"), where), max_length, num_obs, family)


def tokenizer_in(folder: Path) -> Tokenizer | None:
    """That of the checkpoint of a policy; None where it reads bytes."""
    words = words_from_json(checkpoint.read_json(folder, TOKENIZER), str(folder / TOKENIZER))
    return words.tokenizer
