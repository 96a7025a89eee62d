"""Runs of a policy that learn pairs and text beside robots: what their recipes say, draw, and leave."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foundry_testing import cotrained_runs, trainer_runs
from foundry_testing.cotrained_runs import PAIRS, TEXT, TOKENIZER, resolved
from foundry_testing.small_corpus import small_corpus
from foundry_testing.tokens import WideTokenizer, write_tokens
from foundry_testing.trainer_runs import records

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.difference import compare
from robot_foundry.trainer.models.foreign.config import ForeignVLMConfig
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.recipes.form import resolved as resolved_config
from robot_foundry.trainer.streams import HELD_OUT, TRAIN, Prepared
from robot_foundry.trainer.tasks.mixtures import pins
from robot_foundry.trainer.tasks.vla.cotraining.streams import check_backbone
from robot_foundry.trainer.tasks.vla.dry_run import planned
from robot_foundry.trainer.tasks.vla.recipe import from_resolved, read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vla.vla_task import VLATask

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return cotrained_runs.make_store(tmp_path_factory.mktemp("store"))


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = (
        ("data.pairs.global_batch=3", "data.pairs.global_batch: 3 is no multiple of run.accumulate (2)"),
        ("data.pairs.weight=0", "data.pairs.weight: must be positive and finite, not 0"),
        ("data.pairs.rows.fit=pat", "data.pairs.rows.fit: 'pat' is none of pad, crop, stretch, did you mean"),
        ("data.pairs.rows.lenght=9", "data.pairs.rows.lenght: is not a key, did you mean 'length'"),
        ("data.pairs.split_by=time", "data.pairs.split_by: pairs are held out whole"),
        ("data.text.length=0", "data.text.length: must be at least 1, not 0"),
        ("data.text.weight=-1", "data.text.weight: must be positive and finite, not -1"),
        ("model.insulate=true", "model.insulate: needs data.pairs"),
        ("model.backbone_grad_scale=0.5", "model.backbone_grad_scale: leave it out, model.insulate"),
        ("run.accumulate=2", "data.pairs.mix: is missing"),
        ("run.shard=0", "model.insulate: needs ranks that each hold all weights, run.shard=1"),
        ("data.cache_features=true", "data.cache_features: ranks that share weights cannot keep features"),
    )
    with pytest.raises(UsageError) as caught:
        read_recipe(None, [*trainer_runs.TINY, "data.mix=lift", *(override for override, _ in wrong)])
    assert [expected for _, expected in wrong if expected not in caught.value.message] == []
    with pytest.raises(UsageError, match="data.pairs.rows.length: 3 tokens have no room for the 4 of a pict"):
        read_recipe(None, [*trainer_runs.TINY, "data.mix=lift", PAIRS, "data.pairs.rows.length=3"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.tokenizer=null"], "data.pairs and data.text: a policy that reads bytes has no words"),
        (["data.pairs.mix=tales"], "data.pairs.mix: 'tales' is of the kind tokens, this trains on pairs"),
        (["data.text.mix=things"], "data.text.mix: 'things' is of the kind pairs, this trains on tokens"),
        (["data.text.mix=wide"], "data.text.mix was made with the tokenizer"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    store: Store, tmp_path: Path, overrides: list[str], message: str
) -> None:
    write_tokens(store, "wide", [["some text"] * 20], tokenizer=WideTokenizer())
    with pytest.raises(FoundryError) as caught:
        resolved(store, tmp_path, PAIRS, TEXT, *overrides)
    assert message in caught.value.message


def test_streams_that_would_move_nothing_are_refused(store: Store, tmp_path: Path) -> None:
    frozen, reads = "optim.lr_scales={backbone: 0}", "optim.lr_scales={decoder: 0}"
    for overrides, idle in (
        ([PAIRS, TEXT, frozen], "data.pairs and data.text: nothing learns"),
        ([PAIRS, TEXT, frozen, "model.lora.rank=2"], "data.pairs and data.text: nothing learns"),
        ([PAIRS, TEXT, reads], "data.text: nothing learns"),
    ):
        with pytest.raises(UsageError, match=f"^{idle}"):
            resolved(store, tmp_path, *overrides)
    assert resolved(store, tmp_path, PAIRS, reads).learning()[0].startswith("backbone.vision")
    adapted = resolved(store, tmp_path, PAIRS, TEXT, "model.lora.rank=2").learning()
    assert all("lora" in name for name in adapted if name.startswith("backbone."))


def test_a_backbone_of_others_learns_from_robots_alone(store: Store, tmp_path: Path) -> None:
    beside = resolved(store, tmp_path, PAIRS).beside
    with pytest.raises(UsageError, match="data.pairs: a backbone of `transformers` learns from robots alone"):
        check_backbone(beside, ForeignVLMConfig())
    check_backbone({}, ForeignVLMConfig())


@pytest.mark.parametrize("name", ["data", "data.pairs", "data.text"])
def test_rows_that_ranks_cannot_share_are_refused(store: Store, tmp_path: Path, name: str) -> None:
    settings = [
        PAIRS,
        TEXT,
        "data.global_batch=12",
        "data.pairs.global_batch=12",
        "data.text.global_batch=12",
    ]
    task = resolved(store, tmp_path, *settings, f"{name}.global_batch=6", "run.accumulate=2")
    with pytest.raises(UsageError, match=f"{name}.global_batch: 6 rows do not divide by 2 ranks × 2"):
        measured(task).open_stream(TRAIN, Ranks(0, 2, torch.device("cpu")))


def test_what_there_is_none_of_decides_nothing(store: Store) -> None:
    """So that the runs of before have the names and ids that they had."""
    task = resolved(store, "x", "run.dir=null")
    assert not {"pairs", "text"} & (task.identity.keys() | task.identity["data"].keys())
    assert type(task.build_model()) is VLA
    folders = [
        resolved(store, "x", "run.dir=null", *more).run_dir
        for more in ([], [PAIRS], [PAIRS, "data.pairs.mix=things=1"], [PAIRS, "data.pairs.weight=1"], [TEXT])
    ]
    assert len(set(folders)) == 4 and folders[1] == folders[2]
    config = resolved(store, "x", PAIRS, TEXT).config
    assert from_resolved(resolved_config(config)) == config


def test_ranks_are_given_the_versions_of_all_mixtures(store: Store, tmp_path: Path) -> None:
    config = trainer_runs.tiny(store, tmp_path, TOKENIZER, PAIRS, TEXT)
    fixed = pins(config.data)
    assert sorted(pin.partition("@")[0] for pin in fixed) == [
        "data.mix=lift", "data.pairs.mix=things", "data.text.mix=tales",
    ]  # fmt: skip
    again = resolve_vla(trainer_runs.tiny(store, tmp_path, TOKENIZER, PAIRS, TEXT, *fixed))
    assert again.identity == resolve_vla(config).identity


def measured(task: VLATask) -> Any:
    return task.measured(task.measure())


def batches(task: VLATask, split: str, count: int) -> Iterator[Prepared]:
    with measured(task).open_stream(split, ALONE) as stream:
        for b in range(count):
            yield stream.batch(b)


def same(ours: Any, theirs: Any) -> bool:
    """Whether inputs of robots are equal, bit for bit."""
    pairs = [
        (getattr(ours, name), getattr(theirs, name)) for name in ("image_BVHWC", "token_BS", "state_BHD")
    ]
    pairs += [(ours.targets.value_BTA, theirs.targets.value_BTA), (ours.draws.time_BN, theirs.draws.time_BN)]
    return all(torch.equal(one, other) for one, other in pairs)


def test_what_is_beside_changes_no_sample_of_the_robots(store: Store, tmp_path: Path) -> None:
    alone = resolved(store, tmp_path)
    both, pairs = resolved(store, tmp_path, PAIRS, TEXT), resolved(store, tmp_path, PAIRS)
    steps = [list(batches(task, TRAIN, 3)) for task in (alone, both, pairs)]
    for robots, with_both, with_pairs in zip(*steps, strict=True):
        (ours,), (joined,), (paired,) = robots.inputs, with_both.inputs, with_pairs.inputs
        assert same(ours, joined.robot) and same(ours, paired.robot)
        assert torch.equal(joined.pairs.token_BS, paired.pairs.token_BS) and paired.text is None
        assert robots.counts["action"] == with_both.counts["action"]
        assert with_both.counts.keys() == {"action", "answer", "text"}


def test_held_out_actions_are_of_the_samples_that_they_would_be_of(store: Store, tmp_path: Path) -> None:
    """Also where what is beside takes more batches: there is nothing of robots in those."""
    few = ("data.pairs.global_batch=1", "data.pairs.rows.packed=false")
    alone = resolved(store, tmp_path, "run.eval_samples=5")
    both = resolved(store, tmp_path, PAIRS, *few, "run.eval_samples=5")
    number = measured(both).held_out_samples // 8
    assert measured(alone).held_out_samples == 8 and number == 5
    (first,) = batches(alone, HELD_OUT, 1)
    joined = list(batches(both, HELD_OUT, number + 1))
    assert same(first.inputs[0], joined[0].inputs[0].robot)
    assert [batch.counts["action"] for batch in joined] == [first.counts["action"], *[0] * number]
    assert all(batch.counts["answer"] for batch in joined[:number]) and not joined[number].counts["answer"]


def test_a_run_tells_each_loss_and_where_each_stream_comes_from(store: Store, tmp_path: Path) -> None:
    outcome = cotrained_runs.run(store, tmp_path / "both", "run.steps=2", "run.save_every=1")
    first, _, last = records(tmp_path / "both")
    parts = {name: first[f"loss/{name}"] for name in ("action", "answer", "text")}
    assert first["loss"] == pytest.approx(parts["action"] + 0.5 * parts["answer"] + 0.5 * parts["text"])
    assert last["held_out"] == pytest.approx(
        last["held_out/action"] + 0.5 * last["held_out/answer"] + 0.5 * last["held_out/text"]
    )
    assert outcome.figures.keys() == {"perplexity", "bits_per_byte"}
    assert {"pairs_per_s", "pictures_per_s", "bytes_per_s"} <= outcome.rates.keys()
    lineage = checkpoint.read_json(outcome.checkpoint, "lineage.json")
    assert lineage["orders"].keys() == {"robot", "pairs", "text"}
    names = [lineage[f"{name}_mixture"]["components"][0]["name"] for name in ("pairs", "text")]
    assert names == ["things", "tales"]

    trainer_runs.run(store, tmp_path / "alone", TOKENIZER, "run.steps=2")
    assert records(tmp_path / "alone")[0]["loss/action"] == parts["action"]
    found = compare(tmp_path / "alone", tmp_path / "both")
    told = {what: found.is_equal(what) for what, *_ in found.facts if what.startswith("order")}
    assert told == {
        "order": False, "order of robot": True, "order of pairs": False, "order of text": False,
    }  # fmt: skip

    # Where the name of what is beside means newer data, the versions that the run had are read.
    elsewhere = tmp_path / "store"
    shutil.copytree(store.url, elsewhere)
    write_tokens(Store(elsewhere), "tales", [small_corpus(80, longest=4), small_corpus(9, seed=2)])
    verify = ["verify", str(tmp_path / "both"), "--store", str(elsewhere)]
    assert run_command(group, "foundry-train", verify) == 0


def test_nothing_held_out_of_a_stream_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.warns(match="no held-out loss of pairs"):
        cotrained_runs.run(store, tmp_path, "run.steps=1", "data.pairs.val_fraction=1/1000000")
    last = records(tmp_path)[-1]
    assert {"held_out/action", "held_out/text"} <= last.keys() and "held_out/answer" not in last


def test_a_plan_says_what_is_beside(store: Store, tmp_path: Path) -> None:
    plan = planned(resolved(store, tmp_path, PAIRS, TEXT, "data.pairs.rows.length=24", "run.steps=50"))
    rows = [plan.values[f"{name}_mixture"][0]["rows"] for name in ("pairs", "text")]
    assert plan.epochs[1:] == tuple(np.array([400, 200]) / rows)
    assert any("longer than a row of 24 tokens (data.pairs.rows.length)" in line for line in plan.warnings)
