"""Versions of image-text pairs, written through shards and catalog from pictures and texts that are kept.

Legend: H × W pixels, C = 3 channels.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from robot_foundry.catalog.kind import kind_named
from robot_foundry.catalog.manifest import Manifest, ShardEntry, TableFile, commit, count_names
from robot_foundry.catalog.metadata.types import counted_types
from robot_foundry.catalog.pairs.derived import block_pairs, block_row
from robot_foundry.catalog.pairs.schema import PairSchema
from robot_foundry.catalog.pairs.tables import BLOCKS, BLOCKS_SCHEMA, PAIRS, PAIRS_SCHEMA
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tables import table_digest, write_table
from robot_foundry.catalog.tars import TarPlace, open_tar, write_place
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.shards.index import index_of_tar, tar_bytes, tar_sha256, write_index
from robot_foundry.shards.origin import Origin
from robot_foundry.shards.pairs.pair import Turn
from robot_foundry.shards.pairs.shard import BlockWriter, Encoded, read_head
from robot_foundry.shards.tar import TarWriter

_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}


@dataclass(frozen=True)
class TestPair:
    """A pair to write: pictures encoded, or as pixels uint8 [H, W, 3], which become PNGs."""

    __test__ = False

    pictures: Sequence[Encoded | NDArray[np.uint8]] = ()
    captions: Mapping[str, str] = field(default_factory=dict)
    turns: Sequence[tuple[str, str]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encoded(self) -> list[Encoded]:
        return [item if isinstance(item, Encoded) else encoded(item) for item in self.pictures]


@dataclass(frozen=True)
class WrittenPairs:
    """A version, and its pairs in the order in which they are stored."""

    version: Version
    pairs: Sequence[TestPair]


def encoded(pixels_HWC: NDArray[np.uint8], encoding: str = "png", **options: Any) -> Encoded:
    """The picture as jpg, png or webp; `options` are Pillow's."""
    sink = BytesIO()
    Image.fromarray(pixels_HWC).save(sink, _FORMATS[encoding], **options)
    return Encoded(sink.getvalue(), encoding, pixels_HWC.shape[0], pixels_HWC.shape[1])


def random_picture(seed: int, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] that change slowly enough for JPEG to keep them roughly."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def some_pairs(count: int, seed: int = 0) -> list[TestPair]:
    """Pairs of every form, in turns: one or two captions, a conversation, several pictures, none."""
    return [_some_pair(seed * 1_000_003 + number, number) for number in range(count)]


def _some_pair(seed: int, number: int) -> TestPair:
    rng = np.random.default_rng(seed)
    side, name = 16 + 8 * int(rng.integers(3)), f"thing {seed}"
    picture = encoded(random_picture(seed, side, 24), ("jpg", "png", "webp")[number % 3])
    metadata = {"language": ("en", "de")[number % 2], "score": number / 8}
    match number % 5:
        case 0:
            return TestPair([picture], {"caption": f"a {name}"}, metadata=metadata)
        case 1:
            captions = {"caption": f"a {name}", "re_caption": f"a picture that shows a {name} at {number}"}
            return TestPair([picture], captions, metadata=metadata)
        case 2:
            turns = [("user", "<image>\nWhat is it?"), ("assistant", name), ("user", "Sure?")]
            return TestPair([picture], turns=[*turns, ("assistant", f"yes, {number}")], metadata=metadata)
        case 3:
            pictures = [picture, encoded(random_picture(seed + 1, 20, side), "jpg")]
            turns = [("system", "Compare."), ("user", "<image> and <image>?"), ("assistant", name)]
            return TestPair(pictures, turns=turns, metadata=metadata)
    return TestPair(turns=[("user", f"What is {number} + 1?"), ("assistant", str(number + 1))])


