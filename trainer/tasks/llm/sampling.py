"""Text that a trained language model goes on with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.models.generation import generate
from robot_foundry.trainer.tasks.llm.trained import Trained

UNFINISHED = "\ufffd"  # what the bytes of half a character are decoded to
KEPT = 16  # ids that are decoded again with each new one


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    temperature  0 takes the likeliest token, 1 draws as the model says
    top_p        the likeliest tokens that have this share together are drawn from
    seed         keys the draws: equal arguments give equal tokens
    """

    tokens: int = 128  # at most
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


def sampled_ids(trained: Trained, prompt: str, sampling: Sampling) -> Iterator[int]:
    """Ids that follow a document's beginning `prompt`, fewer than asked where the document ends."""
    tokenizer = trained.tokenizer
    return generate(
        trained.model,
        [tokenizer.start, *tokenizer.encode([prompt])[0].tolist()],
        tokens=sampling.tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        end=tokenizer.end,
        size=tokenizer.size,
    )


def text_pieces(tokenizer: Tokenizer, prompt: str, ids: Iterable[int]) -> Iterator[str]:
    """The text of ids that follow a prompt, in pieces as soon as each is known, without special tokens.

    Nothing is given of a character before its last byte. The prompt is decoded along, as some tokenizers
    write the first token of a text in another way.
    """
    before = tokenizer.encode([prompt])[0].tolist()
    shown = tokenizer.decode(before)
    known: list[int] = []
    for token in ids:
        known.append(token)
        text = tokenizer.decode([*before, *known])
        if not text.endswith(UNFINISHED) and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
            # What is decoded again stays short, and begins where a character does.
            before, known = [*before, *known][-KEPT:], []
            shown = tokenizer.decode(before)
    rest = tokenizer.decode([*before, *known])[len(shown) :]
    if rest:
        yield rest
