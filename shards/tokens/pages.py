"""Reading pages of a block's tokens: parts of the array's bytes that are each proven by itself."""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from robot_foundry.shards.errors import CorruptMember
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.tokens.blocks import PAGE_BYTES

_ATTEMPTS = 2  # what a disk or a network garbled once may come whole the second time


def num_pages(num_bytes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pages arrays of so many bytes have."""
    return -(-num_bytes // PAGE_BYTES)


def read_page(shard: ShardReader, row: int, num_bytes: int, page: int, crc32c: int) -> bytes:
    """A page of the array of `num_bytes` at the end of a member, which is at this row of the index.

    CorruptMember if it is not what was written, and was not when it was read a second time.
    """
    begin = page * PAGE_BYTES
    size = min(PAGE_BYTES, num_bytes - begin)
    for _ in range(_ATTEMPTS):
        data = shard.read_part(row, shard.size(row) - num_bytes + begin, size)
        if len(data) == size and google_crc32c.value(data) == crc32c:
            return data
    raise CorruptMember(
        f"member {shard.name(row)!r} of {shard.where} is damaged: the checksum of its page {page} differs"
    )
