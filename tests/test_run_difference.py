"""In what two runs differ: what a researcher checks before the two are compared."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from foundry_testing import trainer_runs, vlm_runs

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.difference import Compared, compare
from robot_foundry.trainer.recipes.form import resolved
from robot_foundry.trainer.recipes.yaml_text import read_yaml, write_yaml
from robot_foundry.trainer.tasks.known import TASKS, task_of

FACTS = ("order", "data", "normalizer", "tokenizer", "seed", "start", "code")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trainer_runs.make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def first(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    trainer_runs.run(store, folder, "run.steps=2")
    return folder


def other(store: Store, folder: Path, first: Path, *overrides: str) -> Compared:
    trainer_runs.run(store, folder, "run.steps=2", *overrides)
    return compare(first, folder)


def unequal(found: Compared) -> list[str]:
    return [name for name in FACTS if not found.is_equal(name)]


def test_a_run_elsewhere_differs_in_nothing(store: Store, first: Path, tmp_path: Path) -> None:
    found = other(store, tmp_path / "again", first)
    assert unequal(found) == [] and found.config == ()


def test_another_model_draws_the_same_samples(store: Store, first: Path, tmp_path: Path) -> None:
    """And so does another chunk: what a model makes of a sample decides nothing."""
    found = other(store, tmp_path / "run", first, "model.taps=1", "data.window.horizon=3")
    assert found.is_equal("order") and found.is_equal("data") and not found.is_equal("normalizer")
    assert [key for key, *_ in found.config] == ["data.window.horizon", "model.taps"]


@pytest.mark.parametrize(
    ("override", "facts"),
    [
        ("seed=1", ["order", "seed"]),
        ("data.global_batch=4", ["order"]),
        ("data.mix=lift=1,seven=1", ["order", "data", "normalizer"]),
    ],
)
def test_what_changes_the_order_is_said(
    override: str, facts: list[str], store: Store, first: Path, tmp_path: Path
) -> None:
    assert unequal(other(store, tmp_path / "run", first, override)) == facts


def test_where_a_run_starts_is_a_difference_wherever_that_lies(
    store: Store, first: Path, tmp_path: Path
) -> None:
    shutil.copytree(first, tmp_path / "moved")
    runs = [tmp_path / "a", tmp_path / "b"]
    for run, origin in zip(runs, (first, tmp_path / "moved"), strict=True):
        trainer_runs.run(store, run, "run.steps=2", f"init.weights={origin}")
    assert unequal(compare(*runs)) == []
    assert [key for key, *_ in compare(*runs).config] == ["init.weights"]
    assert unequal(compare(first, runs[0])) == ["start"]


def without_manifest(run: Path, copy: Path) -> Path:
    """The newest checkpoint of a copy of the run, which is older than manifests, and so may be changed."""
    shutil.copytree(run, copy)
    newest = checkpoint.latest(copy)
    assert newest is not None
    state = checkpoint.read_json(newest, "state.json")
    del state["format"]
    (newest / "state.json").write_text(json.dumps(state))
    (newest / "manifest.json").unlink()
    return newest


def test_older_checkpoints_do_not_say(first: Path, tmp_path: Path) -> None:
    newest = without_manifest(first, tmp_path / "old")
    lineage = checkpoint.read_json(newest, "lineage.json")
    del lineage["order"], lineage["code"]
    (newest / "lineage.json").write_text(json.dumps(lineage))
    with pytest.warns(match="was written before checkpoints had a manifest"):
        found = compare(first, tmp_path / "old")
    assert found.is_equal("order") is None and found.is_equal("code") is None and found.is_equal("data")


def test_keys_newer_than_a_checkpoint_have_their_defaults(first: Path, tmp_path: Path) -> None:
    newest = without_manifest(first, tmp_path / "old")
    values = read_yaml((newest / "config.yaml").read_text(), "config.yaml")
    del values["model"]["objective"], values["data"]["window"]["flags"], values["optim"]["lr_scales"]
    values["model"]["of_another_version"] = 3
    (newest / "config.yaml").write_text(write_yaml(values))
    with pytest.warns(match="was written before checkpoints had a manifest"):
        found = compare(first, tmp_path / "old")
    assert found.config == (("model.of_another_version", None, 3),)


@pytest.mark.parametrize("name", TASKS)
def test_each_task_knows_its_own_configuration(name: str) -> None:
    """And completes it: a key left out, at any depth, is what the task's class says."""
    recipe = import_module(f"robot_foundry.trainer.tasks.{name}.recipe")
    values = resolved(recipe.read_recipe(None, ["data.mix=x"]))
    task = task_of(values)
    assert task is not None and task.name == name and task.completed(values) == values
    older = json.loads(json.dumps(values))
    del older["run"]["determinism"], older["init"], older["optim"]["betas"]
    completed = task_of(older).completed(older)  # type: ignore[union-attr]
    default = resolved(recipe.FORM.config())
    assert completed["init"] == default["init"] and completed["run"]["determinism"] == "strict"
    assert list(completed["optim"]["betas"]) == [0.9, 0.95]


def test_a_configuration_of_no_task_stays_as_it_is() -> None:
    assert task_of({}) is None


def test_text_beside_pairs_is_part_of_the_order(tmp_path: Path) -> None:
    store = vlm_runs.make_store(tmp_path / "store")
    for name, settings in (("alone", []), ("beside", [vlm_runs.TEXT]), ("same", [vlm_runs.TEXT])):
        vlm_runs.run(store, tmp_path / name, "run.steps=1", *settings)
    assert compare(tmp_path / "beside", tmp_path / "same").is_equal("order")
    found = compare(tmp_path / "alone", tmp_path / "beside")
    assert not found.is_equal("order") and found.is_equal("order of pairs")
    assert found.to_json()["order of text"]["values"][0] == "none"


def test_the_command_lists_them(
    store: Store, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer_runs.run(store, tmp_path / "run", "run.steps=2", "optim.lr=0.5")
    assert run_command(group, "foundry-train", ["diff", str(first), str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "optim.lr" in out and "0.5" in out and "normalizer" in out
    assert run_command(group, "foundry-train", ["diff", str(first), str(tmp_path / "run"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["order"]["equal"] is True and list(told["config"]) == ["optim.lr"]