def write_pairs(
    store: Store,
    name: str,
    pairs: Sequence[TestPair],
    *,
    per_shard: int = 64,
    per_block: int = 16,
    adopted: Mapping[str, Path] | None = None,
) -> WrittenPairs:
    """A version of these pairs, whose ids are their numbers, in shards and blocks of so many.

    `adopted` are tars elsewhere by the keys that pictures name them by.
    """
    written = [
        _write_shard(store, name, pairs, range(start, min(start + per_shard, len(pairs))), per_block)
        for start in range(0, len(pairs), per_shard)
    ]
    entries = [entry for entry, _, _ in written]
    entries += [_adopt(store, name, key, tar) for key, tar in (adopted or {}).items()]
    tables = {f"{PAIRS}/{entry.key}": PAIRS_SCHEMA.empty_table() for entry in entries}
    tables |= {f"{PAIRS}/{entry.key}": of_pairs for entry, of_pairs, _ in written}
    rows = [{"shard": shard, **row} for shard, (_, _, blocks) in enumerate(written) for row in blocks]
    tables[BLOCKS] = pa.Table.from_pylist(rows, schema=BLOCKS_SCHEMA)
    types = counted_types(
        json.loads(cell) for _, of_pairs, _ in written for cell in of_pairs["metadata"].to_pylist() if cell
    )
    manifest = Manifest(
        name,
        digest_of(["pairs", name, [entry.tar_sha256 for entry in entries]]),
        PairSchema.of(types),
        "pairs",
        tuple(entries),
        {path: table_digest(table) for path, table in tables.items()},
        dict.fromkeys(count_names(kind_named("pairs")), 0)
        | {"discovered": len(pairs), "written": len(pairs), "pairs": len(pairs)}
        | {"bytes": sum(entry.tar_bytes for entry in entries)},
        files={path: TableFile.of(write_table(table)) for path, table in tables.items()},
    )
    for path, table in tables.items():
        store.storage.write(store.table(name, manifest.version_id, path), write_table(table))
    return WrittenPairs(commit(store, manifest), pairs)


def write_adopted(folder: Path) -> tuple[Store, list[TestPair], Path]:
    """A version of 70 pairs whose pictures, but for every seventh, are in a tar that others wrote."""
    tar, pairs = folder / "foreign.tar", list[TestPair]()
    with tarfile.open(tar, "w") as file:
        for number in range(70):
            picture = encoded(random_picture(number))
            if number % 7:
                member = tarfile.TarInfo(f"{number:05d}.PNG")
                member.size = len(picture.data)
                file.addfile(member, BytesIO(picture.data))
                picture = replace(picture, adopted=("far", member.name))
            pairs.append(TestPair([picture], {"caption": str(number)}))
    store = Store(folder / "store")
    write_pairs(store, "foreign", pairs, adopted={"far": tar})
    return store, pairs, tar


def _write_shard(
    store: Store, name: str, pairs: Sequence[TestPair], numbers: range, most: int
) -> tuple[ShardEntry, pa.Table, list[dict[str, Any]]]:
    """The entry of a shard with the pairs of these numbers, its table, and the rows of its blocks."""
    key = digest_of(["pairs", name, numbers.start])
    blocks = [numbers[start : start + most] for start in range(0, len(numbers), most)]
    with store.storage.writer(store.shard_tar(name, key)) as file:
        tar = TarWriter(file)
        for block in blocks:
            writer = BlockWriter(_block_key(block), _origin(block), tar.add)
            for number in block:
                pair = pairs[number]
                turns = [Turn(role, text) for role, text in pair.turns]
                writer.add(str(number), pair.encoded, pair.captions, turns, pair.metadata)
            writer.close()
        summary = tar.close()
    store.storage.write(store.shard_index(name, key), write_index(summary.members))
    reader = open_tar(store, name, key)
    parts = [block_pairs(reader, _block_key(block), i) for i, block in enumerate(blocks)]
    rows = [
        {"key": _block_key(block), **block_row(read_head(reader, _block_key(block)), block[0] - numbers[0])}
        for block in blocks
    ]
    entry = ShardEntry(key, summary.sha256, summary.num_bytes, len(numbers), len(numbers))
    return entry, pa.concat_tables(parts).combine_chunks(), rows


def _adopt(store: Store, name: str, key: str, tar: Path) -> ShardEntry:
    """The entry of a tar that stays where it lies."""
    with tar.open("rb") as file:
        index = index_of_tar(file)
    store.storage.write(store.shard_index(name, key), write_index(index))
    write_place(store, name, key, TarPlace(str(tar), tar_bytes(index)))
    return ShardEntry(key, tar_sha256(index), tar_bytes(index), 0, 0)


def _block_key(block: range) -> str:
    return f"b{block.start:08d}"


def _origin(block: range) -> Origin:
    return Origin(f"pairs#{block.start}", "pairs", "0" * 64)
