"""A language model is trained, measured on documents that it never saw, and started from other weights."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from foundry_testing.llm_runs import make_store, run, tales, tiny
from foundry_testing.trainer_runs import records, tensors

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.text.blocks import document_hash
from robot_foundry.shards.tokens import bpe
from robot_foundry.trainer.checkpoints import checkpoint, proof
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.llm.inputs import text_inputs
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.llm.trained import load_trained

EXACT = "run.eval_samples=100000"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def first(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that has seen 'tales' a few times."""
    settings = ("run.steps=120", "run.log_every=40", "run.save_every=60", EXACT)
    return run(store, tmp_path_factory.mktemp("first"), *settings)


def test_it_learns_the_words(first: Any) -> None:
    """A byte of sentences of 32 words takes far less than one of letters at random."""
    losses = [record["loss"] for record in records(first.run_dir) if "loss" in record]
    assert losses[0] > 4 > 2.5 > losses[-1]
    assert first.figures["bits_per_byte"] < 3.2
    assert first.figures["perplexity"] == pytest.approx(math.exp(first.held_out_loss))
    assert first.rates["tokens_per_s"] > 0


def test_bits_per_byte_are_of_all_that_is_held_out_and_of_nothing_twice(first: Any, store: Store) -> None:
    """The same rows, one after the other in an epoch of their own, over the bytes of the documents."""
    trained = load_trained(first.run_dir)
    with load("tales", RowSpec(32), seed=0, global_batch=1, store=store, threads=0, split="val") as loader:
        rows = [loader.batch(b) for b in range(loader.counts()[0])]
    with torch.no_grad():
        losses = [trained.model(text_inputs(row))["text"] for row in rows]
    nats = sum(float(total) for total, _ in losses)
    texts = _held_out_texts()
    num_bytes, num_tokens = sum(map(len, texts)), sum(len(text) + 1 for text in texts)
    assert sum(int(count) for _, count in losses) == num_tokens
    assert first.held_out_loss == pytest.approx(nats / num_tokens, rel=1e-6)
    assert first.figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-6)
    assert len(rows) % 8  # the last batch of held-out rows is not full


def _held_out_texts() -> list[bytes]:
    """The documents whose hashes are in the lowest tenth."""
    texts = [text.encode() for text in tales()]
    held_out = [text for text in texts if 10 * document_hash(text) < 1 << 64]
    assert 0 < len(held_out) < 20
    return held_out


def test_several_datasets_are_trained_on_at_once(store: Store, tmp_path: Path) -> None:
    outcome = run(store, tmp_path, "data.mix=tales=1,notes=1", "run.steps=2")
    lineage = checkpoint.read_json(outcome.checkpoint, "lineage.json")
    assert [c["name"] for c in lineage["mixture"]["components"]] == ["notes", "tales"]
    assert lineage["tokenizer"] == load_trained(tmp_path).tokenizer.id
    assert outcome.figures["bits_per_byte"] > 0


def test_a_checkpoint_holds_all_that_using_the_model_needs(first: Any, store: Store) -> None:
    trained = load_trained(first.run_dir)
    assert trained.folder == first.checkpoint
    averaged = {
        name.removeprefix("ema/"): t for name, t in tensors(first.checkpoint).items() if "ema/" in name
    }
    weights = dict(trained.model.named_parameters())
    assert weights.keys() == averaged.keys() and all(weights[name].equal(averaged[name]) for name in weights)
    text = "The red arm."
    assert trained.tokenizer.decode(trained.tokenizer.encode([text])[0]) == text
    shutil.copytree(first.checkpoint, other := first.run_dir.parent / "other")
    for file in ("manifest.json", "config.yaml"):
        (other / file).unlink()
    with pytest.raises(FoundryError, match=r"manifest\.json is missing"):
        load_trained(other)


