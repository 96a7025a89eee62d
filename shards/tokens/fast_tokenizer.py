"""Tokenizers that the library `tokenizers` runs: what is trained here, and any `tokenizer.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.byte_tokenizer import byte_characters, checked_ids, special_token, utf8
from robot_foundry.shards.tokens.cuts import can_be_cut, pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Engine

TYPE = "tokenizers"
# Characters of a text that is encoded in parts, where that gives the same.
LONG = 1 << 20
# What a fault in a library written in Rust is raised as.
PANIC = "PanicException"
# Ids of a tokenizer, gaps between them included: what claims more is no vocabulary.
MOST_IDS = 1 << 24


class FastTokenizer:
    """See `tokenizer.Tokenizer`. Pickles as its definition.

    No text is cut or padded, nor searched for names of special tokens, whatever the definition says: that is
    for prompts, and would change a corpus unseen. Unigram, WordPiece and WordLevel may still find a name that
    their vocabulary holds as a word; `restores` tells these texts.
    """

    def __init__(self, definition: Mapping[str, Any], *, end: int, start: int, pad: int) -> None:
        """`definition` is a parsed tokenizer.json. FoundryError where it is none, or lacks one of the ids."""
        try:
            self._definition = _settled(definition, {end, start, pad})
        except (TypeError, ValueError, AttributeError) as error:
            raise FoundryError(f"it is no tokenizer.json: {error}") from error
        self._engine = _engine(self._definition)
        self._can_be_cut = can_be_cut(self._definition)
        self.end, self.start, self.pad = end, start, pad
        ids = self._engine.get_vocab(with_added_tokens=True).values()
        self.size = max(ids, default=-1) + 1
        if self.size > MOST_IDS:  # rows of a model, and of tables here
            raise FoundryError(
                f"the tokenizer has the id {self.size - 1:,}, more than {MOST_IDS:,} are not read"
            )
        for token in self._definition["added_tokens"]:
            number = self._engine.token_to_id(token["content"])
            if number != token["id"]:  # the library numbers them as they come, behind the vocabulary
                raise FoundryError(
                    f"the token {token['content']!r} has the id {token['id']} in the file, and is {number} "
                    "to 'tokenizers', which numbers added tokens without a gap"
                )
        for name, number in (("end", end), ("start", start), ("pad", pad)):
            if self._engine.id_to_token(number) is None:
                raise FoundryError(f"the tokenizer has no token {number}, which it has as its {name}")
        self.specials: Mapping[str, int] = {
            token["content"]: token["id"] for token in self._definition["added_tokens"] if token["special"]
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.to_json(),)

    @cached_property
    def id(self) -> str:
        return digest_of(self.to_json())

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        if not self._can_be_cut:
            return self._encode(texts)
        short = iter(self._encode([text for text in texts if len(text) <= LONG]))
        return [next(short) if len(text) <= LONG else self._encode_long(text) for text in texts]

    def _encode_long(self, text: str) -> NDArray[np.int32]:
        return np.concatenate([self._encode([piece])[0] for piece in pieces(text, LONG)])

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        try:
            encodings = self._engine.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:
            for text in texts:
                utf8(text)  # which the library calls no text at all
            raise
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def decode(self, ids: Sequence[int] | NDArray[np.integer], *, specials: bool = False) -> str:
        return self._engine.decode(checked_ids(ids, self.size).tolist(), skip_special_tokens=not specials)

    def restores(self, texts: Sequence[str], ids: Sequence[NDArray[np.integer]]) -> NDArray[np.bool_]:
        if self._spellings is not None:
            spelling = self._spellings.__getitem__
            spelt = (b"".join(map(spelling, of_text.tolist())) for of_text in ids)
            return np.array([utf8(text) == back for text, back in zip(texts, spelt, strict=True)], bool)
        decoded = self._engine.decode_batch([of_text.tolist() for of_text in ids])
        return np.array([text == back for text, back in zip(texts, decoded, strict=True)], bool)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": TYPE,
            "definition": self._definition,
            "end": self.end,
            "start": self.start,
            "pad": self.pad,
        }

    def transformers_json(self) -> dict[str, Any]:
        return dict(self._definition)

    @cached_property
    def _spellings(self) -> list[bytes] | None:
        """The bytes that each id stands for; None for a decoder that does not just join them."""
        if (self._definition.get("decoder") or {}).get("type") != "ByteLevel":
            return None
        special = set(self.specials.values())
        tokens = (None if n in special else self._engine.id_to_token(n) for n in range(self.size))
        return [b"" if token is None else _bytes_of(token) for token in tokens]


_BYTE_OF = {character: byte for byte, character in enumerate(byte_characters())}


def _bytes_of(token: str) -> bytes:
    """As the decoder ByteLevel has it: one with any other character is its own UTF-8."""
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return token.encode()


def _settled(definition: Mapping[str, Any], named: set[int]) -> dict[str, Any]:
    """The definition without what cuts, pads, frames or draws, and with the `named` tokens special."""
    settled = {"added_tokens": [], **definition, "truncation": None, "padding": None, "post_processor": None}
    model = settled.get("model")
    if not isinstance(model, Mapping):
        raise FoundryError("it is no tokenizer.json: it has no model")
    if model.get("dropout") is not None:
        settled["model"] = {**model, "dropout": None}
    added = [dict(token) for token in settled["added_tokens"] or ()]
    for token in added:
        token["special"] = bool(token.get("special")) or token.get("id") in named
    missing = named - {token.get("id") for token in added}
    spelling = _tokens_of(model, missing) if missing else {}
    added += [special_token(spelling[number], number) for number in sorted(spelling)]
    settled["added_tokens"] = added
    return settled


def _tokens_of(model: Mapping[str, Any], ids: set[int]) -> dict[int, str]:
    """The tokens of a model's vocabulary that have these ids."""
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, Mapping):
        return {number: token for token, number in vocabulary.items() if number in ids}
    if isinstance(vocabulary, list):  # Unigram: pairs of a token and its score
        return {number: vocabulary[number][0] for number in ids if 0 <= number < len(vocabulary)}
    return {}


def _engine(definition: Mapping[str, Any]) -> Engine:
    from tokenizers import Tokenizer

    try:
        engine = Tokenizer.from_str(json.dumps(definition))
    except BaseException as error:  # the library raises plain Exceptions, and panics that are not even those
        if not (isinstance(error, Exception) or type(error).__name__ == PANIC):
            raise
        raise FoundryError(f"it is no tokenizer.json that 'tokenizers' reads: {error}") from error
    engine.encode_special_tokens = True
    return engine


def _unpickled(obj: Mapping[str, Any]) -> FastTokenizer:
    return FastTokenizer(obj["definition"], end=obj["end"], start=obj["start"], pad=obj["pad"])
