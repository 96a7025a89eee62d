"""The canonical tables of a version of pairs: `blocks` of all shards, `pairs` of each.

pairs   a row a pair, in the order of the shard: `block` numbers its block in the shard, `key` names its
        members, `id` is its place in the source. Of its pictures, in their order: `image_member` the name of
        the member, `image_tar` the key of the tar if it is not the shard's own, `width` and `height` of the
        upright picture, `encoding`, `image_bytes`. `captions`, `turns` and `metadata` are canonical JSON:
        {name: text}, [[role, text], …] and an object, null for none. `num_characters` are those of all
        captions and turns. `content_hash` is of pictures and texts, `split_hash` of the pictures' bytes, or
        of the texts where there are none: so what is said of one picture is on one side of a split
blocks  a row a block, in the order of shards: `shard` by its ordinal, `key` of its head, the `file` of the
        source, `row_start` is the row of its first pair; how many pairs and pictures it has, and their bytes

A pair is a group and a sample at once: it is held out whole, and it is what is counted.
"""

from __future__ import annotations

import pyarrow as pa

BLOCKS, PAIRS = "blocks", "pairs"
PAIRS_SCHEMA = pa.schema(
    [
        ("block", pa.int32()),
        ("key", pa.string()),
        ("id", pa.string()),
        ("image_member", pa.list_(pa.string())),
        ("image_tar", pa.list_(pa.string())),
        ("width", pa.list_(pa.int32())),
        ("height", pa.list_(pa.int32())),
        ("encoding", pa.list_(pa.string())),
        ("image_bytes", pa.list_(pa.int64())),
        ("captions", pa.string()),
        ("turns", pa.string()),
        ("metadata", pa.string()),
        ("num_characters", pa.int64()),
        ("content_hash", pa.uint64()),
        ("split_hash", pa.uint64()),
    ]
)
BLOCKS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("key", pa.string()),
        ("file", pa.string()),
        ("row_start", pa.int64()),
        ("num_pairs", pa.int64()),
        ("num_pictures", pa.int64()),
        ("num_characters", pa.int64()),
        ("num_bytes", pa.int64()),
    ]
)
COLUMNS = {BLOCKS: BLOCKS_SCHEMA, PAIRS: PAIRS_SCHEMA}
