"""Byte-level byte pair encoding, trained on texts.

Before pairs are merged, digits are cut apart, or into few together, and words as GPT-2 cuts them. Ids
0 … 255 are bytes, then come the merged ones by frequency, then `SPECIALS`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.tokens.byte_tokenizer import BYTES, byte_characters, special_token
from robot_foundry.shards.tokens.cuts import numbers
from robot_foundry.shards.tokens.fast_tokenizer import FastTokenizer
from robot_foundry.shards.tokens.tokenizer import END, PAD, SPECIALS

LEAST = BYTES + len(SPECIALS)
MOST = 1 << 20


def train(texts: Iterable[str], size: int, digits: int = 1) -> FastTokenizer:
    """A tokenizer of `size` ids, or fewer where the texts have no more pairs. UsageError for a bad size.

    `digits` of a number are at most in one token, counted from its left; where it is more than one, with the
    space before it, as words have theirs. The result depends on how often each word is there alone: on no
    order, and on no number of threads.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    check_size(size)
    if digits < 1:
        raise UsageError(f"a token has at least one digit of a number, not {digits}")
    engine = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    apart = (
        pre_tokenizers.Digits(individual_digits=True)
        if digits == 1
        else pre_tokenizers.Split(Regex(numbers(digits)), "isolated")
    )
    engine.pre_tokenizer = pre_tokenizers.Sequence([apart, words])
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIALS), initial_alphabet=byte_characters(), show_progress=False
    )
    engine.train_from_iterator(iter(texts), trainer)
    definition = json.loads(engine.to_str())
    definition["model"]["vocab"] = vocabulary = _bytes_first(definition["model"]["vocab"])
    specials = {name: len(vocabulary) + i for i, name in enumerate(SPECIALS)}
    definition["added_tokens"] = [special_token(name, number) for name, number in specials.items()]
    return FastTokenizer(definition, end=specials[END], start=specials[END], pad=specials[PAD])


def check_size(size: int) -> None:
    """UsageError for a vocabulary that cannot be."""
    if not LEAST <= size <= MOST:
        raise UsageError(f"a vocabulary has {LEAST} to {MOST} tokens, got {size}")


def _bytes_first(vocabulary: dict[str, int]) -> dict[str, int]:
    """With the id of each byte the byte; the trainer orders them by their characters."""
    of_bytes = {character: byte for byte, character in enumerate(byte_characters())}
    if {token for token, number in vocabulary.items() if number < BYTES} != of_bytes.keys():
        raise FoundryError("'tokenizers' did not begin the vocabulary with the bytes")
    return {token: of_bytes.get(token, number) for token, number in vocabulary.items()}
