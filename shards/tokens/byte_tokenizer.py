"""The byte tokenizer: the ids of a text are its UTF-8, so it needs no vocabulary and loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.tokenizer import END, PAD, SPECIALS

BYTES = 256
TYPE = "byte"


class ByteTokenizer:
    """See `tokenizer.Tokenizer`. Ids 0 … 255 are bytes, the special ones follow."""

    specials: Mapping[str, int] = {name: BYTES + i for i, name in enumerate(SPECIALS)}
    size = BYTES + len(SPECIALS)
    end = start = specials[END]
    pad = specials[PAD]

    @property
    def id(self) -> str:
        return digest_of(self.to_json())

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [np.frombuffer(utf8(text), np.uint8).astype(np.int32) for text in texts]

    def decode(self, ids: Sequence[int] | NDArray[np.integer], *, specials: bool = False) -> str:
        names = {number: name.encode() if specials else b"" for name, number in self.specials.items()}
        parts = (bytes((i,)) if i < BYTES else names[i] for i in checked_ids(ids, self.size).tolist())
        return b"".join(parts).decode(errors="replace")

    def restores(self, texts: Sequence[str], ids: Sequence[NDArray[np.integer]]) -> NDArray[np.bool_]:
        pairs = zip(self.encode(texts), ids, strict=True)
        return np.array([np.array_equal(expected, of_text) for expected, of_text in pairs], bool)

    def to_json(self) -> dict[str, Any]:
        return {"type": TYPE, "specials": dict(self.specials)}

    def transformers_json(self) -> dict[str, Any]:
        vocabulary = {character: byte for byte, character in enumerate(byte_characters())}
        joined = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [special_token(name, number) for name, number in self.specials.items()],
            "normalizer": None,
            "pre_tokenizer": joined,
            "post_processor": None,
            "decoder": joined,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        }


def byte_characters() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies, as GPT-2 had it first.

    Printable bytes are themselves, the others the characters from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = {byte: chr(0x100 + i) for i, byte in enumerate(sorted(set(range(256)) - set(printable)))}
    return [others.get(byte, chr(byte)) for byte in range(256)]


def special_token(name: str, number: int) -> dict[str, Any]:
    """An entry of `added_tokens` of a tokenizer.json."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": name, **plain, "special": True}


def utf8(text: str) -> bytes:
    """FoundryError for lone surrogates, which no UTF-8 has."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise FoundryError(f"a text has a lone surrogate at character {error.start}") from error


def checked_ids(ids: Sequence[int] | NDArray[np.integer], size: int) -> NDArray[np.int64]:
    """`ids` as an array; FoundryError for one that is not 0 … size - 1."""
    array = np.asarray(ids, np.int64)
    if array.size and not 0 <= array.min() <= array.max() < size:
        wrong = array[(array < 0) | (array >= size)][0]
        raise FoundryError(f"there is no token {wrong}: the tokenizer has the ids 0 … {size - 1}")
    return array
