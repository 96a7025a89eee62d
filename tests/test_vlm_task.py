"""A vision-language model: what its recipe becomes, what it begins with, what it learns and answers."""

from __future__ import annotations

import math
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foundry_testing.tokens import WideTokenizer, write_tokens
from foundry_testing.trainer_runs import records
from foundry_testing.vlm_runs import COLOURS, TEXT, coloured, make_store, run, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.sources.pairs import conversations
from robot_foundry.loader.load import load
from robot_foundry.loader.pairs.batch import PairBatch
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.pairs.pair import Turn
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.recipes.form import PACKAGED, resolved
from robot_foundry.trainer.recipes.yaml_text import read_yaml, write_yaml
from robot_foundry.trainer.tasks.mixtures import pins
from robot_foundry.trainer.tasks.vlm.answering import answers
from robot_foundry.trainer.tasks.vlm.dry_run import planned
from robot_foundry.trainer.tasks.vlm.inputs import contrasted, picture_rows, until
from robot_foundry.trainer.tasks.vlm.recipe import from_resolved, read_recipe
from robot_foundry.trainer.tasks.vlm.resolving import resolve_vlm
from robot_foundry.trainer.tasks.vlm.trained import load_trained
from robot_foundry.trainer.tasks.vlm.vlm_task import VLMTask

