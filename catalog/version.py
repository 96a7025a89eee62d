"""The name of one immutable version of a dataset or mixture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Version:
    """One committed version: `seq` counts 1, 2, … inside `dataset`.

    `version_id` (32 hex) is the hash of the content, known after the work; `build_id` (32 hex) is the hash of
    the request (spec, source, codecs), known before it.
    """

    dataset: str
    seq: int
    version_id: str
    build_id: str

    def __str__(self) -> str:
        return f"{self.dataset}@v{self.seq}"
