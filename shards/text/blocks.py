"""Blocks of documents, the members of a shard of text. A unit of the source becomes one block or several.

    <block>.block.json       what is known of the block, see `BlockHead`
    <block>.docs.npy         uint64 [D, 2]: where each document ends in the text (bytes), its `document_hash`
    <block>.meta.jsonl.zst   a JSON object a document: `id`, its place in the source, and `metadata`
    <block>.txt.zst          the documents' UTF-8, one behind the other

Legend: D documents.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import blake3
import numpy as np
import zstandard
from numpy.typing import NDArray

from robot_foundry.runtime.canonical import canonical_json, check_keys
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader

HEAD, DOCS, META, TEXT = ".block.json", ".docs.npy", ".meta.jsonl.zst", ".txt.zst"
LEVEL = 3


def codec_version() -> str:
    """What decides the bytes of compressed members beside their content."""
    return "zstd {}.{}.{} level {}".format(*zstandard.ZSTD_VERSION, LEVEL)


@dataclass(frozen=True)
class Document:
    """A text, its place in the source (a line or row number, a path), and what the source says of it."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """Documents of a unit that were left out for one reason: how many, and the places of the first."""

    reason: str
    count: int
    first: tuple[str, ...]


@dataclass(frozen=True)
class BlockHead:
    """What a shard says of a block without its text.

    `unit` names the unit of the source that it is of, `file` and `content` that unit's file and what tells
    its content. Sizes are of the text. What was left out of the unit stands in its first block.
    """

    unit: str
    file: str
    content: str
    documents: int
    characters: int
    bytes: int
    refused: tuple[Refusal, ...] = ()
    duplicates: int = 0

    def to_json(self) -> bytes:
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, data: bytes, where: str) -> BlockHead:
        """Strict inverse; CorruptData names `where`."""
        try:
            obj = json.loads(data)
            check_keys(obj, list(cls.__dataclass_fields__), where)
            refused = tuple(Refusal(r["reason"], r["count"], tuple(r["first"])) for r in obj.pop("refused"))
            return cls(**obj, refused=refused)
        except (ValueError, TypeError, KeyError, FoundryError) as error:
            raise CorruptData(f"{where} is damaged: {error}") from error


def document_hash(text: bytes) -> int:
    """64 bits of the BLAKE3 of a document's UTF-8: on which side of a split it is, wherever it lies."""
    return int.from_bytes(blake3.blake3(text).digest(8), "little")


def block_key(unit_key: str, number: int) -> str:
    """The key of a block: that of its unit and its number there, so that keys sort as the blocks follow."""
    return f"{unit_key}-{number:04d}"


def block_members(key: str, head: BlockHead, documents: Sequence[Document]) -> list[tuple[str, bytes]]:
    """The members of a block, in the order of the tar."""
    texts = [document.text.encode() for document in documents]
    end_D = np.cumsum([len(text) for text in texts], dtype=np.uint64)
    hash_D = np.array([document_hash(text) for text in texts], np.uint64)
    docs = io.BytesIO()
    np.lib.format.write_array(docs, np.stack([end_D, hash_D], 1), version=(1, 0), allow_pickle=False)
    meta = b"".join(canonical_json({"id": d.id, "metadata": d.metadata}) + b"\n" for d in documents)
    compress = zstandard.ZstdCompressor(LEVEL).compress
    return [
        (f"{key}{HEAD}", head.to_json()),
        (f"{key}{DOCS}", docs.getvalue()),
        (f"{key}{META}", compress(meta)),
        (f"{key}{TEXT}", compress(b"".join(texts))),
    ]


def block_keys(shard: ShardReader) -> list[str]:
    """The keys of a shard's blocks, in order."""
    names = shard.index["name"].to_pylist()
    return [name.removesuffix(HEAD) for name in names if name.endswith(HEAD)]


def read_head(shard: ShardReader, key: str) -> BlockHead:
    """CorruptData where it is damaged."""
    return BlockHead.from_json(shard.read_name(f"{key}{HEAD}"), f"{key}{HEAD} of {shard.where}")


def read_docs(shard: ShardReader, key: str) -> NDArray[np.uint64]:
    """Ends and hashes [D, 2] of a block's documents."""
    where = f"{key}{DOCS} of {shard.where}"
    try:
        docs = np.lib.format.read_array(io.BytesIO(shard.read_name(f"{key}{DOCS}")), allow_pickle=False)
    except ValueError as error:
        raise CorruptData(f"{where} is damaged: {error}") from error
    if docs.dtype != np.uint64 or docs.ndim != 2 or docs.shape[1] != 2 or (np.diff(docs[:, 0]) < 0).any():
        raise CorruptData(f"{where} does not say where documents end")
    return docs


def read_texts(shard: ShardReader, key: str) -> list[str]:
    """The documents' texts. CorruptData where they are not what `docs` and the head say."""
    head, end_D = read_head(shard, key), read_docs(shard, key)[:, 0].astype(np.int64)
    where = f"{key}{TEXT} of {shard.where}"
    text = _decompressed(shard.read_name(f"{key}{TEXT}"), head.bytes, where)
    if len(end_D) != head.documents or (int(end_D[-1]) if len(end_D) else 0) != len(text):
        raise CorruptData(f"{where} has {len(text)} bytes, its documents end elsewhere")
    start_D = np.concatenate([[0], end_D[:-1]])
    try:
        return [text[a:b].decode() for a, b in zip(start_D.tolist(), end_D.tolist(), strict=True)]
    except UnicodeDecodeError as error:
        raise CorruptData(f"{where} is not UTF-8: {error}") from error


def read_meta(shard: ShardReader, key: str) -> list[dict[str, Any]]:
    """`id` and `metadata` of each document."""
    where = f"{key}{META} of {shard.where}"
    data = shard.read_name(f"{key}{META}")
    size = zstandard.get_frame_parameters(data).content_size
    try:
        return [json.loads(line) for line in _decompressed(data, size, where).splitlines()]
    except ValueError as error:
        raise CorruptData(f"{where} is damaged: {error}") from error


def _decompressed(data: bytes, size: int, where: str) -> bytes:
    """Never more than `size` bytes."""
    try:
        text = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, read_across_frames=False)
    except zstandard.ZstdError as error:
        raise CorruptData(f"{where} is damaged: {error}") from error
    if len(text) != size:
        raise CorruptData(f"{where} has {len(text)} bytes, its head says {size}")
    return text