MIX = "data.mix=things"
VISION = "backbone.vision."


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def coloured_run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that has learnt four colours."""
    settings = (
        "data.mix=colours",
        "data.rows.length=48",
        "run.steps=60",
        "run.save_every=60",
        "optim.lr=1e-2",
    )
    return run(store, tmp_path_factory.mktemp("colours"), *settings, "run.log_every=20")


def test_packaged_recipes_need_only_data_and_are_written_as_they_are() -> None:
    recipes = [path.stem for path in PACKAGED.glob("*.yaml") if path.stem.startswith(("vlm_", "siglip_"))]
    assert {"vlm_tiny", "siglip_tiny"} <= set(recipes)
    for recipe in recipes:
        config = read_recipe(recipe, [MIX])
        assert config.name == recipe and config.num_steps > 1
        assert from_resolved(read_yaml(write_yaml(resolved(config)), "config.yaml")) == config


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = (
        ("data.rows.pakced=true", "data.rows.pakced: is not a key, did you mean 'packed'"),
        (
            "data.rows.image=[60, 64]",
            "data.rows.image height: 60 is no multiple of model.backbone.vision.patch",
        ),
        ("data.rows.length=8", "data.rows.length: 8 tokens have no room for the 12 of a picture"),
        ("data.split_by=time", "data.split_by: pairs are held out whole"),
        ("data.text.weight=0", "data.text.weight: must be positive and finite, not 0"),
        ("data.text.length=16", "data.text.mix: is missing"),
        ("init.only=[backbone]", "init.weights: is missing; init.only says what to take of it"),
        ("init.vision_depth=3", "init.vision: is missing; init.vision_depth"),
        ("run.accumulate=3", "data.global_batch: 16 is no multiple of run.accumulate (3)"),
    )
    with pytest.raises(UsageError) as caught:
        read_recipe(None, [MIX, "data.global_batch=16", *(override for override, _ in wrong)])
    assert [expected for _, expected in wrong if expected not in caught.value.message] == []
    with pytest.raises(UsageError, match="init.weights: is a whole model, leave it or init.llm out"):
        read_recipe(None, [MIX, "init.weights=a", "init.llm=b"])


def test_a_length_is_in_rows_tokens_or_steps() -> None:
    """Of 16 rows of 256 tokens a step."""
    rows = (MIX, "data.global_batch=16", "data.rows.length=256")
    lengths = {"samples=33": 3, "tokens=4097": 2, "steps=7": 7}
    assert {name: read_recipe(None, [*rows, f"run.{name}"]).num_steps for name in lengths} == lengths


def test_data_of_another_kind_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data.mix: 'tales' is of the kind tokens, this trains on pairs"):
        resolve_vlm(tiny(store, tmp_path, "data.mix=tales"))
    with pytest.raises(UsageError, match="data.text.mix: 'more' is of the kind pairs, this trains on tokens"):
        resolve_vlm(tiny(store, tmp_path, "data.text.mix=more"))
    write_tokens(store, "wide", [["some text"] * 20], tokenizer=WideTokenizer())
    with pytest.raises(FoundryError, match="data.text.mix was made with the tokenizer") as caught:
        resolve_vlm(tiny(store, tmp_path, "data.text.mix=wide"))
    assert WideTokenizer().id[:12] in caught.value.message and "tokenize" in caught.value.hint


def test_ranks_are_given_the_versions_of_all_mixtures(store: Store, tmp_path: Path) -> None:
    config = tiny(store, tmp_path, TEXT)
    fixed = pins(config.data)
    assert [pin.partition("@")[0] for pin in fixed] == ["data.mix=things", "data.text.mix=tales"]
    assert resolve_vlm(tiny(store, tmp_path, TEXT, *fixed)).identity == resolve_vlm(config).identity


def test_text_decides_the_run_only_where_there_is_some(store: Store) -> None:
    def run_dir(*overrides: str) -> Path:
        return resolve_vlm(tiny(store, "x", "run.dir=null", *overrides)).run_dir

    folders = [
        run_dir(),
        run_dir(TEXT),
        run_dir(TEXT, "data.text.weight=1"),
        run_dir(TEXT, "data.text.mix=tales=1"),
    ]
    assert len(set(folders)) == 3 and folders[1] == folders[3]
    assert run_dir("data.threads=3", "data.mix=things@v1") == folders[0]
    assert "text" not in resolve_vlm(tiny(store, "x")).identity


def test_inputs_are_the_rows_and_their_pictures(store: Store, tmp_path: Path) -> None:
    batch = _batches(resolve_vlm(tiny(store, tmp_path)), 1)[0]
    inputs = picture_rows(batch)
    for name in ("token_BS", "target_BS", "learn_BS", "segment_BS", "position_BS", "image_NHWC"):
        assert np.array_equal(getattr(inputs, name).numpy(), getattr(batch, name))
    length = batch.token_BS.shape[1]
    assert inputs.image_mask_N.all() and len(inputs.image_at_N) == len(batch.image_row_N) > 3
    for at, row, start in zip(
        inputs.image_at_N.tolist(), batch.image_row_N, batch.image_start_N, strict=True
    ):
        assert divmod(at, length) == (row, start)

    part = until(batch, int(batch.k_B[3]))
    alone = picture_rows(batch.rows(slice(0, 3)))
    assert part.counts["answer"] == int(alone.learn_BS.sum()) > 0
    assert part.sizes == batch.rows(slice(0, 3)).sizes
    assert torch.equal(picture_rows(part).image_NHWC, alone.image_NHWC)
    nothing = picture_rows(until(batch, 0))
    assert nothing.image_mask_N.tolist() == [False] and nothing.image_NHWC.shape == (1, 16, 16, 3)
    assert not nothing.learn_BS.any() and until(batch, 10**6) is batch


def _batches(task: VLMTask, count: int, split: str = "train") -> list[PairBatch]:
    options: dict[str, Any] = {"seed": 0, "global_batch": 8, "threads": 0, "split": split}
    with load(task.opened, task.settings, store=task.opened.store, **options) as loader:
        return [loader.batch(b) for b in range(count)]


def test_a_held_out_loss_is_of_all_that_is_held_out_and_of_nothing_twice(
    store: Store, tmp_path: Path
) -> None:
    """Also of text, which has more rows than the batches of pairs alone would bring."""
    outcome = run(store, tmp_path, TEXT, "data.text.global_batch=8", "run.steps=1", "run.eval_samples=100000")
    trained = load_trained(tmp_path)
    task = resolve_vlm(tiny(store, tmp_path, TEXT))
    options: dict[str, Any] = {"seed": 0, "global_batch": 1, "threads": 0, "split": "val", "store": store}
    with load(task.opened, task.settings, **options) as loader, torch.no_grad():
        answer = [trained.model(picture_rows(loader.batch(b)))["answer"] for b in range(loader.counts()[0])]
    text = task.config.data.text
    with load("tales", text.rows, **options) as loader:
        bytes_held_out = sum(loader.batch(b).bytes_B.sum() for b in range(loader.counts()[0]))
        assert loader.counts()[0] > 8 >= len(answer) > 0
    total = sum(float(loss) for loss, _ in answer) / sum(int(count) for _, count in answer)
    last = next(r for r in records(tmp_path) if "held_out" in r)
    assert last["held_out/answer"] == pytest.approx(total, rel=1e-6)
    assert last["perplexity"] == outcome.figures["perplexity"] == pytest.approx(math.exp(total))
    assert last["held_out"] == pytest.approx(last["held_out/answer"] + 0.5 * last["held_out/text"])
    nats = last["bits_per_byte"] * math.log(2) * bytes_held_out
    counted = (
        nats / last["held_out/text"]
    )  # of targets, of which there are as many as there are bytes and ends
    assert bytes_held_out < counted < 1.1 * bytes_held_out


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_rows_of_a_stream_that_ranks_cannot_share_are_refused(
    store: Store, tmp_path: Path, split: str
) -> None:
    task = resolve_vlm(tiny(store, tmp_path, TEXT, "data.text.global_batch=6", "run.accumulate=2"))
    with pytest.raises(
        UsageError, match="data.text.global_batch: 6 rows do not divide by 2 ranks × 2"
    ) as caught:
        task.open_stream(split, Ranks(0, 2, torch.device("cpu")))
    assert caught.value.hint == "data.text.global_batch=8"


def test_figures_are_of_what_there_is(store: Store, tmp_path: Path) -> None:
    task = resolve_vlm(tiny(store, tmp_path))
    sums = HeldOutSums({"answer": 4 * math.log(8)}, {"answer": 4}, {"pairs": 2.0})
    assert task.figures(sums) == {"perplexity": pytest.approx(8)}
    both = HeldOutSums({**sums.losses, "text": 12 * math.log(2)}, {"answer": 4, "text": 3}, {"bytes": 6.0})
    assert task.figures(both) == {"perplexity": pytest.approx(8), "bits_per_byte": pytest.approx(2)}


def test_it_learns_what_pictures_show(coloured_run: Any) -> None:
    losses = [record["loss"] for record in records(coloured_run.run_dir) if "loss" in record]
    assert losses[-1] < 0.1 * losses[0]
    trained = load_trained(coloured_run.run_dir)
    names = [name for name in COLOURS for _ in range(3)]
    asked = [([coloured(name, 1000 + i)], [Turn("user", "Colour?")]) for i, name in enumerate(names)]
    said = answers(trained, asked, tokens=8)
    assert said == names
    grey = np.full((40, 30, 3), 128, np.uint8)
    blank = answers(trained, [([grey], [Turn("user", "Colour?")])], tokens=8)
    # The pictures stand where they do in rows of data that says nothing of their places.
    placed = conversations.placed([Turn("user", "Colour?")], 1)
    assert blank == answers(trained, [([grey[:16, :16]], placed)], tokens=8)
    assert said == [
        one for i in range(0, 12, 5) for one in answers(trained, asked[i : i + 5], tokens=8, batch=2)
    ]


def test_texts_learn_which_picture_is_theirs(store: Store, tmp_path: Path) -> None:
    """Of the pairs that have both: those without a picture are not counted, which the model is held to."""
    settings = ("model.objective=contrastive", "run.steps=30", "run.accumulate=2", "optim.lr=1e-2")
    outcome = run(store, tmp_path, *settings, TEXT, "run.save_every=30")
    losses = [record["loss/contrastive"] for record in records(tmp_path) if "loss" in record]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert outcome.figures.keys() == {"bits_per_byte"}
    task = resolve_vlm(tiny(store, tmp_path, *settings))
    batch = _batches(task, 1)[0]
    pictured = {
        (r, batch.segment_BS[r, s]) for r, s in zip(batch.image_row_N, batch.image_start_N, strict=True)
    }
    told_apart = contrasted(batch, task.settings.image_tokens)
    assert told_apart.counts == {"contrastive": len(pictured)} and len(pictured) < batch.sizes["pairs"]
    halves = [told_apart.rows(slice(i, i + 4)).counts["contrastive"] for i in (0, 4)]
    assert sum(halves) == len(pictured) and contrasted(batch, 4, k=0).counts == {"contrastive": 0}


def test_a_damaged_picture_is_replaced_and_told(store: Store, tmp_path: Path) -> None:
    """Its row by another of its dataset, in each epoch, and once in words."""
    damaged = make_store(tmp_path / "store")
    shard, _ = sorted((Path(damaged.url) / "shards" / "things").glob("*.tar"))
    with tarfile.open(shard) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith(".jpg"))
    with shard.open("r+b") as file:
        file.seek(member.offset_data + member.size // 2)
        file.write(b"\x00\xff" * 8)
    with pytest.warns(UserWarning, match=member.name):
        outcome = run(damaged, tmp_path / "run", TEXT, "run.steps=8", "run.max_substituted=1")
    assert outcome.substituted["train"] > 0
    lineage = checkpoint.read_json(outcome.checkpoint, "lineage.json")
    assert [entry["member"] for entry in lineage["damaged"]] == [member.name]
    assert outcome.weights != run(store, tmp_path / "whole", TEXT, "run.steps=8").weights


def test_what_cannot_be_asked_is_a_mistake(coloured_run: Any) -> None:
    trained = load_trained(coloured_run.run_dir)
    picture = coloured("red", 0)
    with pytest.raises(UsageError, match="there are 1 pictures for 2 places"):
        answers(trained, [([picture], [Turn("user", "<image> <image>?")])], tokens=3)
    with pytest.raises(UsageError, match="the last turn is to be the user's"):
        answers(trained, [([picture], [Turn("assistant", "red")])], tokens=3)
    assert len(answers(trained, [([picture], ())], tokens=3)) == 1  # a caption
    assert answers(trained, [], tokens=3) == []
    model = replace(trained.config.model, objective="contrastive")
    mute = replace(trained, config=replace(trained.config, model=model))
    with pytest.raises(UsageError, match="learns the objective contrastive, and answers nothing"):
        answers(mute, [([picture], ())], tokens=3)


def test_a_plan_says_rows_pictures_and_epochs(store: Store, tmp_path: Path) -> None:
    task = resolve_vlm(tiny(store, tmp_path, "data.mix=things=3,more=1", TEXT, "run.steps=50"))
    plan = planned(task)
    rows = {row["name"]: row["rows"] for row in [*plan.values["mixture"], *plan.values["text_mixture"]]}
    shares = {"more": 0.25 * 400, "things": 0.75 * 400, "tales": 200}
    assert plan.epochs == tuple(shares[name] / rows[name] for name in rows)
    assert plan.values["image_tokens"] == 4
    parameters = plan.values["parameters"]
    parts = ("vision", "projector", "decoder", "output")
    assert parameters["total"] == sum(parameters[name] for name in parts)
    assert not (tmp_path / "checkpoints").exists()
