"""Checkpoints out: transformers computes the same, begins prompts as training did, and it reads back."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch
import transformers
from foundry_testing import llm_runs, trainer_runs
from foundry_testing.transformers_folders import our_logits, some_ids, their_logits
from safetensors.torch import load_file

from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.runtime.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from robot_foundry.shards.tokens import bpe, tokenizers
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.trainer.checkpoints import tensors
from robot_foundry.trainer.checkpoints.writing import save
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.attention import RopeScaling
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.llm import LLM, LLMConfig
from robot_foundry.trainer.pretrained.reading import read_pretrained
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.recipes.yaml_text import write_yaml
from robot_foundry.trainer.settings import RunConfig
from robot_foundry.trainer.tasks.llm.config import DataConfig, LLMTaskConfig
from robot_foundry.trainer.tasks.llm.trained import load_trained

DECODER = DecoderConfig(width=32, depth=2, heads=4, kv_heads=2, mlp_hidden=48, vocabulary=320)
CONFIGS = {
    "llama": ("LlamaForCausalLM", LLMConfig(DECODER)),
    "untied": ("LlamaForCausalLM", LLMConfig(replace(DECODER, norm_eps=1e-5, rope_theta=5e5), tied=False)),
    "scaled": (
        "LlamaForCausalLM",
        LLMConfig(replace(DECODER, head_width=16, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 16))),
    ),
    "qwen2": ("Qwen2ForCausalLM", LLMConfig(replace(DECODER, qkv_bias=True))),
    "qwen2 wide": ("Qwen2ForCausalLM", LLMConfig(replace(DECODER, qkv_bias=True, head_width=12))),
    "qwen3": ("Qwen3ForCausalLM", LLMConfig(replace(DECODER, qk_norm=True, head_width=16), tied=False)),
    "gelu": ("ArceeForCausalLM", LLMConfig(replace(DECODER, mlp="gelu"))),
    "relu": ("ArceeForCausalLM", LLMConfig(replace(DECODER, mlp="relu", kv_heads=4))),
}


def model_of(config, seed=0):
    """One whose norms and biases are not as they begin."""
    model = initialise(LLM(config), seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def checkpoint_of(run_dir, model, tokenizer=None, ema=None):
    """A checkpoint as a run of a language model leaves it."""
    stored = {f"model/{name}": p.detach() for name, p in model.named_parameters()}
    stored |= {f"ema/{name}": p.detach() for name, p in (ema or torch.nn.Module()).named_parameters()}
    data = DataConfig(mix="corpus", rows=RowSpec(length=64))
    config = LLMTaskConfig(model=model.config, data=data, run=RunConfig(steps=3))
    files = {
        "config.yaml": write_yaml(resolved(config)),
        "tokenizer.json": json.dumps((tokenizer or ByteTokenizer()).to_json()),
        "lineage.json": json.dumps({"mixture": "corpus"}),
    }
    state = {"step": 3, "identity": {}}
    return save(run_dir / "checkpoints", state, stored, files)


def export(*arguments):
    return run_command(group, "foundry-train", ["export", *map(str, arguments)])


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_computes_the_same_and_it_reads_back_bit_for_bit(name, tmp_path):
    architecture, config = CONFIGS[name]
    model = model_of(config)
    checkpoint_of(tmp_path / "run", model)

    assert export(tmp_path / "run", tmp_path / "out") == EXIT_OK

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(theirs).__name__ == architecture
    ids = some_ids(ByteTokenizer.size)
    torch.testing.assert_close(their_logits(theirs, ids), our_logits(model, ids), rtol=0, atol=1e-5)
    back = read_pretrained(tmp_path / "out")
    assert back.config == config
    assert all(torch.equal(back.tensor(n), p) for n, p in model.named_parameters())


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_its_tokenizer_has_the_same_ids_and_begins_prompts_as_documents_began(kind, tmp_path):
    texts = ["Grasp the red cube <obs> 42 times.", "größer als 北京\n\n\tdef f(x):"]
    tokenizer = ByteTokenizer() if kind == "bytes" else bpe.train(texts * 5, 300)
    checkpoint_of(tmp_path / "run", model_of(LLMConfig(DECODER)), tokenizer)
    export(tmp_path / "run", tmp_path / "out")

    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        assert theirs(text, split_special_tokens=True).input_ids == [tokenizer.start, *ids.tolist()]
        assert theirs.decode(ids.tolist()) == text
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.end, tokenizer.pad)
    assert tokenizers.read(tmp_path / "out").id == tokenizer.id


def test_a_run_goes_out_and_another_starts_from_it(tmp_path):
    store = llm_runs.make_store(tmp_path / "store")
    llm_runs.run(store, tmp_path / "run", "run.steps=2")
    assert export(tmp_path / "run", tmp_path / "out") == EXIT_OK
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1

    trained = load_trained(tmp_path / "run")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = some_ids(trained.tokenizer.size)
    torch.testing.assert_close(their_logits(theirs, ids), our_logits(trained.model, ids), rtol=0, atol=1e-5)
    assert theirs.config.max_position_embeddings == trained.config.data.rows.length
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    assert lineage["mixture_id"] == json.loads((trained.folder / "lineage.json").read_text())["mixture_id"]

    still = ("optim.lr=1e-9", "optim.muon_lr=1e-9", "optim.schedule=constant", "optim.warmup=0")
    origin = (f"init.weights={tmp_path / 'out'}", "init.model=weights")
    llm_runs.run(store, tmp_path / "again", *origin, "run.steps=1", *still)
    again = load_trained(tmp_path / "again").model
    for name, parameter in trained.model.named_parameters():
        torch.testing.assert_close(again.get_parameter(name), parameter, rtol=0, atol=1e-6)


def test_ids_that_the_tokenizer_has_not_are_never_generated(tmp_path):
    model = model_of(LLMConfig(DECODER, tied=False))
    with torch.no_grad():
        model.output.weight[ByteTokenizer.size :] *= 100
    checkpoint_of(tmp_path / "run", model)
    export(tmp_path / "run", tmp_path / "out")

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = some_ids(256, length=4)
    generated = theirs.generate(ids, max_new_tokens=12, do_sample=False)[:, 4:]
    assert generated.max() < ByteTokenizer.size <= their_logits(theirs, ids).argmax(-1).max()


def test_averaged_weights_go_out_where_there_are_some(tmp_path):
    config = LLMConfig(DECODER)
    average = model_of(config, seed=1)
    checkpoint_of(tmp_path / "run", model_of(config), ema=average)
    export(tmp_path / "run", tmp_path / "out")

    back = read_pretrained(tmp_path / "out")
    assert all(torch.equal(back.tensor(n), p) for n, p in average.named_parameters())


def test_safetensors_are_written_of_any_model(tmp_path, capsys):
    store = trainer_runs.make_store(tmp_path / "store")
    outcome = trainer_runs.run(store, tmp_path / "run", "run.steps=1")
    assert export(tmp_path / "run", tmp_path / "out") == EXIT_FAILED
    assert "is no checkpoint of a language model" in (told := capsys.readouterr().err)
    assert "--format safetensors" in told

    assert export(tmp_path / "run", tmp_path / "out", "--format", "safetensors", "--json") == EXIT_OK
    said = json.loads(capsys.readouterr().out)
    shapes = tensors.shapes(outcome.checkpoint)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert {f"{said['weights']}/{name}": tuple(t.shape) for name, t in written.items()} == {
        name: shape for name, shape in shapes.items() if name.startswith(said["weights"])
    }
    assert {"config.yaml", "normalizer.json", "spaces.json", "model.safetensors"} <= set(said["files"])
    assert sorted(said["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"qkv_bias": True, "qk_norm": True}, "both biases and norms"),
        ({"qk_norm": True, "mlp": "relu"}, "its MLP is relu, and its queries and keys have biases or norms"),
    ],
)
def test_a_model_that_transformers_has_not_says_why(odd, why, tmp_path, capsys):
    checkpoint_of(tmp_path / "run", model_of(LLMConfig(replace(DECODER, **odd))))

    assert export(tmp_path / "run", tmp_path / "out") == EXIT_FAILED
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert export(tmp_path / "run", tmp_path / "out", "--format", "safetensors") == EXIT_OK


def test_what_is_there_stays_and_a_dry_run_writes_nothing(tmp_path, capsys):
    checkpoint_of(tmp_path / "run", model_of(LLMConfig(DECODER)))
    (tmp_path / "out").mkdir()
    assert export(tmp_path / "run", tmp_path / "out") == EXIT_USAGE
    (tmp_path / "out").rmdir()
    before = sorted(tmp_path.iterdir())

    assert export(tmp_path / "run", tmp_path / "out", "--dry-run") == EXIT_OK
    assert "would write" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


def export_killed(folder):
    os.environ["FOUNDRY_KILL_AT"] = "export-written-not-renamed"
    export(folder / "run", folder / "out")


@pytest.mark.usefixtures("no_ray")
def test_a_killed_export_leaves_no_folder_and_the_next_one_is_whole(tmp_path):
    model = model_of(LLMConfig(DECODER))
    checkpoint_of(tmp_path / "run", model)
    # Forked: a child neither imports nor exits through pytest.
    child = multiprocessing.get_context("fork").Process(target=export_killed, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()

    assert export(tmp_path / "run", tmp_path / "out") == EXIT_OK
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    assert read_pretrained(tmp_path / "out").config == model.config
