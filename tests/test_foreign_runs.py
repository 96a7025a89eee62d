"""A policy on a backbone of others by one key: trained, gone on with, used with its origin gone, compared."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from foundry_testing import foreign_folders, trainer_runs
from foundry_testing.trainer_runs import TINY, differing, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.evaluation.openloop.openloop import openloop
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.foreign.config import ForeignLLMConfig, ForeignVLMConfig
from robot_foundry.trainer.models.foreign.templates import TemplatePrompts
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trainer_runs.make_store(tmp_path_factory.mktemp("robots"))


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign_folders.save_folder("qwen3_vl", tmp_path_factory.mktemp("foreign") / "qwen")


def test_one_key_swaps_the_backbone_and_nothing_else(
    store: Store, qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*TINY, "data.mix=lift", f"data.store={store.url}", "run.steps=2"]
    for name, more in (("ours", ()), ("theirs", (f"init.vlm={qwen}",))):
        asked = ["vla", *settings, f"run.dir={tmp_path / name}", *more]
        assert run_command(group, "foundry-train", asked) == 0
    capsys.readouterr()
    asked = ["diff", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--json"]
    assert run_command(group, "foundry-train", asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(found[what]["equal"] for what in ("order", "data", "normalizer", "seed", "code"))
    assert not any(found[what]["equal"] for what in ("tokenizer", "start"))
    own = ("model.backbone.", "model.learned_obs", "data.tokenizer", "init.vlm")
    assert found["config"].keys() and all(key.startswith(own) for key in found["config"])
    assert found["config"]["model.backbone.decoder"][1] is None  # theirs has no such section


def test_a_killed_run_goes_on_to_the_same_bits_and_its_policy_needs_no_origin(
    store: Store, qwen: Path, tmp_path: Path
) -> None:
    shutil.copytree(qwen, tmp_path / "qwen")
    settings = [f"init.vlm={tmp_path / 'qwen'}", "run.steps=4", "model.obs_tokens=2"]
    trainer_runs.run(store, tmp_path / "whole", *settings)
    trainer_runs.run(store, tmp_path / "cut", *settings)
    newest = checkpoint.latest(tmp_path / "cut")
    assert newest is not None
    shutil.rmtree(newest)  # as if it had been killed before
    shutil.rmtree(tmp_path / "qwen")
    trainer_runs.run(store, tmp_path / "cut", *settings)
    ends = [checkpoint.latest(tmp_path / name) for name in ("whole", "cut")]
    assert not differing(*ends)
    policy = Policy.load(tmp_path / "cut")
    assert isinstance(policy.words, TemplatePrompts) and policy.words.num_obs == 2
    assert isinstance(policy.config.model.backbone, ForeignVLMConfig)
    assert policy.config.model.backbone.pixel_mean == (0.4, 0.5, 0.6)
    check_answers(policy)
    scored = openloop(policy, store, samples=8)
    assert scored["datasets"]["lift"]["policy"]["position_mm"] > 0


def check_answers(policy: Policy) -> None:
    """Two robots together as each alone, with words that matter."""
    names = policy.spaces.datasets[0].state.names
    state = dict.fromkeys(names, 0.0) | {name: 1.0 for name in names if name.endswith(("rot6d.0", "rot6d.4"))}
    picture = np.full((16, 16, 3), 90, np.uint8)
    seen = [{"images": {"primary": picture}, "state": state}, {"images": {}, "state": state}]
    said = ["lift", "lift the red cube up high"]
    together = policy.act_batch(seen, said, seeds=[1, 2])
    for number, seed in ((0, 1), (1, 2)):
        alone = policy.act(seen[number], said[number], seed=seed)
        assert np.abs(alone.values_TA - together[number].values_TA).max() < 1e-5
    assert not np.array_equal(together[0].values_TA, policy.act(seen[0], "push", seed=1).values_TA)


def test_a_policy_goes_on_with_the_backbone_that_it_has(store: Store, qwen: Path, tmp_path: Path) -> None:
    trainer_runs.run(store, tmp_path / "first", f"init.vlm={qwen}", "run.steps=2")
    task = resolve_vla(tiny(store, tmp_path / "second", f"init.weights={tmp_path / 'first'}"))
    task.check_origin()
    assert isinstance(task.words, TemplatePrompts) and task.config.model.learned_obs


def test_a_language_model_that_our_decoder_is_not_gets_our_tower(store: Store, tmp_path: Path) -> None:
    folder = foreign_folders.save_folder("gemma3_text", tmp_path / "gemma")
    with pytest.warns(UserWarning, match="no weights are given for backbone.vision, backbone.projector"):
        trainer_runs.run(store, tmp_path / "run", f"init.vlm={folder}", "run.steps=2")
    policy = Policy.load(tmp_path / "run")
    assert isinstance(policy.config.model.backbone, ForeignLLMConfig)
    assert policy.config.model.backbone.vision.width == 16
    check_answers(policy)


def test_a_dry_run_and_describe_count_its_parts(
    store: Store, qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*TINY, "data.mix=lift", f"data.store={store.url}", f"init.vlm={qwen}"]
    assert run_command(group, "foundry-train", ["vla", *settings, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    whole = sum(p.numel() for p in foreign_folders.make_model("qwen3_vl").parameters())
    counted = planned["parameters"]
    assert counted["vision"] + counted["decoder"] == whole
    assert counted["obs"] == foreign_folders.WIDTH
    assert any("visual.blocks.N" in line for line in planned["init"]["vlm"]["map"])
    assert (
        run_command(
            group, "foundry-train", ["describe", "vla_tiny", *settings[:-2], f"init.vlm={qwen}", "--json"]
        )
        == 0
    )
    described = json.loads(capsys.readouterr().out)["parameters"]
    assert {name: described[name] for name in ("vision", "decoder")} == {
        name: counted[name] for name in ("vision", "decoder")
    }


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"model_type": "qwen3_vll"}, "has no model_type 'qwen3_vll', did you mean 'qwen3_vl'"),
        ({"model_type": "vit"}, "nor a causal language model"),
        ({"quantization_config": {"bits": 4}}, "are quantised"),
        ({"tie_word_embeddings": False}, None),
        ({"vision_config": {"depth": 1}}, "is there alone"),
        ({"text_config": {"vocab_size": 100}}, "the model knows 100"),
    ],
)
def test_folders_that_are_none_are_refused(
    damage: dict, message: str | None, store: Store, qwen: Path, tmp_path: Path
) -> None:
    shutil.copytree(qwen, tmp_path / "qwen")
    file = tmp_path / "qwen" / "config.json"
    values = json.loads(file.read_text())
    for key, value in damage.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    file.write_text(json.dumps(values))
    asked = tiny(store, tmp_path / "run", f"init.vlm={tmp_path / 'qwen'}")
    if message is None:
        resolve_vla(asked).check_origin()
        return
    with pytest.raises(FoundryError) as caught:
        resolve_vla(asked).check_origin()
    assert message in str(caught.value)


def test_a_size_that_the_tower_does_not_take_is_said(store: Store, qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="data.window.image height: 12 is no multiple of 8"):
        resolve_vla(tiny(store, tmp_path / "run", f"init.vlm={qwen}", "data.window.image=[12, 16]"))


def test_without_the_package_one_sentence_says_what_to_install(
    store: Store, qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FoundryError, match="needs the package transformers, which is not") as caught:
        resolve_vla(tiny(store, tmp_path / "run", f"init.vlm={qwen}"))
    assert caught.value.hint == "pip install 'robot-foundry[hf]'"
