"""Pairs of a version as SQL sees them, and where they lie.

Legend: E pairs, K blocks.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from robot_foundry.catalog.kind import Geometry
from robot_foundry.catalog.metadata.columns import (
    ALL,
    METADATA,
    METADATA_SCHEMA,
    metadata_columns,
    metadata_expressions,
)
from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.pairs.measures import measures_of
from robot_foundry.catalog.pairs.schema import PairSchema, schema_of
from robot_foundry.catalog.pairs.tables import BLOCKS, PAIRS
from robot_foundry.catalog.query.shown import Rows, RowTable, SqlFace

# What every pair has, in front of the metadata; captions and turns are JSON.
OWN = (
    *("file", "id", "num_images", "width", "height", "min_side", "max_aspect", "encoding"),
    *("num_turns", "num_characters", "captions", "turns"),
)


def pair_rows(opened: OpenVersion) -> Rows:
    """All pairs, in the order of the geometry, and `_row`, their number there."""
    table = pa.concat_tables([_of_shard(opened, ordinal) for ordinal in range(len(opened.manifest.shards))])
    table = table.append_column("_row", pa.array(np.arange(table.num_rows, dtype=np.int64)))
    shown = {name: name for name in OWN} | {
        "num_turns": "coalesce(json_array_length(turns), 0) AS num_turns",
        "captions": "captions::JSON AS captions",
        "turns": "turns::JSON AS turns",
    }
    extracted = metadata_expressions(schema_of(opened.manifest), OWN)
    return Rows(table, ", ".join([*shown.values(), *extracted, f"{ALL}::JSON AS {ALL}", "shard", "_row"]))


def _of_shard(opened: OpenVersion, ordinal: int) -> pa.Table:
    """The pairs of a shard with the file that each is of, the shard, and what is measured of pictures."""
    pairs, blocks = opened.shard_table(PAIRS, ordinal), opened.table(BLOCKS)
    here_K = np.flatnonzero(blocks["shard"].to_numpy() == ordinal)
    files = blocks["file"].take(pa.array(here_K)).combine_chunks()
    measures = measures_of(pairs)
    return pa.table(
        {
            "file": pa.DictionaryArray.from_arrays(pairs["block"].combine_chunks(), files, safe=False),
            **{name: pairs[name] for name in ("id", "num_characters", "captions", "turns", ALL)},
            "num_images": measures.num_images_E,
            "width": measures.width_E,
            "height": measures.height_E,
            "min_side": measures.min_side_E,
            "max_aspect": measures.max_aspect_E,
            "encoding": measures.encoding_E,
            "shard": np.full(pairs.num_rows, ordinal, np.int32),
        }
    )


def geometry_of(opened: OpenVersion) -> Geometry:
    """Where the pairs lie. A row of a shard is a pair; tars that are adopted have none."""
    hash_E = [
        opened.shard_table(PAIRS, ordinal)["split_hash"].to_numpy()
        for ordinal in range(len(opened.manifest.shards))
    ]
    count_S = [len(hashes) for hashes in hash_E]
    start_E = np.concatenate([np.arange(count, dtype=np.int64) for count in count_S])
    return Geometry(
        shard_E=np.repeat(np.arange(len(count_S), dtype=np.int32), count_S),
        start_E=start_E,
        length_E=np.ones(len(start_E), np.int64),
        hash_E=np.concatenate(hash_E),
    )


def _catalog_rows(schema: PairSchema) -> dict[str, list[dict[str, str]]]:
    return {METADATA: metadata_columns(schema, OWN)}


SQL = SqlFace(
    columns=pa.schema([]),
    listed=(),
    tables={METADATA: METADATA_SCHEMA},
    rows_of=_catalog_rows,
    in_place={PAIRS: RowTable(pair_rows)},
    help=(
        ("pairs_NAME", f"pairs of dataset NAME: {', '.join(OWN)}, and metadata"),
        ('"pairs_NAME@v3"', "… of one version"),
    ),
    examples=("SELECT encoding, count(*), avg(num_characters) FROM pairs_photos GROUP BY ALL",),
)