def test_a_run_starts_from_the_averaged_weights_of_another(first: Any, store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(first.run_dir, source)
    settings = ("data.mix=notes", f"init.weights={source}", "optim.schedule=constant", "optim.warmup=0")
    begun = run(store, tmp_path / "tuned", *settings, "run.steps=1", "optim.lr=1e-9", "optim.muon_lr=1e-9")
    before, after = tensors(first.checkpoint), tensors(begun.checkpoint)
    names = [name for name in before if name.startswith("ema/")]
    assert max(float((before[n] - after[n.replace("ema/", "model/")]).abs().max()) for n in names) < 1e-6
    origin = checkpoint.read_json(begun.checkpoint, "lineage.json")["init"]
    assert origin["step"] == 120 and origin["checkpoint"].startswith(str(source))

    half = run(store, tmp_path / "half", *settings, "run.steps=2")
    shutil.rmtree(source)
    resumed = run(store, tmp_path / "half", *settings, "run.steps=3")
    assert (half.step, resumed.resumed_from) == (2, 2)
    with pytest.raises(FoundryError, match="there is no .*source"):
        run(store, tmp_path / "never", *settings)


def test_a_model_of_other_weights_is_taken_or_refused(first: Any, store: Store, tmp_path: Path) -> None:
    weights = ("data.mix=notes", f"init.weights={first.run_dir}", "model.decoder.depth=3", "run.steps=1")
    with pytest.raises(FoundryError) as caught:
        run(store, tmp_path / "other", *weights)
    assert "decoder.blocks.2.mlp.up.weight is not there" in caught.value.message
    assert "init.model=weights" in caught.value.hint
    taken = resolve_llm(tiny(store, tmp_path / "taken", *weights, "init.model=weights"))
    assert taken.config.model.decoder.depth == 2
    assert taken.notes == (
        f"init.model=weights trains the model of {first.run_dir} as it is: the recipe's model is not used",
    )
    outcome = run_task(taken, quiet=True)
    assert load_trained(tmp_path / "taken").config.model == taken.config.model
    again = tiny(store, tmp_path / "taken", *weights, "init.model=weights", "run.steps=2")
    assert run_task(resolve_llm(again), quiet=True).resumed_from == outcome.step
    only = run(store, tmp_path / "only", *weights, "init.only=[decoder.blocks.0]")
    assert only.step == 1


def test_weights_that_know_another_tokenizer_are_refused(first: Any, store: Store, tmp_path: Path) -> None:
    """Of equal size, so that nothing but its id tells it."""
    source = tmp_path / "source"
    shutil.copytree(first.run_dir, source)
    folder = checkpoint.latest(source)
    other = bpe.train(["some text and some more text"], 264)
    (folder / "tokenizer.json").write_text(json.dumps(other.to_json()))
    names = [path.name for path in folder.iterdir() if path.name != proof.MANIFEST]
    (folder / proof.MANIFEST).write_text(proof.manifest_text(proof.entries(folder, names)))
    settings = ("data.mix=notes", f"init.weights={source}", "run.steps=1")
    with pytest.raises(FoundryError, match=f"know the tokenizer {other.id[:12]}, the data was made with"):
        run(store, tmp_path / "run", *settings)
    run(store, tmp_path / "blocks", *settings, "init.only=[decoder.blocks]")


def test_a_run_starts_from_a_folder_of_transformers(store: Store, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=320, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, rms_norm_eps=1e-5,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path / "llama")
    settings = (f"init.weights={tmp_path / 'llama'}", "init.model=weights", "run.steps=1")
    still = ("optim.lr=1e-9", "optim.muon_lr=1e-9", "optim.schedule=constant", "optim.warmup=0")
    with pytest.warns(UserWarning, match="has no tokenizer: nothing shows that its ids mean those"):
        outcome = run(store, tmp_path / "run", *settings, *still)
    trained = load_trained(tmp_path / "run")
    assert trained.config.model.decoder.norm_eps == 1e-5 and trained.config.model.decoder.mlp == "swiglu"
    embedding = tensors(outcome.checkpoint)["model/decoder.embedding.weight"]
    assert embedding.sub(theirs.model.embed_tokens.weight.detach()).abs().max() < 1e-6
    lineage = checkpoint.read_json(outcome.checkpoint, "lineage.json")["init"]
    assert lineage["pretrained"] == str(tmp_path / "llama") and len(lineage["map"]) > 5
