"""Blocks of tokens, the members of a shard of tokens.

    <block>.block.json   what is known of the block, see `BlockHead`
    <block>.docs.npy     uint64 [D, 4]: where each document ends in the tokens; bytes of its text; its
                         `document_hash`; its row in the documents of the shard of text that it comes from
    <block>.pages.npy    uint32 [P]: CRC-32C of each `PAGE_BYTES` of the tokens' bytes, so that a row is
                         proven without reading the block
    <block>.tokens.npy   uint16 or uint32 [N]: the documents' tokens, each document ended by the token `end`

All documents of a block are of one band of their hashes, `BANDS`: whether they are held out is then known of
the block as a whole wherever the share held out is one of these bounds.

Legend: N tokens, D documents, P pages.
"""

from __future__ import annotations

from fractions import Fraction

PAGE_BYTES = 64 * 1024
# Bounds of the bands of hashes / 2⁶⁴: [0, 1/1000), [1/1000, 1/100), …, [1/10, 1).
BANDS = (Fraction(1, 1000), Fraction(1, 100), Fraction(1, 20), Fraction(1, 10))
HEAD, DOCS, PAGES, TOKENS = ".block.json", ".docs.npy", ".pages.npy", ".tokens.npy"
