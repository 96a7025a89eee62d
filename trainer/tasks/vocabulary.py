"""How many ids a decoder knows, and how many a tokenizer has."""

from __future__ import annotations

from dataclasses import replace

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.models.decoder import DecoderConfig

VOCABULARY_MULTIPLE = 64  # what matrix units of GPUs like


def with_room(decoder: DecoderConfig, tokenizer: Tokenizer) -> DecoderConfig:
    """The decoder with as many rows as the tokenizer has ids, and a few more, unless it has more already."""
    room = -(-tokenizer.size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    return replace(decoder, vocabulary=max(decoder.vocabulary, room))


def check_room(decoder: DecoderConfig, tokenizer: Tokenizer, where: str | None, hint: str) -> None:
    """FoundryError where the decoder of `where` knows fewer ids than the tokenizer has."""
    if decoder.vocabulary < tokenizer.size:
        raise FoundryError(
            f"the data has ids of {tokenizer.size:,} tokens, the model that {where} has knows "
            f"{decoder.vocabulary:,}",
            hint=hint,
        )
