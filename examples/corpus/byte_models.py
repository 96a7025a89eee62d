"""Bits a byte of byte models on the held-out documents of a version of text: a bar for language models.

    python examples/corpus/byte_models.py corpus [--store store] [--val-fraction 1/10] [--json]

The models of order 0, 1 and 2 know as many bytes before the one that they predict. They are fitted on the
training documents and asked about the held-out ones, of the split that a run makes. Each is interpolated with
those of lower orders by Witten and Bell's rule, order 0 with the uniform distribution, so none gives zero:

    p(x | h) = (count(h x) + kinds(h) · p(x | shorter h)) / (count(h) + kinds(h))

where kinds(h) is the number of unlike symbols seen behind h. As of a language model of tokens, the end of
each document is predicted as well, its bits count, and it is no byte to divide by.

Legend: A symbols, 256 bytes and END; D documents, N positions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenVersion, OpenVersions
from robot_foundry.catalog.selection import DEFAULT_FRACTION, SelectionSpec, rows_of_split
from robot_foundry.catalog.store import as_store
from robot_foundry.catalog.tars import open_tar
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.text.blocks import block_keys, read_docs, read_texts

END = 256
NUM_SYMBOLS = 257
ORDERS = (0, 1, 2)
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Measured:
    """Of a version, the documents fitted and held out, and bits a byte of the latter by model."""

    version: str
    train_documents: int
    held_out_documents: int
    bits_per_byte: dict[str, float]


class ByteModels:
    """Counts of every three symbols in a row; before its first byte a document has two times END."""

    def __init__(self) -> None:
        self.count_AAA = np.zeros((NUM_SYMBOLS,) * 3, np.int64)

    def fit(self, documents: Iterable[bytes]) -> None:
        """Count these documents too."""
        for places_3N, _ in _chunks(documents):
            np.add.at(self.count_AAA, tuple(places_3N), 1)

    def bits_per_byte(self, documents: Iterable[bytes]) -> dict[int, float]:
        """By order, bits of the documents with their ends, over their bytes; ValueError if they have none."""
        bits, num_bytes = dict.fromkeys(ORDERS, 0.0), 0
        for places_3N, size in _chunks(documents):
            num_bytes += size
            for order, p_N in self._probabilities(*places_3N).items():
                bits[order] -= float(np.log2(p_N).sum())
        if not num_bytes:
            raise ValueError("the documents have no byte")
        return {order: bits[order] / num_bytes for order in ORDERS}

    def _probabilities(
        self, first_N: NDArray[np.int64], second_N: NDArray[np.int64], symbol_N: NDArray[np.int64]
    ) -> dict[int, NDArray[np.float64]]:
        """By order, that of each symbol behind the two before it."""
        count_AA, count_A = self.count_AAA.sum(0), self.count_AAA.sum((0, 1))
        uniform_N = np.full(len(symbol_N), 1 / NUM_SYMBOLS)
        zero_N = _interpolated(count_A[symbol_N], count_A.sum(), (count_A > 0).sum(), uniform_N)
        total_A, kinds_A = count_AA.sum(1), (count_AA > 0).sum(1)
        one_N = _interpolated(count_AA[second_N, symbol_N], total_A[second_N], kinds_A[second_N], zero_N)
        total_AA, kinds_AA = self.count_AAA.sum(2), (self.count_AAA > 0).sum(2)
        before = first_N, second_N
        two_N = _interpolated(
            self.count_AAA[first_N, second_N, symbol_N], total_AA[before], kinds_AA[before], one_N
        )
        return {0: zero_N, 1: one_N, 2: two_N}


def _interpolated(
    count_N: NDArray[np.int64],
    total: NDArray[np.int64],
    kinds: NDArray[np.int64],
    lower_N: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Witten and Bell's; the lower order alone where nothing was seen."""
    return np.where(total > 0, (count_N + kinds * lower_N) / np.maximum(total + kinds, 1), lower_N)


def _chunks(documents: Iterable[bytes]) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Symbols with the two before each [3, N], of some documents at a time, and the bytes of these."""
    chunk: list[bytes] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document)
        if size >= CHUNK_BYTES:
            yield _places(chunk), size
            chunk, size = [], 0
    if chunk:
        yield _places(chunk), size


def _places(documents: list[bytes]) -> NDArray[np.int64]:
    """The symbols of documents, each with its END, and the two before each [3, N]."""
    parts = []
    for document in documents:
        symbols = np.full(len(document) + 3, END, np.int64)
        symbols[2:-1] = np.frombuffer(document, np.uint8)
        parts.append(np.stack([symbols[:-2], symbols[1:-1], symbols[2:]]))
    return np.concatenate(parts, 1)


def split_of(opened: OpenVersion, val_fraction: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which documents [D] of a version, in order, are trained on, and which are held out."""
    docs = [read_docs(shard, key) for shard in _shards(opened) for key in block_keys(shard)]
    hash_D = np.concatenate([docs_of_block[:, -1] for docs_of_block in docs])
    length_D = np.concatenate([np.diff(docs_of_block[:, 0], prepend=0) for docs_of_block in docs])
    chosen = []
    for split in ("train", "val"):
        begin_D, end_D = rows_of_split(SelectionSpec(split, val_fraction), hash_D, length_D.astype(np.int64))
        chosen.append(end_D > begin_D)
    return chosen[0], chosen[1]


def texts(opened: OpenVersion, chosen_D: NDArray[np.bool_]) -> Iterator[bytes]:
    """The UTF-8 of the chosen documents, in order."""
    number = 0
    for shard in _shards(opened):
        for key in block_keys(shard):
            for text in read_texts(shard, key):
                if chosen_D[number]:
                    yield text.encode()
                number += 1


def _shards(opened: OpenVersion) -> Iterator[ShardReader]:
    for shard in opened.manifest.shards:
        yield open_tar(opened.store, opened.manifest.dataset, shard.key)


def measure(ref: str, store: str | None, val_fraction: str) -> Measured:
    """UsageError where `ref` is not of text, or nothing of it is held out."""
    opened = OpenVersions(as_store(store)).open(ref)
    if opened.kind.name != "text":
        raise UsageError(f"{opened.version} is of kind {opened.kind.name}: byte models are of text")
    train_D, val_D = split_of(opened, val_fraction)
    if not val_D.any():
        raise UsageError(f"of {opened.version}, {len(val_D)} documents, none is held out at {val_fraction}")
    models = ByteModels()
    models.fit(texts(opened, train_D))
    bits = models.bits_per_byte(texts(opened, val_D))
    by_name = {f"order_{order}": bits[order] for order in ORDERS}
    return Measured(str(opened.version), int(train_D.sum()), int(val_D.sum()), by_name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ref", help="a version of text")
    parser.add_argument("--store", help="folder or URL; $FOUNDRY_STORE, else ./store")
    parser.add_argument("--val-fraction", default=DEFAULT_FRACTION, help="share that is held out")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    try:
        found = measure(arguments.ref, arguments.store, arguments.val_fraction)
    except FoundryError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    if arguments.json:
        print(json.dumps(asdict(found), indent=2))
        return 0
    print(
        f"{found.version}: {found.train_documents:,} documents fitted, {found.held_out_documents:,} held out"
    )
    for name, bits in found.bits_per_byte.items():
        print(f"{name.replace('_', ' ')}: {bits:.3f} bits a byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
