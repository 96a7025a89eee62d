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

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.canonical import canonical_json, check_keys
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.arrays import npy_bytes, read_npy
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader

PAGE_BYTES = 64 * 1024
# Bounds of the bands of hashes / 2⁶⁴: [0, 1/1000), [1/1000, 1/100), …, [1/10, 1).
BANDS = (Fraction(1, 1000), Fraction(1, 100), Fraction(1, 20), Fraction(1, 10))
HEAD, DOCS, PAGES, TOKENS = ".block.json", ".docs.npy", ".pages.npy", ".tokens.npy"
# A block has so many tokens or more, unless its band has fewer in the shard.
BLOCK_TOKENS = 1 << 20
MOST_NAMED = 3
END, BYTES, HASH, ROW = range(4)  # columns of docs


@dataclass(frozen=True)
class BlockHead:
    """What a shard says of a block without its tokens.

    `tokenizer` is the id of the one that made it, `band` the number of its band, `num_bytes` of the text.
    Of `num_inexact` documents the tokens do not give back the text: rows of the first of them are `inexact`.
    """

    tokenizer: str
    band: int
    num_documents: int
    num_tokens: int
    num_bytes: int
    num_inexact: int
    inexact: tuple[int, ...]

    def to_json(self) -> bytes:
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, data: bytes, where: str) -> BlockHead:
        """Strict inverse; CorruptData names `where`."""
        try:
            obj = json.loads(data)
            check_keys(obj, list(cls.__dataclass_fields__), where)
            return cls(**{**obj, "inexact": tuple(obj["inexact"])})
        except (ValueError, TypeError, FoundryError) as error:
            raise CorruptData(f"{where} is damaged: {error}") from error


@dataclass(frozen=True)
class TokenDocuments:
    """Documents one behind the other.

    token_N    the tokens, `end` behind each document
    docs_D4    as in `<block>.docs.npy`
    inexact_D  whether the tokens do not give back the text
    """

    token_N: NDArray[np.unsignedinteger]
    docs_D4: NDArray[np.uint64]
    inexact_D: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        tokens: Sequence[NDArray[np.integer]],
        *,
        end: int,
        dtype: np.dtype,
        bytes_D: NDArray[np.integer],
        hash_D: NDArray[np.uint64],
        row_D: NDArray[np.integer],
        inexact_D: NDArray[np.bool_],
    ) -> TokenDocuments:
        """Of the tokens of each document without its `end`."""
        end_D = np.cumsum([len(of_document) + 1 for of_document in tokens], dtype=np.int64)
        token_N = np.full(end_D[-1] if len(end_D) else 0, end, dtype)
        for of_document, stop in zip(tokens, end_D.tolist(), strict=True):
            token_N[stop - 1 - len(of_document) : stop - 1] = of_document
        columns = [column.astype(np.uint64) for column in (end_D, bytes_D, hash_D, row_D)]
        return cls(token_N, np.stack(columns, 1), inexact_D)

    def __len__(self) -> int:
        return len(self.docs_D4)

    def take(self, kept_D: NDArray[np.bool_]) -> TokenDocuments:
        """The documents that are kept."""
        length_D = _lengths(self.docs_D4)
        docs_D4 = self.docs_D4[kept_D]
        docs_D4[:, END] = np.cumsum(length_D[kept_D])
        return TokenDocuments(self.token_N[np.repeat(kept_D, length_D)], docs_D4, self.inexact_D[kept_D])

    def slice(self, first: int, stop: int) -> TokenDocuments:
        """Documents `first` … `stop` - 1."""
        docs_D4 = self.docs_D4[first:stop].copy()
        begin = int(self.docs_D4[first - 1, END]) if first else 0
        docs_D4[:, END] -= np.uint64(begin)
        return TokenDocuments(
            self.token_N[begin : begin + int(docs_D4[-1, END])], docs_D4, self.inexact_D[first:stop]
        )


