"""Tokenizers: from text to ids and back. Each is known by the hash of what defines it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# What every tokenizer that is made here has beside its text, in this order behind its ids of text.
PAD, OBS, END, IMAGE = "<pad>", "<obs>", "<|endoftext|>", "<image>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPECIALS = (PAD, OBS, END, IMAGE, *ROLES)


class Tokenizer(Protocol):
    """Text to ids and back: lossless for text that holds whatever, the names of special tokens among it.

    One that was made elsewhere may lose something, which `restores` tells.

    id        32 hex digits of all that defines it
    size      ids are 0 … size - 1
    end       the id behind every document
    start     the id before the first token of a document, which it is predicted from: `end` where the
              tokenizer has none of its own
    pad       the id that fills rows; `end` where it has none
    specials  ids by name
    """

    @property
    def id(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def specials(self) -> Mapping[str, int]: ...

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The ids of each text, without start and end. No name of a special token becomes its id.

        FoundryError for a text with lone surrogates.
        """
        ...

    def decode(self, ids: Sequence[int] | NDArray[np.integer], *, specials: bool = False) -> str:
        """The text of ids; special ones are left out, or named. FoundryError for an id that there is not."""
        ...

    def restores(self, texts: Sequence[str], ids: Sequence[NDArray[np.integer]]) -> NDArray[np.bool_]:
        """Whether `decode` gives exactly each text for its ids."""
        ...

    def to_json(self) -> dict[str, Any]:
        """All that defines it; `from_json` in `tokenizers` reads it."""
        ...

    def transformers_json(self) -> dict[str, Any]:
        """The tokenizer.json that Hugging Face's libraries read, with the same ids."""
        ...
