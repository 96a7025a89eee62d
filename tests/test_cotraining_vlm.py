"""What a policy keeps of the vision-language model that it began with: its words, and its answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from foundry_testing import trainer_runs, vlm_runs
from foundry_testing.picture_rows import PairOf, packed
from foundry_testing.shells import said
from foundry_testing.trainer_runs import differing, tensors, tiny
from foundry_testing.vlm_runs import COLOURS, coloured
from PIL import Image

from robot_foundry.catalog.store import Store
from robot_foundry.cli import foundry_eval
from robot_foundry.cli.output import run as run_command
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.pairs.pair import Turn
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.backbone import Backbone
from robot_foundry.trainer.models.vision_language import picture_states
from robot_foundry.trainer.tasks.vla.cotraining import as_vlm
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vlm.answering import answers
from robot_foundry.trainer.tasks.vlm.trained import load_trained

STILL = ("run.steps=1", "optim.lr=1e-9", "optim.muon_lr=1e-9")  # what is learnt in a step is nothing
PAIRS = "data.pairs={mix: colours, global_batch: 8, rows: {length: 48}}"
QUESTIONS = [([coloured(name, 900 + i)], [Turn("user", "Colour?")]) for i, name in enumerate(COLOURS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    vlm_runs.make_store(folder)
    return trainer_runs.make_store(folder)


@pytest.fixture(scope="module", params=["tied", "untied"])
def vlm(store: Store, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A vision-language model that knows four colours."""
    folder = tmp_path_factory.mktemp("vlm")
    settings = ("data.mix=colours", "data.rows.length=48", "run.steps=60", "run.save_every=60")
    tied = f"model.tied={'true' if request.param == 'tied' else 'false'}"
    vlm_runs.run(store, folder, *settings, "optim.lr=1e-2", tied)
    return folder


def is_tied(vlm: Path) -> bool:
    return load_trained(vlm).config.model.tied


def test_a_policy_answers_as_the_model_that_it_began_with(store: Store, vlm: Path, tmp_path: Path) -> None:
    trainer_runs.run(store, tmp_path / "run", PAIRS, f"init.vlm={vlm}", *STILL)
    theirs, ours = load_trained(vlm), as_vlm.find(tmp_path / "run").load()
    assert answers(ours, QUESTIONS, tokens=8) == answers(theirs, QUESTIONS, tokens=8) == list(COLOURS)
    assert torch.allclose(ours.model.output_weight, theirs.model.output_weight, atol=1e-6)
    assert ours.settings.rows == theirs.settings.rows and ours.tokenizer.id == theirs.tokenizer.id


def test_robots_alone_keep_what_they_have_an_output_for(store: Store, vlm: Path, tmp_path: Path) -> None:
    trainer_runs.run(store, tmp_path / "run", f"init.vlm={vlm}", *STILL)
    names = tensors(checkpoint.find(tmp_path / "run")).keys()
    assert not any(name.endswith("/output.weight") for name in names)
    if is_tied(vlm):
        assert answers(as_vlm.find(tmp_path / "run").load(), QUESTIONS, tokens=8) == list(COLOURS)
        return
    with pytest.raises(FoundryError, match="did not keep the output matrix"):
        as_vlm.find(tmp_path / "run")
    later = tiny(store, tmp_path / "later", PAIRS, f"init.weights={tmp_path / 'run'}")
    with pytest.raises(FoundryError, match="did not keep the output matrix") as caught:
        resolve_vla(later)
    assert "init.vlm=RUN" in str(caught.value.hint)


def test_a_policy_does_without_what_is_beyond_it(store: Store, vlm: Path, tmp_path: Path) -> None:
    """It is loaded, and goes on with robots alone, or with pairs as before."""
    trainer_runs.run(store, tmp_path / "run", PAIRS, f"init.vlm={vlm}", "run.steps=2")
    policy = Policy.load(tmp_path / "run")
    names = policy.spaces.datasets[0].state.names
    state = dict.fromkeys(names, 0.0) | {name: 1.0 for name in names if name.endswith(("rot6d.0", "rot6d.4"))}
    seen = {"images": {"primary": np.full((16, 16, 3), 90, np.uint8)}, "state": state}
    assert np.isfinite(policy.act(seen, "lift", seed=1).values_TA).all()
    stored = tensors(checkpoint.find(tmp_path / "run"))
    assert ("ema/output.weight" in stored) is not is_tied(vlm)
    for more in ([], [PAIRS]):
        task = resolve_vla(tiny(store, tmp_path / "on", f"init.weights={tmp_path / 'run'}", *more))
        model = trainer_runs.filled(task)
        for name, value in model.named_parameters():
            assert torch.equal(value, stored[f"ema/{name}"]), name


