"""Blocks of documents, the members of a shard of text. A unit of the source becomes one block or several.

    <block>.block.json       what is known of the block, see `BlockHead`
    <block>.docs.npy         uint64 [D, 3]: where each document ends in the text (bytes), its characters, and
                             its `document_hash`
    <block>.meta.jsonl.zst   a JSON object a document: `id`, its place in the source, and `metadata`
    <block>.txt.zst          the documents' UTF-8, one behind the other

Legend: D documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import blake3
import numpy as np
import zstandard
from numpy.typing import NDArray

from robot_foundry.runtime.canonical import canonical_json, check_keys
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.arrays import npy_bytes, read_npy
from robot_foundry.shards.errors import CorruptArrays, CorruptData
from robot_foundry.shards.origin import Origin, Refusal
from robot_foundry.shards.reader import ShardReader

HEAD, DOCS, META, TEXT = ".block.json", ".docs.npy", ".meta.jsonl.zst", ".txt.zst"
SUFFIXES = (HEAD, DOCS, META, TEXT)
FORMAT = 1
LEVEL = 3
# Of a block's text or metadata: what claims more was not written here, and is not decompressed.
MOST_BYTES = 1 << 32
# Where a decoder found bytes that are no text.
REPLACEMENT = "\ufffd"


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
class EncodedDocument:
    """A document as blocks hold it: its UTF-8, and a line of metadata."""

    text: bytes
    meta: bytes
    num_characters: int
    num_replaced: int

    @classmethod
    def of(cls, document: Document) -> EncodedDocument:
        """FoundryError where the text or metadata cannot be written, as a half character cannot."""
        meta = canonical_json({"id": document.id, "metadata": dict(document.metadata)}) + b"\n"
        text = document.text
        return cls(text.encode(), meta, len(text), text.count(REPLACEMENT))


@dataclass(frozen=True)
class BlockHead:
    """What a shard says of a block without its text.

    Sizes are of the text; `num_replaced` counts the characters U+FFFD, `num_meta_bytes` the bytes of the
    metadata. What was left out of a unit stands in its last block.
    """

    origin: Origin
    num_documents: int
    num_characters: int
    num_bytes: int
    num_meta_bytes: int
    num_replaced: int
    refused: tuple[Refusal, ...] = ()
    duplicates: int = 0

    def to_json(self) -> bytes:
        return canonical_json({"format": FORMAT, **self.values()})

    def values(self) -> dict[str, Any]:
        """Its fields as JSON has them."""
        fields = asdict(self)
        return {**fields.pop("origin"), **fields}

    @classmethod
    def from_json(cls, data: bytes, where: str) -> BlockHead:
        """Strict inverse; CorruptData names `where`."""
        try:
            values = json.loads(data)
            check_keys(values, ["format", *cls.of_nothing().values()], where)
            if values.pop("format") != FORMAT:
                raise ValueError("its format is another one")
            return cls.of_values(values)
        except (ValueError, TypeError, KeyError, FoundryError) as error:
            raise CorruptData(f"{where} is damaged: {error}") from error

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> BlockHead:
        """Inverse of `values`."""
        left = dict(values)
        origin = Origin(left.pop("unit"), left.pop("file"), left.pop("content"))
        refused = tuple(Refusal.from_json(entry, "a refusal") for entry in left.pop("refused"))
        if any(type(number) is not int or number < 0 for number in left.values()):
            raise ValueError("it counts with what is no number")
        return cls(origin, **left, refused=refused)

    @classmethod
    def of_nothing(cls) -> BlockHead:
        """A head without documents."""
        return cls(Origin("", "", ""), 0, 0, 0, 0, 0)


def document_hash(text: bytes) -> int:
    """64 bits of the BLAKE3 of a document's UTF-8: on which side of a split it is, wherever it lies."""
    return int.from_bytes(blake3.blake3(text).digest(8), "little")


def block_key(unit_key: str, number: int) -> str:
    """The key of a block: that of its unit and its number there, so that keys sort as the blocks follow."""
    return f"{unit_key}-{number:06d}"


