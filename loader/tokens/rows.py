"""The settings of packed rows.

Tokens of a block, in order, those of documents that are not selected left out, are cut into rows of `length`:
row j of a block has the tokens j·length … (j+1)·length - 1 of it, the last may be short and is padded. These
are the *targets*; the input at each is the token before it in its document, at a document's first the
tokenizer's `start`. So in an epoch every token is predicted once, whatever the length.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_foundry.runtime.errors import UsageError


@dataclass(frozen=True)
class RowSpec:
    """What a row is. Attention does not cross documents, and positions restart with each."""

    length: int = 1024  # tokens a row

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UsageError(f"rows of length {self.length} hold no token")

    @property
    def skipped(self) -> tuple[str, ...]:
        return ()
