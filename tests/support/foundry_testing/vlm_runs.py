"""Shrunk training runs of vision-language models on small stores, for tests.

Legend: H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foundry_testing.pairs import TestPair, some_pairs, write_pairs
from foundry_testing.small_corpus import small_corpus
from foundry_testing.tokens import write_tokens
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tokens.tokenizers import keep
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.trainer.outcome import Outcome
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig
from robot_foundry.trainer.tasks.vlm.recipe import read_recipe
from robot_foundry.trainer.tasks.vlm.resolving import resolve_vlm

TINY = (
    "data.rows={length: 96, packed: true, image: [16, 16]}",
    "data.global_batch=8",
    "model.backbone.vision={patch: 4, width: 16, depth: 1, heads: 2, mlp_hidden: 32}",
    "model.backbone.decoder={width: 16, depth: 2, heads: 2, kv_heads: 1, mlp_hidden: 32}",
    "optim.muon_lr=0.005",
    "run.precision=fp32",
    "run.steps=6",
    "run.save_every=2",
    "run.log_every=1",
    "run.eval_samples=8",
)
TEXT = "data.text={mix: tales, length: 32, global_batch: 4, weight: 0.5}"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (240, 240, 240)}


def make_store(path: Path) -> Store:
    """A store with pairs of every form, 'things' (60 in two shards) and 'more' (20), 'colours' (80 questions
    about the colour of a picture), and tokens of bytes, 'tales'."""
    store = Store(path)
    keep(store, ByteTokenizer())
    write_pairs(store, "things", some_pairs(60), per_shard=40)
    write_pairs(store, "more", some_pairs(20, seed=1))
    write_pairs(store, "colours", list(coloured_pairs(80)))
    write_tokens(store, "tales", [small_corpus(80, longest=4)])
    return store


def coloured_pairs(count: int) -> Iterator[TestPair]:
    """Each a picture of one colour, more or less bright, and what it is."""
    for number in range(count):
        name = list(COLOURS)[number % len(COLOURS)]
        yield TestPair([coloured(name, number)], turns=[("user", "<image>\nColour?"), ("assistant", name)])


def coloured(name: str, seed: int) -> NDArray[np.uint8]:
    """A picture [H, W, C] of this colour with some noise."""
    noise_HWC = np.random.default_rng(seed).integers(-15, 16, (16, 16, 3))
    return np.clip(np.array(COLOURS[name]) + noise_HWC, 0, 255).astype(np.uint8)


def tiny(store: Store, run_dir: Path | str, *overrides: str) -> VLMTaskConfig:
    return read_recipe(
        None, [*TINY, "data.mix=things", f"data.store={store.url}", f"run.dir={run_dir}", *overrides]
    )


def run(store: Store, run_dir: Path, *overrides: str) -> Outcome:
    return run_task(resolve_vlm(tiny(store, run_dir, *overrides)), quiet=True)
