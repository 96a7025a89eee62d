"""Shrunk training runs of language models on small stores, for tests."""

from __future__ import annotations

from pathlib import Path

from foundry_testing.small_corpus import small_corpus
from foundry_testing.tokens import write_tokens
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tokens.tokenizers import keep
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.trainer.outcome import Outcome
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.llm.config import LLMTaskConfig
from robot_foundry.trainer.tasks.llm.recipe import read_recipe
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm

TINY = (
    "data.rows.length=32",
    "data.global_batch=8",
    "model.decoder={width: 16, depth: 2, heads: 2, kv_heads: 1, mlp_hidden: 32}",
    "run.steps=6",
    "run.save_every=2",
    "run.log_every=1",
    "run.eval_samples=8",
)


def tales() -> list[str]:
    """The documents of 'tales'."""
    return small_corpus(60, longest=6)


def make_store(path: Path) -> Store:
    """A store with two datasets of tokens of bytes: 'tales' of 60 documents in two shards, 'notes' of 20."""
    store = Store(path)
    keep(store, ByteTokenizer())
    write_tokens(store, "tales", [tales()[:40], tales()[40:]], block_tokens=1000)
    write_tokens(store, "notes", [small_corpus(20, seed=1, longest=2)])
    return store


def tiny(store: Store, run_dir: Path | str, *overrides: str) -> LLMTaskConfig:
    return read_recipe(
        None, [*TINY, "data.mix=tales", f"data.store={store.url}", f"run.dir={run_dir}", *overrides]
    )


def run(store: Store, run_dir: Path, *overrides: str) -> Outcome:
    return run_task(resolve_llm(tiny(store, run_dir, *overrides)), quiet=True)