def block_members(
    key: str,
    origin: Origin,
    documents: Sequence[EncodedDocument],
    refused: Sequence[Refusal] = (),
    duplicates: int = 0,
) -> list[tuple[str, bytes]]:
    """The members of a block, in the order of the tar."""
    text, meta = (b"".join(getattr(document, name) for document in documents) for name in ("text", "meta"))
    docs_D3 = np.zeros((len(documents), 3), np.uint64)
    docs_D3[:, 0] = np.cumsum([len(document.text) for document in documents], dtype=np.uint64)
    docs_D3[:, 1] = [document.num_characters for document in documents]
    docs_D3[:, 2] = [document_hash(document.text) for document in documents]
    head = BlockHead(
        origin,
        num_documents=len(documents),
        num_characters=int(docs_D3[:, 1].sum()),
        num_bytes=len(text),
        num_meta_bytes=len(meta),
        num_replaced=sum(document.num_replaced for document in documents),
        refused=tuple(refused),
        duplicates=duplicates,
    )
    compress = zstandard.ZstdCompressor(LEVEL).compress
    members = (head.to_json(), npy_bytes(DOCS, docs_D3), compress(meta), compress(text))
    return [(f"{key}{suffix}", data) for suffix, data in zip(SUFFIXES, members, strict=True)]


def block_keys(shard: ShardReader) -> list[str]:
    """The keys of a shard's blocks, in order."""
    return shard.keys(HEAD)


def read_head(shard: ShardReader, key: str) -> BlockHead:
    """CorruptData where it is damaged."""
    return BlockHead.from_json(shard.read_name(f"{key}{HEAD}"), f"{key}{HEAD} of {shard.where}")


def read_docs(shard: ShardReader, key: str) -> NDArray[np.uint64]:
    """Ends, characters and hashes [D, 3] of a block's documents. CorruptData where they cannot be."""
    where = f"{key}{DOCS} of {shard.where}"
    try:
        docs_D3 = read_npy(shard.read_name(f"{key}{DOCS}"))
    except CorruptArrays as error:
        raise CorruptData(f"{where} is damaged: {error}") from error
    is_ordered = docs_D3.dtype == np.uint64 and docs_D3.ndim == 2 and docs_D3.shape[1] == 3
    if not is_ordered or (docs_D3[1:, 0] < docs_D3[:-1, 0]).any():
        raise CorruptData(f"{where} does not say where documents end")
    return docs_D3


def read_texts(shard: ShardReader, key: str) -> list[str]:
    """The documents' texts. CorruptData where they are not what `docs` and the head say."""
    where = f"{key}{TEXT} of {shard.where}"
    try:
        return [text.decode() for text in read_encoded(shard, key)]
    except UnicodeDecodeError as error:
        raise CorruptData(f"{where} is not UTF-8: {error}") from error


def read_encoded(shard: ShardReader, key: str) -> list[bytes]:
    """As `read_texts`, in bytes."""
    head, end_D = read_head(shard, key), read_docs(shard, key)[:, 0].tolist()
    where = f"{key}{TEXT} of {shard.where}"
    text = _decompressed(shard.read_name(f"{key}{TEXT}"), head.num_bytes, where)
    if len(end_D) != head.num_documents or (end_D[-1] if end_D else 0) != len(text):
        raise CorruptData(f"{where} has {len(text)} bytes, its documents end elsewhere")
    return [text[start:end] for start, end in pairwise([0, *end_D])]


def read_meta(shard: ShardReader, key: str) -> list[dict[str, Any]]:
    """`id` and `metadata` of each document. CorruptData where they are not those of the head's documents."""
    head, where = read_head(shard, key), f"{key}{META} of {shard.where}"
    lines = _decompressed(shard.read_name(f"{key}{META}"), head.num_meta_bytes, where).split(b"\n")[:-1]
    try:
        meta = [json.loads(line) for line in lines]
        for entry in meta:
            check_keys(entry, ("id", "metadata"), where)
    except (ValueError, RecursionError, FoundryError) as error:
        raise CorruptData(f"{where} is damaged: {error}") from error
    if len(meta) != head.num_documents:
        raise CorruptData(f"{where} tells of {len(meta)} documents, the head of {head.num_documents}")
    return meta


def _decompressed(data: bytes, size: int, where: str) -> bytes:
    """Never more than `size` bytes, nor than MOST_BYTES."""
    try:
        claimed = zstandard.get_frame_parameters(data).content_size
        if size != claimed or size > MOST_BYTES:
            raise CorruptData(f"{where} has {claimed} bytes, its head says {size}")
        text = zstandard.ZstdDecompressor().decompress(data, max_output_size=size, read_across_frames=False)
    except zstandard.ZstdError as error:
        raise CorruptData(f"{where} is damaged: {error}") from error
    if len(text) != size:
        raise CorruptData(f"{where} has {len(text)} bytes, its head says {size}")
    return text
