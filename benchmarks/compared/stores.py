"""Small stores to train on, one for each task, of generated data that decode as real ones do."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tokens.tokenizers import keep
from robot_foundry.shards.pairs.shard import Encoded

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
from foundry_testing.loader_fixtures import write_version
from foundry_testing.pairs import TestPair, write_pairs
from foundry_testing.photographs import photographs
from foundry_testing.small_corpus import small_corpus
from foundry_testing.tokens import write_tokens

CAPTION = "a soft cloud of grey and brown over a wide field at dusk, number {}"
QUALITY = 85


def token_store(folder: Path, documents: int = 1500) -> Store:
    """A store with 'words': of 1,500 documents about a million tokens of bytes."""
    store = Store(folder)
    written = write_tokens(store, "words", [small_corpus(documents, longest=24)])
    keep(store, written.tokenizer)
    return store


def pair_store(folder: Path, side: int, pairs: int = 1000) -> Store:
    """A store with 'pictures': JPEGs of `side` pixels with a caption each."""
    from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer

    store, picture = Store(folder), photographs(side, side, QUALITY)
    keep(store, ByteTokenizer())
    made = [
        TestPair([Encoded(picture(), "jpg", side, side)], {"caption": CAPTION.format(number)})
        for number in range(pairs)
    ]
    write_pairs(store, "pictures", made, per_shard=500, per_block=250)
    return store


def robot_store(folder: Path, side: int, cameras: tuple[str, ...], frames: int = 1500) -> Store:
    """A store with 'arm': episodes of one arm, a JPEG of `side` pixels a camera and frame."""
    store, picture = Store(folder), photographs(side, side, QUALITY)

    def encode(_: np.random.Generator, height: int, width: int) -> bytes:
        return picture()

    shards = [[frames // 10] * 5] * 2
    sizes = dict.fromkeys(cameras, (side, side))
    write_version(store, "arm", shards, cameras=sizes, flaws=False, encode=encode)
    return store
