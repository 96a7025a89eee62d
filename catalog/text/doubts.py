"""What is probably wrong with documents that are whole, by what the blocks of a version say of them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from robot_foundry.checks.finding import Finding

CHECKS = ("replaced", "repeated", "one_document")
# Of characters; of what was discovered; of a version's characters, where it has several documents.
MOST_REPLACED, MOST_REPEATED, MOST_OF_ONE = 1e-3, 0.5, 0.5
FEW_DOCUMENTS = 10


def doubts(blocks: pa.Table, discovered: int, duplicates: int) -> list[Finding]:
    """Findings of the `blocks`; the numbers are of documents of the source."""
    documents, characters, replaced = (
        pc.sum(blocks[name]).as_py() or 0 for name in ("num_documents", "num_characters", "num_replaced")
    )
    longest = pc.max(blocks["longest"]).as_py() or 0
    found = []
    if characters and replaced / characters > MOST_REPLACED:
        found.append(
            _finding(
                "replaced",
                f"{replaced / characters:.1%} of characters are U+FFFD, in place of bytes that are no text",
                replaced / characters,
                "make the source anew, and decode it by the encoding that it has",
            )
        )
    if discovered and duplicates / discovered > MOST_REPEATED:
        found.append(
            _finding(
                "repeated",
                f"{duplicates:,} of {discovered:,} documents of the source are copies of others",
                duplicates / discovered,
                "look whether the source was collected twice, or another key of it has the text",
            )
        )
    if documents >= FEW_DOCUMENTS and longest / max(characters, 1) > MOST_OF_ONE:
        found.append(
            _finding(
                "one_document",
                f"one of {documents:,} documents has {longest:,} of all {characters:,} characters",
                longest / characters,
                "look whether it is many documents in one, whose lines or parts are meant",
            )
        )
    return found


def _finding(check: str, message: str, value: float, remedy: str) -> Finding:
    return Finding(check, "documents", message, value, remedy)
