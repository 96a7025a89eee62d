"""How vision-language models of others write a question about pictures, as their own processors do.

    qwen3_vl   <|im_start|>user\\n [<|vision_start|> picture <|vision_end|>]…
               TEXT<|im_end|>\\n<|im_start|>assistant\\n
    paligemma  [picture]… <bos>TEXT\\n
    smolvlm    <|im_start|>User: [<fake_token_around_image><global-img> picture <fake_token_around_image>]…
               TEXT<end_of_utterance>\\nAssistant:

Where the answer would begin stands `<obs>`. Names of tokens in TEXT are text.
Shapes: B batch, S tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError, nearest
from robot_foundry.shards.tokens.tokenizer import OBS, Tokenizer

TEMPLATE = "template"
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Token:
    """A special token, by its name."""

    name: str


Pieces = tuple[Token | str, ...]


@dataclass(frozen=True)
class Template:
    """What stands in front of all pictures, around each, and around the text behind them."""

    opening: Pieces
    picture_begin: tuple[Token, ...]
    picture_end: tuple[Token, ...]
    before: Pieces
    after: Pieces


_IM_START, _AROUND = Token("<|im_start|>"), Token("<fake_token_around_image>")
TEMPLATES: Mapping[str, Template] = {
    "qwen3_vl": Template(
        (_IM_START, "user\n"), (Token("<|vision_start|>"),), (Token("<|vision_end|>"),),
        (), (Token("<|im_end|>"), "\n", _IM_START, "assistant\n"),
    ),
    "paligemma": Template((), (), (), (Token("<bos>"),), ("\n",)),
    "smolvlm": Template(
        (_IM_START, "User:"), (_AROUND, Token("<global-img>")), (_AROUND,),
        (), (Token("<end_of_utterance>"), "\nAssistant:"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TemplatePrompts:
    """Instructions by the template of `family`, of `max_length` tokens at most, and `<obs>` tokens."""

    tokenizer: Tokenizer
    max_length: int
    num_obs: int
    family: str

    @cached_property
    def image_at(self) -> int:
        return len(ids_of(TEMPLATES[self.family].opening, self.tokenizer))

    def rows(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        of_text = {text: self._prompt(text) for text in dict.fromkeys(texts)}
        rows_BS = np.full((len(texts), max(map(len, of_text.values()))), self.tokenizer.pad, np.int64)
        for row, text in zip(rows_BS, texts, strict=True):
            row[: len(of_text[text])] = of_text[text]
        return rows_BS, np.array([len(of_text[text]) - self.num_obs for text in texts], np.int64)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": TEMPLATE,
            "family": self.family,
            "max_length": self.max_length,
            "num_obs": self.num_obs,
            "tokenizer": self.tokenizer.to_json(),
        }

    def _prompt(self, text: str) -> list[int]:
        """Its ids, without those of pictures."""
        (ids,) = self.tokenizer.encode([text])
        if len(ids) > self.max_length:
            text = self.tokenizer.decode(ids[: self.max_length])
        template = TEMPLATES[self.family]
        opening = ids_of(template.opening, self.tokenizer)
        behind = ids_of((*template.before, text, *template.after), self.tokenizer)
        obs = self.tokenizer.specials.get(OBS, self.tokenizer.pad)
        return [*opening, *behind, *[obs] * self.num_obs]


def ids_of(pieces: Pieces, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids of pieces, of which neighbouring texts are encoded as one.

    FoundryError for a token that the tokenizer has not.
    """
    ids: list[int] = []
    for is_text, group in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        if is_text:
            (encoded,) = tokenizer.encode(["".join(str(piece) for piece in group)])
            ids += encoded.tolist()
        else:
            ids += [_id(piece.name, tokenizer) for piece in group if isinstance(piece, Token)]
    return tuple(ids)


def _id(name: str, tokenizer: Tokenizer) -> int:
    if name not in tokenizer.specials:
        raise FoundryError(
            f"the tokenizer {tokenizer.id[:12]} has no special token {name}"
            f"{nearest(name, list(tokenizer.specials))}, which the model's prompts are made with",
            hint="the tokenizer.json beside the weights must be that of the model",
        )
    return tokenizer.specials[name]
