"""The shards of a version of tokens, opened to read rows from: documents, and proven pages of tokens.

Legend: D documents, M blocks, P pages of a shard; T tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.tokens.schema import schema_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.blocks import PAGE_BYTES, TOKENS
from robot_foundry.shards.tokens.pages import num_pages, read_page

Page = tuple[int, NDArray[np.unsignedinteger]]  # the first token of it in the shard, and its tokens


class TokenShard:
    """One shard. Tokens and documents are counted in the shard, and so are blocks and pages.

    start_D, num_tokens_D, num_bytes_D, row_D   documents: first token, tokens, bytes of text, row in the
                                                documents of the shard of text
    tar                                         the path of its tar in the store
    """

    def __init__(self, opened: OpenVersion, ordinal: int) -> None:
        """FoundryError where its tables or its tar are not those of the version."""
        manifest, schema = opened.manifest, schema_of(opened.manifest)
        entry = manifest.shards[ordinal]
        documents = opened.shard_table("documents", ordinal)
        self.start_D = documents["start"].to_numpy()
        self.num_tokens_D = documents["num_tokens"].to_numpy()
        self.num_bytes_D = documents["num_bytes"].to_numpy()
        self.row_D = documents["document"].to_numpy()
        self._block_D = documents["block"].to_numpy()
        self._dtype = schema.numpy
        self._reader = open_tar(opened.store, manifest.dataset, entry.key, manifest.tar_hashes)
        self.tar = self._reader.tar_path
        keys, self._start_M, num_tokens_M = _blocks_of(opened, ordinal)
        self._row_M = [self._reader.row(f"{key}{TOKENS}") for key in keys]
        self._bytes_M = num_tokens_M * self._dtype.itemsize
        self._page_M1 = np.concatenate([[0], np.cumsum(num_pages(self._bytes_M))])
        # A copy: it is small, and what is mapped keeps a file open.
        self._crc32c_P = opened.shard_table("pages", ordinal)["crc32c"].to_numpy().copy()
        lacking = [
            self._reader.size(row) < size for row, size in zip(self._row_M, self._bytes_M, strict=True)
        ]
        if any(lacking) or len(self._crc32c_P) != self._page_M1[-1]:
            raise FoundryError(
                f"{self._reader.where} has another number of tokens than its tables in {opened.version}",
                hint=f"foundry-data validate {opened.version}",
            )

    def start(self, block: int) -> int:
        """The first token of a block."""
        return int(self._start_M[block])

    def tokens(
        self, block: int, begin: int, end: int, page: Callable[[int], Page] | None = None
    ) -> NDArray[np.int32]:
        """The tokens `begin` … `end` - 1 of a block; `page` gives pages as the method of that name does."""
        ids_T = np.empty(end - begin, np.int32)
        width, start = self._dtype.itemsize, self.start(block)
        numbers = range((begin - start) * width // PAGE_BYTES, (end - 1 - start) * width // PAGE_BYTES + 1)
        for number in numbers:
            first, ids = (page or self.page)(int(self._page_M1[block]) + number)
            here = slice(max(begin, first), min(end, first + len(ids)))
            ids_T[here.start - begin : here.stop - begin] = ids[here.start - first : here.stop - first]
        return ids_T

    def document(self, row: int) -> NDArray[np.int32]:
        """The tokens of a document."""
        begin = int(self.start_D[row])
        return self.tokens(int(self._block_D[row]), begin, begin + int(self.num_tokens_D[row]))

    def page(self, number: int) -> Page:
        """The first token of a page, and its tokens; CorruptMember where they are not what was written."""
        block = int(np.searchsorted(self._page_M1, number, side="right")) - 1
        in_block = number - int(self._page_M1[block])
        row, size, crc32c = self._row_M[block], int(self._bytes_M[block]), int(self._crc32c_P[number])
        ids = np.frombuffer(read_page(self._reader, row, size, in_block, crc32c), self._dtype)
        return self.start(block) + in_block * (PAGE_BYTES // self._dtype.itemsize), ids

    def member(self, block: int) -> str:
        """The name of the member that holds the tokens of a block."""
        return self._reader.name(self._row_M[block])


def _blocks_of(opened: OpenVersion, ordinal: int) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Keys, first tokens and numbers of tokens of the blocks [M] of a shard."""
    blocks = opened.table("blocks")
    first, end = np.searchsorted(blocks["shard"].to_numpy(), [ordinal, ordinal + 1]).tolist()
    here = blocks.slice(first, end - first)
    return here["key"].to_pylist(), here["row_start"].to_numpy(), here["num_tokens"].to_numpy()
