"""Byte-level tokenizer: UTF-8 bytes are their own ids, so it needs no vocabulary file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError

PAD, OBS = 256, 257
VOCABULARY = 258


class ByteTokenizer:
    """Instructions to padded token rows that end in `<obs>`."""

    image_at = 0  # pictures come first
    tokenizer = None

    def __init__(self, max_length: int, num_obs: int = 1) -> None:
        self.max_length = max_length  # bytes kept of an instruction
        self.num_obs = num_obs  # how often `<obs>` stands behind it

    def encode(self, text: str) -> list[int]:
        """Bytes of `text`, cut to the longest prefix of whole characters within `max_length`."""
        return list(text.encode()[: self.max_length].decode(errors="ignore").encode())

    def rows(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Token rows int64 [B, S] = text, `<obs>`, padding; and the index int64 [B] of the first `<obs>`."""
        encoded = [[*self.encode(text), *[OBS] * self.num_obs] for text in texts]
        rows = np.full((len(encoded), max(map(len, encoded))), PAD, np.int64)
        for row, ids in zip(rows, encoded, strict=True):
            row[: len(ids)] = ids
        return rows, np.array([len(ids) - self.num_obs for ids in encoded], np.int64)

    def to_json(self) -> dict[str, object]:
        more = {} if self.num_obs == 1 else {"num_obs": self.num_obs}
        special = {"<pad>": PAD, "<obs>": OBS}
        return {"type": "byte", "max_length": self.max_length, "special": special, **more}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> ByteTokenizer:
        max_length, num_obs = value.get("max_length"), value.get("num_obs", 1)
        if isinstance(max_length, int) and isinstance(num_obs, int):
            made = cls(max_length, num_obs)
            if canonical_json(made.to_json()) == canonical_json(value):
                return made
        raise FoundryError(f"tokenizer.json describes no byte tokenizer: {value}.")
