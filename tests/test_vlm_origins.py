"""What a vision-language model begins with: a language model, a vision tower, a whole run or some of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foundry_testing import llm_runs, trainer_runs, vision_folders
from foundry_testing.trainer_runs import tensors
from foundry_testing.vlm_runs import TEXT, make_store, run, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tokens.tokenizers import keep
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.tokens import bpe
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.vit import resized_positions
from robot_foundry.trainer.pretrained.vision import read_vision
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vlm.dry_run import planned
from robot_foundry.trainer.tasks.vlm.resolving import resolve_vlm
from robot_foundry.trainer.tasks.vlm.trained import load_trained
from robot_foundry.trainer.tasks.vlm.vlm_task import VLMTask

VISION = "backbone.vision."


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained_run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of a vision-language model."""
    return run(store, tmp_path_factory.mktemp("trained"), "run.steps=2")


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of a language model of bytes."""
    root = tmp_path_factory.mktemp("language")
    return llm_runs.run(llm_runs.make_store(root / "store"), root / "run", "run.steps=2", "model.tied=false")


def begun(task: VLMTask) -> dict[str, torch.Tensor]:
    """The first weights of a run, by name."""
    model = initialise(allocated(task.build_model, "cpu"), task.config.seed)
    task.take_origin(model)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def averages(folder: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a checkpoint, by name."""
    return {n.removeprefix("ema/"): t for n, t in tensors(folder).items() if n.startswith("ema/")}


def test_a_language_model_begins_a_decoder(language: Any, store: Store, tmp_path: Path) -> None:
    task = resolve_vlm(
        tiny(store, tmp_path, f"init.llm={language.run_dir}", "model.backbone.decoder.depth=5")
    )
    assert task.config.model.backbone.decoder.depth == 2 and not task.config.model.tied
    weights, before = begun(task), averages(language.checkpoint)
    fresh = begun(replace(task, origin=None))
    for name, tensor in weights.items():
        theirs = before.get(name.removeprefix("backbone."))
        assert torch.equal(tensor, fresh[name] if theirs is None else theirs), name
    assert {name.removeprefix("backbone.") for name in weights} >= before.keys()

    with pytest.warns(
        UserWarning, match="no weights are given for backbone.vision, backbone.projector, which"
    ):
        outcome = run_task(task, quiet=True)
    init = checkpoint.read_json(outcome.checkpoint, "lineage.json")["init"]
    assert init["init.llm"]["step"] == 2
    with pytest.raises(FoundryError, match="init.llm: there is no nowhere"):
        resolve_vlm(tiny(store, tmp_path / "x", "init.llm=nowhere"))
    with pytest.raises(FoundryError, match="no checkpoint of a language model"):
        resolve_vlm(tiny(store, tmp_path / "x", f"init.llm={outcome.run_dir}"))