def _lengths(docs_D4: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Tokens of each document [D]."""
    end_D = docs_D4[:, END].astype(np.int64)
    return end_D - np.concatenate([[0], end_D[:-1]]).astype(np.int64)


def token_dtype(size: int) -> np.dtype:
    """The smallest that holds the ids 0 … size - 1."""
    return np.dtype("<u2") if size <= 1 << 16 else np.dtype("<u4")


def bands(hash_D: NDArray[np.uint64]) -> NDArray[np.int8]:
    """The band [D] that each hash is in, from 0."""
    bounds = np.array([-(-(bound.numerator << 64) // bound.denominator) for bound in BANDS], np.uint64)
    return np.searchsorted(bounds, hash_D, side="right").astype(np.int8)


def block_key(number: int) -> str:
    """The key of a block of a shard, so that keys sort as the blocks follow."""
    return f"block-{number:06d}"


def shard_members(
    bands: Iterable[tuple[int, TokenDocuments]], tokenizer: str, *, block_tokens: int = BLOCK_TOKENS
) -> Iterator[tuple[str, bytes]]:
    """The members of a shard of the documents of these bands, in the order of the tar."""
    for number, (band, block) in enumerate(cut(bands, block_tokens)):
        yield from block_members(block_key(number), band, block, tokenizer)


def by_band(documents: TokenDocuments) -> Iterator[tuple[int, TokenDocuments]]:
    """The bands that the documents are in, ascending, each with its documents in order."""
    band_D = bands(documents.docs_D4[:, HASH])
    for band in np.unique(band_D).tolist():
        yield band, documents.take(band_D == band)


def cut(
    bands: Iterable[tuple[int, TokenDocuments]], block_tokens: int
) -> Iterator[tuple[int, TokenDocuments]]:
    """Blocks with their bands: the documents of each band cut at `block_tokens` or more."""
    for band, of_band in bands:
        end_D = of_band.docs_D4[:, END].astype(np.int64)
        first = begin = 0
        while end_D[-1] - begin >= 2 * block_tokens:
            stop = int(np.searchsorted(end_D, begin + block_tokens)) + 1
            if end_D[-1] - end_D[stop - 1] < block_tokens:
                break
            yield band, of_band.slice(first, stop)
            first, begin = stop, int(end_D[stop - 1])
        yield band, of_band.slice(first, len(of_band))


def block_members(
    key: str, band: int, documents: TokenDocuments, tokenizer: str
) -> Iterator[tuple[str, bytes]]:
    """The members of one block, in the order of the tar."""
    head = BlockHead(
        tokenizer=tokenizer,
        band=band,
        num_documents=len(documents),
        num_tokens=len(documents.token_N),
        num_bytes=int(documents.docs_D4[:, BYTES].sum()),
        num_inexact=int(documents.inexact_D.sum()),
        inexact=tuple(documents.docs_D4[documents.inexact_D, ROW][:MOST_NAMED].tolist()),
    )
    yield f"{key}{HEAD}", head.to_json()
    yield f"{key}{DOCS}", npy_bytes(f"{key}{DOCS}", documents.docs_D4)
    yield f"{key}{PAGES}", npy_bytes(f"{key}{PAGES}", page_checksums(documents.token_N))
    yield f"{key}{TOKENS}", npy_bytes(f"{key}{TOKENS}", documents.token_N)


def page_checksums(token_N: NDArray[np.unsignedinteger]) -> NDArray[np.uint32]:
    """CRC-32C [P] of each page of the tokens' bytes."""
    data = token_N.tobytes()
    starts = range(0, len(data), PAGE_BYTES)
    return np.array([google_crc32c.value(data[at : at + PAGE_BYTES]) for at in starts], np.uint32)


def block_keys(shard: ShardReader) -> list[str]:
    """The keys of a shard's blocks, in order."""
    return shard.keys(HEAD)


def read_head(shard: ShardReader, key: str) -> BlockHead:
    """CorruptData where it is damaged."""
    return BlockHead.from_json(shard.read_name(f"{key}{HEAD}"), f"{key}{HEAD} of {shard.where}")


def read_docs(shard: ShardReader, key: str) -> NDArray[np.uint64]:
    """The table [D, 4] of a block's documents. CorruptData where it is none."""
    docs_D4: NDArray[np.uint64] = _array(shard, f"{key}{DOCS}", ("uint64",), 2)
    if docs_D4.shape[1] != 4 or (_lengths(docs_D4) < 1).any():
        raise CorruptData(f"{key}{DOCS} of {shard.where} does not say where documents end")
    return docs_D4


def read_pages(shard: ShardReader, key: str) -> NDArray[np.uint32]:
    """The checksums [P] of a block's pages."""
    return _array(shard, f"{key}{PAGES}", ("uint32",), 1)


def read_tokens(shard: ShardReader, key: str) -> NDArray[np.unsignedinteger]:
    """The tokens [N] of a block. CorruptData where they are not as many as the head says."""
    name = f"{key}{TOKENS}"
    token_N = _array(shard, name, ("uint16", "uint32"), 1)
    expected = read_head(shard, key).num_tokens
    if len(token_N) != expected:
        raise CorruptData(f"{name} of {shard.where} has {len(token_N)} tokens, its head says {expected}")
    return token_N


def _array(shard: ShardReader, name: str, dtypes: tuple[str, ...], ndim: int) -> NDArray:
    where = f"{name} of {shard.where}"
    try:
        array = read_npy(shard.read_name(name))
    except CorruptData as error:
        raise CorruptData(f"{where}: {error.message}", hint=error.hint) from error
    if array.dtype.name not in dtypes or array.ndim != ndim:
        raise CorruptData(f"{where} has dtype {array.dtype} and shape {array.shape}")
    return array