def test_a_run_goes_on_to_the_same_bits_when_its_origin_is_gone(
    store: Store, vlm: Path, tmp_path: Path
) -> None:
    shutil.copytree(vlm, tmp_path / "vlm")
    settings = [PAIRS, f"init.vlm={tmp_path / 'vlm'}", "run.steps=4"]
    whole = trainer_runs.run(store, tmp_path / "whole", *settings)
    trainer_runs.run(store, tmp_path / "cut", *settings)
    newest = checkpoint.latest(tmp_path / "cut")
    assert newest is not None
    shutil.rmtree(newest)  # as if it had been killed before
    shutil.rmtree(tmp_path / "vlm")
    resumed = trainer_runs.run(store, tmp_path / "cut", *settings)
    assert differing(whole.checkpoint, resumed.checkpoint) == []
    said = [checkpoint.read_json(one.checkpoint, "lineage.json")["language"] for one in (whole, resumed)]
    assert said[0] == said[1] and said[0]["rows"]["length"] == 48


def test_a_backbone_of_which_a_part_is_taken_knows_no_words(store: Store, vlm: Path, tmp_path: Path) -> None:
    task = resolve_vla(tiny(store, tmp_path, f"init.vlm={vlm}", "init.only=[backbone.vision]"))
    assert task.language is None
    both = resolve_vla(tiny(store, tmp_path, PAIRS, f"init.vlm={vlm}", "init.only=[backbone.vision]"))
    both.check_origin()
    assert both.language is not None and both.language.tied  # it learns anew, by the embedding


def test_a_policy_is_asked_as_it_is_typed(
    store: Store, vlm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer_runs.run(store, tmp_path / "run", PAIRS, f"init.vlm={vlm}", *STILL)
    arguments = [str(tmp_path / "run"), "colours", "--store", store.url, "--json"]
    assert run_command(foundry_eval.group, "foundry-eval", ["vlm", *arguments]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    (scores,) = report["kinds"].values()
    assert scores["real"]["exact"] == 1 and report["questions"] > 3
    assert "learnt from none" not in err
    Image.fromarray(coloured("blue", 77)).save(tmp_path / "a.png")
    shown, _ = said(capsys, "sample", str(tmp_path / "run"), "Colour?", "--image", str(tmp_path / "a.png"))
    assert shown == "blue\n"


def test_what_adapters_learnt_is_in_the_answers(store: Store, vlm: Path, tmp_path: Path) -> None:
    lora = ("model.lora.rank=2", "optim.lr=0.05", "optim.ema_max=0", "run.steps=3")
    trainer_runs.run(store, tmp_path / "run", PAIRS, f"init.vlm={vlm}", *lora)
    model = trainer_runs.filled(
        resolve_vla(tiny(store, tmp_path / "on", PAIRS, *lora[:1], f"init.weights={tmp_path / 'run'}"))
    )
    assert isinstance(model.backbone, Backbone)
    rows = packed([[PairOf(1, 3, 4)]], (16, 16), image_tokens=4, length=16)
    with torch.no_grad():
        theirs = picture_states(model.backbone, rows)
        ours = as_vlm.find(tmp_path / "run").load().model.hidden(rows)
        began = load_trained(vlm).model.hidden(rows)
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(began, theirs, atol=1e-2)


def test_a_policy_of_bytes_is_not_asked(store: Store, tmp_path: Path) -> None:
    trainer_runs.run(store, tmp_path / "run", "run.steps=1")
    with pytest.raises(FoundryError, match="does not say that its backbone answers questions"):
        as_vlm.find(tmp_path / "run")
    assert not as_vlm.sees_and_answers(checkpoint.find(tmp_path / "run"))