def test_a_run_goes_on_without_what_it_began_with(language: Any, store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(language.run_dir, source)
    settings = (f"init.llm={source}", TEXT)
    first = run(store, tmp_path / "run", *settings, "run.steps=2")
    shutil.rmtree(source)
    again = run(store, tmp_path / "run", *settings, "run.steps=3")
    assert (first.step, again.resumed_from, again.step) == (2, 2, 3)
    with pytest.raises(FoundryError, match="cannot be resumed: seed is 0 there and 1 here"):
        run(store, tmp_path / "run", *settings, "seed=1")


def test_a_tokenizer_is_that_of_the_weights_or_of_the_recipe(
    language: Any, store: Store, tmp_path: Path
) -> None:
    other = bpe.train(["what is it? a thing, yes, a picture that shows a thing"], 290)
    keep(store, other, "things-bpe")
    named = resolve_vlm(tiny(store, tmp_path, "data.tokenizer=things-bpe"))
    assert named.config.data.tokenizer == named.tokenizer.id == other.id
    assert named.config.model.backbone.decoder.vocabulary == 320
    assert resolve_vlm(tiny(store, tmp_path)).tokenizer.size == 264
    weights = f"init.llm={language.run_dir}"
    assert resolve_vlm(tiny(store, tmp_path, weights, "data.tokenizer=byte")).tokenizer.size == 264
    with pytest.raises(FoundryError, match="the weights know the tokenizer"):
        resolve_vlm(tiny(store, tmp_path, weights, "data.tokenizer=things-bpe"))


def test_a_whole_run_or_some_of_it_begins_another(trained_run: Any, store: Store, tmp_path: Path) -> None:
    before = averages(trained_run.checkpoint)
    weights = f"init.weights={trained_run.run_dir}"
    whole = resolve_vlm(tiny(store, tmp_path, weights, "model.backbone.decoder.depth=4"))
    assert whole.config.model == load_trained(trained_run.run_dir).config.model
    taken = begun(whole)
    assert taken.keys() == before.keys() and all(torch.equal(taken[name], before[name]) for name in taken)

    some = resolve_vlm(
        tiny(store, tmp_path, weights, "init.only=[backbone.vision]", "model.backbone.decoder.depth=4")
    )
    assert some.config.model.backbone.decoder.depth == 4
    begun_some, fresh = begun(some), begun(replace(some, origin=None))
    for name, tensor in begun_some.items():
        assert torch.equal(tensor, before[name] if name.startswith(VISION) else fresh[name])
    with pytest.raises(FoundryError, match=r"mlp.up.weight is \(32, 16\) there and \(64, 16\) here"):
        resolve_vlm(
            tiny(store, tmp_path, weights, "init.only=[backbone]", "model.backbone.decoder.mlp_hidden=64")
        ).check_origin()
    for word in ("backbone.vison", "vision"):
        with pytest.raises(FoundryError, match=f"begins with '{word}', did you mean 'backbone.vision'"):
            resolve_vlm(tiny(store, tmp_path, weights, f"init.only=[{word}]")).check_origin()


def test_a_whole_run_is_of_what_the_recipe_learns(trained_run: Any, store: Store, tmp_path: Path) -> None:
    asked = (f"init.weights={trained_run.run_dir}", "model.objective=contrastive")
    with pytest.raises(
        UsageError, match="learns the objective answer, the recipe says contrastive"
    ) as caught:
        resolve_vlm(tiny(store, tmp_path, *asked))
    assert "init.only=[backbone]" in caught.value.hint
    resolve_vlm(tiny(store, tmp_path, *asked, "init.only=[backbone]")).check_origin()


@pytest.mark.parametrize("task", ["vlm", "vla"])
def test_a_vision_tower_is_taken_from_any_run_at_another_size(
    task: str, store: Store, tmp_path: Path
) -> None:
    """Of 4 × 4 learned positions of patches become 6 × 8."""
    tower = (
        "model.backbone.vision={patch: 4, width: 16, depth: 3, heads: 2, mlp_hidden: 32, position: learned}"
    )
    if task == "vlm":
        source = run(store, tmp_path / "source", tower, "run.steps=1")
    else:
        robots = trainer_runs.make_store(tmp_path / "robots")
        source = trainer_runs.run(robots, tmp_path / "source", tower, "run.steps=1")
    before = averages(source.checkpoint)
    settings = (f"init.vision={source.run_dir}", "data.rows.image=[24, 32]", "init.vision_depth=2")
    resolved_task = resolve_vlm(tiny(store, tmp_path / "run", *settings))
    assert resolved_task.config.model.backbone.vision.depth == 2
    weights, fresh = begun(resolved_task), begun(replace(resolved_task, origin=None))
    for name, tensor in weights.items():
        if name == f"{VISION}position":
            assert torch.equal(tensor, resized_positions(before[name], (4, 4), (6, 8)))
        else:
            assert torch.equal(tensor, before[name] if name.startswith(VISION) else fresh[name]), name
    with pytest.raises(UsageError, match="has 3 layers, 4 cannot be taken"):
        resolve_vlm(tiny(store, tmp_path / "x", settings[0], "init.vision_depth=4"))


def test_a_tower_of_others_and_a_language_model_begin_a_run_together(
    language: Any, store: Store, tmp_path: Path
) -> None:
    """As it is, its features are those that the library has: `test_pretrained_vision` says so."""

    folder = tmp_path / "dinov2"
    vision_folders.made("dinov2").save_pretrained(folder)
    settings = (f"init.vision={folder}", f"init.llm={language.run_dir}", "data.rows.image=[16, 24]")
    task = resolve_vlm(tiny(store, tmp_path / "run", *settings, "init.vision_depth=2"))
    tower = read_vision(folder).cut(2)
    assert task.config.model.backbone.vision == tower.config
    names = [name for name in begun(task) if name.startswith(VISION)]
    expected = {name: torch.empty(tower.shapes((16, 24))[name.removeprefix(VISION)]) for name in names}
    tower.fill({name.removeprefix(VISION): tensor for name, tensor in expected.items()}, (16, 24))
    weights = begun(task)
    assert all(torch.equal(weights[name], expected[name]) for name in names) and len(names) > 20
    told = planned(task).values["init"]
    assert told["init.vision"]["id"] == tower.id and told["init.llm"]["step"] == 2
    with pytest.warns(UserWarning, match="no weights are given for backbone.projector, which begin"):
        assert run_task(task, quiet=True).step == 6


def test_a_tower_of_a_language_model_is_none(language: Any, store: Store, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="has no vision tower") as caught:
        resolve_vlm(tiny(store, tmp_path, f"init.vision={language.run_dir}"))
    assert "init.llm" in caught.value.hint
