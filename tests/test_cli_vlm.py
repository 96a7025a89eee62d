"""foundry-train vlm, sample and describe, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foundry_testing import llm_runs
from foundry_testing.shells import said
from foundry_testing.vlm_runs import COLOURS, TEXT, TINY, coloured, make_store
from PIL import Image

from robot_foundry.catalog.store import Store
from robot_foundry.cli import foundry_eval
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.tasks.vlm.trained import load_trained


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that knows four colours."""
    folder = tmp_path_factory.mktemp("run")
    settings = [*TINY, "data.mix=colours", "data.rows.length=48", "optim.lr=1e-2", f"run.dir={folder}"]
    arguments = ["vlm", *settings, "run.steps=60", "run.save_every=60", "--store", store.url]
    assert run(group, "foundry-train", arguments) == 0
    return folder


def test_a_run_says_what_it_measured(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = (f"run.dir={tmp_path / 'run'}", "--store", store.url)
    arguments = ["vlm", *TINY, TEXT, "data.mix=things", *where]
    plan = json.loads(said(capsys, *arguments, "--dry-run", "--json")[0])
    assert (plan["steps"], plan["image_tokens"], plan["tokenizer"]["size"]) == (6, 4, 264)
    assert [row["name"] for row in plan["text_mixture"]] == ["tales"]
    assert not (tmp_path / "run").exists()
    shown, told = said(capsys, *arguments, "--dry-run")
    assert "projector" in shown and "4 tokens a picture of 16 × 16 pixels" in shown and "tales" in shown
    assert "recipe: vlm_tiny (packaged)" in told

    outcome = json.loads(said(capsys, *arguments, "--json")[0])
    last = read_metrics(tmp_path / "run")[-1]
    for name in ("bits_per_byte", "perplexity"):
        assert outcome[name] == last[name]
    assert outcome["held_out_loss"] == last["held_out"] and outcome["pictures_per_s"] > 0
    assert outcome["next"] == f'foundry-train sample {tmp_path / "run"} --image FILE "…"'
    shown, _ = said(capsys, *arguments)
    assert "resumed from    step 6" in shown


def test_what_it_cannot_train_on_is_said_with_what_to_do(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    _, told = said(capsys, "vlm", "data.mix=thinks", "--store", store.url, code=1)
    assert "did you mean 'things'" in told
    _, told = said(capsys, "vlm", "data.mix=tales", "--store", store.url, code=2)
    assert "this trains on pairs" in told and "foundry-data ingest pairs" in told
    _, told = said(capsys, "vlm", "data.mix=things", "init.lm=x", "--store", store.url, code=2)
    assert "init.lm: is not a key, did you mean 'llm'" in told


def test_pictures_are_asked_about(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in COLOURS:
        file = tmp_path / f"{name}.png"
        Image.fromarray(coloured(name, 500)).resize((40, 40)).save(file)
        shown, _ = said(capsys, "sample", str(trained), "--image", str(file), "Colour?", "--tokens", "9")
        assert shown == f"{name}\n"
    result = json.loads(said(capsys, "sample", str(trained), "--image", str(file), "Colour?", "--json")[0])
    assert (result["answer"], result["question"], result["images"]) == ("white", "Colour?", [str(file)])
    assert result["checkpoint"] == str(load_trained(trained).folder)
    placed = ("sample", str(trained), "--image", str(file), "<image>\nColour?")
    assert said(capsys, *placed)[0] == "white\n"
    assert said(capsys, "sample", str(trained), "--image", str(file), "", "--tokens", "2")[0]  # a caption
    assert said(capsys, "sample", str(trained), "Colour?", "--tokens", "2")[0]  # of nothing
    _, told = said(capsys, "sample", str(trained), "Colour?" * 9, "--tokens", "2")
    assert "the question has 66 tokens, the model was trained on rows of 48" in told


def test_what_cannot_be_asked_is_said(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, page = tmp_path / "a.png", tmp_path / "page.jpg"
    Image.fromarray(coloured("red", 0)).save(picture)
    page.write_text("<html>no picture</html>")
    asked = ("sample", str(trained), "Colour?")
    _, told = said(capsys, *asked, "--image", str(page), code=1)
    assert f"{page}: " in told and "web page" in told
    _, told = said(capsys, *asked, "--image", str(tmp_path / "none.png"), code=2)
    assert "none.png" in told
    _, told = said(capsys, *asked, "--temperature", "0.5", "--seed", "1", code=2)
    assert "leave --temperature, --seed out" in told
    _, told = said(capsys, "sample", str(trained), "<image> <image>", "--image", str(picture), code=2)
    assert "there are 1 pictures for 2 places of <image>" in told


def test_a_language_model_sees_no_pictures(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llm_runs.run(llm_runs.make_store(tmp_path / "store"), tmp_path / "run", "run.steps=1")
    Image.fromarray(coloured("red", 0)).save(tmp_path / "a.png")
    asked = ("sample", str(tmp_path / "run"), "Colour?", "--image", str(tmp_path / "a.png"))
    _, told = said(capsys, *asked, code=1)
    assert "sees no pictures" in told and "foundry-train vlm" in told
    _, told = said(capsys, "export", str(trained), str(tmp_path / "out"), code=1)
    assert "no checkpoint of a language model" in told and "--format safetensors" in told


@pytest.mark.parametrize("recipe", ["vlm_tiny", "siglip_tiny"])
def test_a_recipe_is_described_without_data(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    cost = json.loads(said(capsys, "describe", recipe, "--json")[0])
    parts = cost["parameters"]
    assert cost["task"] == "vlm" and parts["vision"] == 276_720
    assert parts["total"] == sum(parts.values()) - parts["total"] + 2 * (recipe == "siglip_tiny")


def test_data_that_no_run_has_seen_is_asked_about_in_part_and_told(
    trained: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for mix, is_new in (("things", True), ("colours", False)):
        arguments = ["vlm", str(trained), mix, "--store", store.url, "--dry-run"]
        assert run(foundry_eval.group, "foundry-eval", arguments) == 0
        assert ("--split all asks about all of it" in capsys.readouterr().err) is is_new
