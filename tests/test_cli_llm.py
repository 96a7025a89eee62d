"""foundry-train llm and sample, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foundry_testing import trainer_runs
from foundry_testing.llm_runs import TINY, make_store, tales
from foundry_testing.shells import said
from foundry_testing.small_corpus import ODD
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run
from robot_foundry.shards.tokens import bpe
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.tasks.llm.sampling import text_pieces
from robot_foundry.trainer.tasks.llm.trained import load_trained

PROMPT = "The red arm"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that knows the letters of 'tales'."""
    folder = tmp_path_factory.mktemp("run")
    settings = [*TINY, "data.mix=tales", "run.steps=80", "run.save_every=80", f"run.dir={folder}"]
    assert run(group, "foundry-train", ["llm", *settings, "--store", store.url]) == 0
    return folder


def test_a_run_says_what_it_measured(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["llm", *TINY, "data.mix=tales", f"run.dir={tmp_path / 'run'}", "--store", store.url]
    plan = json.loads(said(capsys, *arguments, "--dry-run", "--json")[0])
    assert (plan["steps"], plan["tokens"], plan["tokenizer"]["size"]) == (6, 6 * 8 * 32, 264)
    assert plan["config"]["model"]["decoder"]["vocabulary"] == 320
    assert not (tmp_path / "run").exists()
    shown, _ = said(capsys, *arguments, "--dry-run")
    assert "1,536 tokens" in shown and "embedding" in shown and "6 steps of 8 samples" in shown

    pointer = tmp_path / "pointer.json"
    outcome = json.loads(said(capsys, *arguments, "--json", "--pointer", str(pointer))[0])
    last = read_metrics(tmp_path / "run")[-1]
    for name in ("bits_per_byte", "perplexity"):
        assert outcome[name] == last[name]
    assert outcome["held_out_loss"] == last["held_out"] and outcome["tokens_per_s"] > 0
    assert outcome["next"] == f'foundry-train sample {tmp_path / "run"} "…"'
    shown, told = said(capsys, *arguments)
    assert f"bits per byte   {last['bits_per_byte']:.4f}" in shown and "resumed from    step 6" in shown
    assert "recipe: llm_tiny (packaged)" in told
    assert load_trained(pointer).folder == Path(outcome["checkpoint"])


def test_what_it_cannot_train_on_is_said_with_what_to_do(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--store", store.url]
    _, told = said(capsys, "llm", "data.mix=tails", *where, code=1)
    assert "did you mean 'tales'" in told
    _, told = said(capsys, "llm", "run.tokens=1e6", *where, code=2)
    assert "data.mix: is missing" in told
    _, told = said(capsys, "llm", "llm_tyni", "data.mix=tales", *where, code=2)
    assert "did you mean 'llm_tiny'" in told


def test_a_folder_that_cannot_be_made_is_named(
    store: Store, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    settings = [*TINY, "data.mix=tales", f"run.dir={file}", "--store", store.url]
    _, told = said(capsys, "llm", *settings, code=1)
    assert f"File exists: {file}" in told and "give a folder, not a file" in told
    _, told = said(capsys, "export", str(trained), str(tmp_path / ("x" * 300)), code=1)
    assert "File name too long" in told and "give a shorter name" in told


def test_a_sample_begins_with_its_prompt_and_depends_on_its_arguments_alone(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(*options: str) -> dict[str, Any]:
        return json.loads(said(capsys, "sample", str(trained), PROMPT, "--json", *options)[0])

    first = sample("--tokens", "40")
    assert len(first["ids"]) == 40 or first["ended"]
    assert first == sample("--tokens", "40")
    assert first["text"] != sample("--tokens", "40", "--seed", "1")["text"]
    assert first["ids"][:20] == sample("--tokens", "20")["ids"]
    likeliest = sample("--temperature", "0", "--seed", "3")
    assert likeliest["text"] == sample("--temperature", "0")["text"]
    assert likeliest["text"] == sample("--top-p", "1e-9")["text"]
    letters = {*"".join(tales())}
    assert sum(c in letters for c in first["text"]) > 0.6 * len(first["text"])  # 37 of 264 ids

    shown, told = said(capsys, "sample", str(trained), PROMPT, "--tokens", "40")
    assert shown == f"{PROMPT}{first['text']}\n"
    assert "40 tokens" in told and "trained on rows of 32 tokens" in told
    empty = json.loads(said(capsys, "sample", str(trained), "", "--tokens", "3", "--json")[0])
    assert empty["prompt"] == "" and len(empty["ids"]) <= 3


def test_what_is_no_language_model_is_not_sampled(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, told = said(capsys, "sample", str(tmp_path), PROMPT, code=1)
    assert "holds no complete checkpoint" in told
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    _, told = said(capsys, "sample", str(tmp_path / "notes.txt"), PROMPT, code=1)
    assert "notes.txt is no pointer file" in told and "--pointer FILE" in told
    robots = trainer_runs.make_store(tmp_path / "robots")
    trainer_runs.run(robots, tmp_path / "policy", "run.steps=1")
    _, told = said(capsys, "sample", str(tmp_path / "policy"), PROMPT, code=1)
    assert "step-00000001 is no checkpoint of a language model" in told


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((PROMPT, "--top-p", "0"), "top-p"),
        ((PROMPT, "--temperature", "nan"), "temperature"),
        ((PROMPT, "--device", "gpu"), "'gpu' is none of cpu, cuda, cuda:0"),
        ((PROMPT, "--device", "cuda:999"), "'cuda:999' is not there"),
        (("half \udce6",), "PROMPT has bytes that are not UTF-8"),
    ],
)
def test_what_a_sample_cannot_be_is_a_mistake_in_the_command(
    arguments: tuple[str, ...], why: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, told = said(capsys, "sample", str(trained), *arguments, code=2)
    assert why in told and "unexpected" not in told


BPE = bpe.train(["the red arm sees the red cube", "grüße und 日本語"], 300)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(ODD)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
@given(prompt=ANY, text=ANY)
def test_pieces_make_up_the_text_and_no_piece_has_half_a_character(
    tokenizer: Any, prompt: str, text: str
) -> None:
    ids = [*tokenizer.encode([text])[0].tolist(), tokenizer.pad]
    pieces = list(text_pieces(tokenizer, prompt, ids))
    assert "".join(pieces) == text
    assert all(pieces) and ("\ufffd" in text or "\ufffd" not in "".join(pieces))
