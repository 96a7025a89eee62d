"""What a recipe of a language model says, and what it becomes with the data that it names."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.llm_runs import make_store, tiny
from foundry_testing.tokens import WideTokenizer, write_tokens

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.recipes.form import PACKAGED, resolved
from robot_foundry.trainer.recipes.yaml_text import read_yaml, write_yaml
from robot_foundry.trainer.tasks.llm.dry_run import planned
from robot_foundry.trainer.tasks.llm.inputs import text_inputs, until
from robot_foundry.trainer.tasks.llm.recipe import from_resolved, read_recipe
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

MIX = "data.mix=tales"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


def test_packaged_recipes_need_only_data_and_are_written_as_they_are() -> None:
    recipes = [path.stem for path in PACKAGED.glob("*.yaml") if path.stem.startswith("llm_")]
    assert sorted(recipes) == ["llm_100m", "llm_1_2b", "llm_tiny"]
    for recipe in recipes:
        config = read_recipe(recipe, [MIX])
        assert config.name == recipe and config.num_steps > 1
        assert from_resolved(read_yaml(write_yaml(resolved(config)), "config.yaml")) == config


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = (
        ("data.rows.lenght=8", "data.rows.lenght: is not a key, did you mean 'length'"),
        ("data.rows.length=0", "data.rows: rows of length 0 hold no token"),
        ("data.split_by=time", "data.split_by: documents are held out whole"),
        ("model.decoder.heads=3", "model.decoder.width: 128 is no multiple of heads (3)"),
        ("init.model=weight", "init.model: 'weight' is none of recipe, weights, did you mean 'weights'"),
        ("init.only=[decoder]", "init.weights: is missing; init.only and init.model need a run"),
        ("run.tokens=0", "run.tokens: must be at least 1, not 0"),
        ("run.tokens=1.5", "run.tokens: needs a whole number or null, not 1.5"),
    )
    for override, expected in wrong:
        with pytest.raises(UsageError) as caught:
            read_recipe(None, [MIX, override])
        assert expected in caught.value.message
    with pytest.raises(UsageError) as caught:
        read_recipe(None, [MIX, *(override for override, _ in wrong[:-1])])
    assert [expected for _, expected in wrong[:-1] if expected not in caught.value.message] == []


@pytest.mark.parametrize(
    ("length", "steps"),
    [("tokens=2e6", 489), ("tokens=4096", 1), ("tokens=4097", 2), ("samples=33", 3), ("steps=7", 7)],
)
def test_a_length_is_in_tokens_rows_or_steps(length: str, steps: int) -> None:
    """Of 16 rows of 256 tokens a step."""
    assert read_recipe(None, [MIX, f"run.{length}"]).num_steps == steps


def test_policies_have_no_length_in_tokens(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run.tokens: samples are no rows of tokens here"):
        trainer_runs.tiny(Store(tmp_path), tmp_path, "run.tokens=100")


def test_data_of_another_kind_is_refused(store: Store, tmp_path: Path) -> None:
    robots = trainer_runs.make_store(tmp_path / "robots")
    with pytest.raises(UsageError, match="'lift' is of the kind robot, this trains on tokens") as caught:
        resolve_llm(tiny(robots, tmp_path, "data.mix=lift"))
    assert "foundry-data tokenize" in caught.value.hint
    with pytest.raises(UsageError, match="'tales' is of the kind tokens, this trains on robot"):
        resolve_vla(trainer_runs.tiny(store, tmp_path, MIX))


def test_a_vocabulary_has_room_for_the_tokenizer(store: Store, tmp_path: Path) -> None:
    """264 ids, rounded up to 64; a model that has more keeps them."""
    assert resolve_llm(tiny(store, tmp_path)).config.model.decoder.vocabulary == 320
    more = tiny(store, tmp_path, "model.decoder.vocabulary=1000")
    assert resolve_llm(more).config.model.decoder.vocabulary == 1000


def test_a_dataset_that_is_repeated_far_more_than_another_is_told(store: Store, tmp_path: Path) -> None:
    """'notes' is a tenth of the size of 'tales'."""
    task = resolve_llm(tiny(store, tmp_path, "data.mix=tales=1,notes=9"))
    assert len(task.notes) == 1 and "notes" in task.notes[0]
    assert resolve_llm(tiny(store, tmp_path, "data.mix=tales=9,notes=1")).notes == ()


def test_tokens_of_several_tokenizers_are_not_mixed(store: Store, tmp_path: Path) -> None:
    mixed = make_store(tmp_path / "store")
    write_tokens(mixed, "wide", [["some text"] * 20], tokenizer=WideTokenizer())
    with pytest.raises(FoundryError, match="tokens of several tokenizers cannot be mixed"):
        resolve_llm(tiny(mixed, tmp_path, "data.mix=tales=1,wide=1"))
    with pytest.raises(FoundryError, match=WideTokenizer().id):
        resolve_llm(tiny(mixed, tmp_path, "data.mix=wide"))  # its tokenizer is not in the store


def test_inputs_are_the_rows_and_what_stands_behind_a_position_counts_nothing(store: Store) -> None:
    with load("tales", RowSpec(32), seed=0, global_batch=8, store=store, threads=0) as loader:
        batch = loader.batch(1)
    inputs = text_inputs(batch)
    for name in ("token_BS", "target_BS", "segment_BS", "position_BS"):
        assert np.array_equal(getattr(inputs, name).numpy(), getattr(batch, name))
        assert getattr(inputs, name).dtype == torch.int64
    part = until(batch, 11)
    assert part.k_B.tolist() == list(range(8, 16))
    assert part.sizes["tokens"] == part.counts["text"] == (batch.segment_BS[:3] >= 0).sum()
    assert part.sizes["bytes"] == pytest.approx(batch.bytes_B[:3].sum())
    assert until(batch, 16) is batch and until(batch, 0).counts == {"text": 0}


def test_figures_are_bits_a_byte_and_the_perplexity_of_a_token(store: Store, tmp_path: Path) -> None:
    """Four tokens, each as likely as one of eight, that stand for six bytes: 12 bits of them."""
    task = resolve_llm(tiny(store, tmp_path))
    sums = HeldOutSums({"text": 4 * math.log(8)}, {"text": 4}, {"bytes": 6.0, "tokens": 4.0})
    assert task.figures(sums) == {"bits_per_byte": pytest.approx(2), "perplexity": pytest.approx(8)}
    assert task.figures(replace(sums, losses={"text": 1e5}))["perplexity"] == math.inf


def test_a_plan_says_tokens_rows_and_epochs(store: Store, tmp_path: Path) -> None:
    task = resolve_llm(
        tiny(store, tmp_path, "data.mix=tales=1,notes=3", "run.tokens=51200", "run.steps=null")
    )
    plan = planned(task)
    assert (plan.values["steps"], plan.values["tokens"]) == (200, 51_200)
    rows = {row["name"]: row["rows"] for row in plan.values["mixture"]}
    assert plan.epochs == tuple(1600 * w / rows[n] for n, w in (("notes", 0.75), ("tales", 0.25)))
    parameters = plan.values["parameters"]
    assert parameters["total"] == sum(parameters[name] for name in ("embedding", "blocks", "output")) + 16
    assert not (tmp_path / "checkpoints").exists()
