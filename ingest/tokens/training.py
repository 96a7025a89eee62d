"""A tokenizer trained on the documents of a version of text."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.selection import Selection
from robot_foundry.catalog.tars import open_tar
from robot_foundry.runtime.progress import Progress
from robot_foundry.shards.text.blocks import block_keys, read_texts
from robot_foundry.shards.tokens.bpe import train
from robot_foundry.shards.tokens.fast_tokenizer import FastTokenizer


def train_tokenizer(
    opened: OpenVersion, selection: Selection, size: int, *, digits: int = 1, quiet: bool = True
) -> FastTokenizer:
    """Byte-level BPE of `size` ids, or fewer, from the selected documents of a version of text."""
    with Progress(selection.num_groups, "documents", "train tokenizer", quiet=quiet) as progress:
        return train(_counted(selected_texts(opened, selection), progress), size, digits)


def selected_texts(opened: OpenVersion, selection: Selection) -> Iterator[str]:
    """The texts of the selected documents, in their order, block by block."""
    manifest, geometry = opened.manifest, opened.geometry
    chosen_E = selection.holds(geometry)
    end_S = np.searchsorted(geometry.shard_E, np.arange(len(manifest.shards)), side="right")
    start = 0
    for entry, end in zip(manifest.shards, end_S.tolist(), strict=True):
        chosen = iter(chosen_E[start:end].tolist())
        start = end
        shard = open_tar(opened.store, manifest.dataset, entry.key, manifest.tar_hashes)
        for key in block_keys(shard):
            yield from (text for text in read_texts(shard, key) if next(chosen))


def _counted(texts: Iterator[str], progress: Progress) -> Iterator[str]:
    for text in texts:
        yield text
        progress.advance(bytes=len(text))
