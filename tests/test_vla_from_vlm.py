"""A policy starts from a vision-language model: its backbone, its tokenizer, its way to write a question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from foundry_testing import foreign_folders, trainer_runs, transformers_folders, vlm_runs
from foundry_testing.trainer_runs import differing, tensors, tiny

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.loader.pairs.template import prompt
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.pairs.pair import USER, Turn
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.tokenizer import OBS
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.vla import Inputs
from robot_foundry.trainer.tasks.vla.inputs import build_inputs
from robot_foundry.trainer.tasks.vla.prompts import Prompts, words_from_json
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

# A head of its own; the backbone's shape is the other run's affair.
HEAD = (
    "data.window.image=[16, 16]",
    "model.backbone.vision={width: 32, heads: 2}",
    "model.text_length=12",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trainer_runs.make_store(tmp_path_factory.mktemp("robots"))


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    vlm_runs.run(vlm_runs.make_store(folder / "store"), folder / "run", "run.steps=2")
    return folder / "run"


def test_instructions_are_written_as_the_questions_were_that_it_learnt() -> None:
    tokenizer = ByteTokenizer()
    words = Prompts(tokenizer, 20)
    rows_BS, obs_B = words.rows(["touch the cube", "push"])
    asked = prompt([Turn(USER, "<image>\ntouch the cube")], tokenizer, image_tokens=3)
    (start,) = asked.image_starts
    without = [*asked.ids_N[:start], *asked.ids_N[start + 3 :]]
    assert words.image_at == start
    assert rows_BS[0].tolist() == [*without, tokenizer.specials[OBS]]
    assert [rows_BS[row, at] for row, at in enumerate(obs_B)] == [tokenizer.specials[OBS]] * 2
    assert rows_BS[1, obs_B[1] + 1 :].tolist() == [tokenizer.pad] * (obs_B[0] - obs_B[1])


def test_a_long_instruction_is_cut_and_a_picture_in_it_is_none() -> None:
    tokenizer = ByteTokenizer()
    long_BS, _ = Prompts(tokenizer, 5).rows(["touch the cube"])
    short_BS, _ = Prompts(tokenizer, 20).rows(["touch"])
    assert long_BS.tolist() == short_BS.tolist()
    rows_BS, _ = Prompts(tokenizer, 20).rows(["a <image> b"])
    assert rows_BS.tolist() == Prompts(tokenizer, 20).rows(["a   b"])[0].tolist()


def test_words_survive_their_file() -> None:
    words = Prompts(ByteTokenizer(), 7, num_obs=3)
    again = words_from_json(json.loads(json.dumps(words.to_json())), "a file")
    assert again.to_json() == words.to_json()
    assert np.array_equal(again.rows(["lift it", ""])[0], words.rows(["lift it", ""])[0])


def test_the_backbone_is_that_of_the_run_and_the_head_is_new(store: Store, vlm: Path, tmp_path: Path) -> None:
    task = resolve_vla(tiny(store, tmp_path / "run", *HEAD, f"init.vlm={vlm}"))
    assert task.config.model.backbone.vision.width == 16  # not the recipe's
    model = initialise(task.build_model(), task.config.seed)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    task.take_origin(model)
    theirs = tensors(checkpoint.find(vlm))
    kind = "ema" if any(name.startswith("ema/") for name in theirs) else "model"
    changed = set()
    for name, value in model.named_parameters():
        if name.startswith("backbone."):
            assert torch.equal(value, theirs[f"{kind}/{name}"]), name
        else:
            assert torch.equal(value, before[name]), name
            changed.add(name)
    assert any(name.startswith("head.") for name in changed)


def test_taps_are_of_the_decoder_that_is_taken(store: Store, vlm: Path, tmp_path: Path) -> None:
    asked = (*HEAD, f"init.vlm={vlm}", "model.backbone.decoder.depth=1")
    task = resolve_vla(tiny(store, tmp_path / "run", *asked, "model.taps=2"))
    assert task.config.model.backbone.decoder.depth == 2
    with pytest.raises(UsageError, match="model.taps: 3 layers cannot be read from a decoder of depth 2"):
        resolve_vla(tiny(store, tmp_path / "run", *asked, "model.taps=3"))


def test_a_run_goes_on_to_the_same_bits_when_its_origin_is_gone(
    store: Store, vlm: Path, tmp_path: Path
) -> None:
    shutil.copytree(vlm, tmp_path / "vlm")
    settings = [*HEAD, f"init.vlm={tmp_path / 'vlm'}"]
    trainer_runs.run(store, tmp_path / "whole", *settings)
    trainer_runs.run(store, tmp_path / "cut", *settings)
    newest = checkpoint.latest(tmp_path / "cut")
    assert newest is not None
    shutil.rmtree(newest)  # as if it had been killed before
    shutil.rmtree(tmp_path / "vlm")
    trainer_runs.run(store, tmp_path / "cut", *settings)
    ends = [checkpoint.latest(tmp_path / name) for name in ("whole", "cut")]
    assert not differing(*ends)


def test_the_policy_carries_all_that_it_needs(store: Store, vlm: Path, tmp_path: Path) -> None:
    trainer_runs.run(store, tmp_path / "run", *HEAD, f"init.vlm={vlm}", "model.obs_tokens=3", "run.steps=2")
    policy = Policy.load(tmp_path / "run")
    assert isinstance(policy.words, Prompts) and policy.words.num_obs == 3
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


def test_what_a_policy_learnt_goes_on_with_its_words(store: Store, vlm: Path, tmp_path: Path) -> None:
    trainer_runs.run(store, tmp_path / "first", *HEAD, f"init.vlm={vlm}", "run.steps=2")
    task = resolve_vla(tiny(store, tmp_path / "second", *HEAD, f"init.weights={tmp_path / 'first'}"))
    assert isinstance(task.words, Prompts) and task.config.model.backbone.vision.width == 16
    task.check_origin()


def test_the_same_tokenizer_from_nothing(store: Store, tmp_path: Path) -> None:
    """The control of an ablation: all alike but the weights."""
    task = resolve_vla(tiny(store, tmp_path / "run", "data.tokenizer=byte"))
    assert isinstance(task.words, Prompts) and task.origin is None
    assert task.config.model.backbone.decoder.vocabulary >= task.words.tokenizer.size


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["init.vlm={vlm}", "init.weights={vlm}"], "init.weights: is a whole policy"),
        (["init.vlm={vlm}", "init.normalizer=keep"], "init.normalizer: a vision-language model has none"),
        (["init.vlm=nowhere"], "init.vlm: there is no nowhere"),
        (["init.vlm={policy}"], "is no checkpoint of a vision-language model"),
        (["init.vlm={vlm}", "init.only=[bakbone]"], "did you mean 'backbone'"),
    ],
)
def test_what_does_not_fit_is_said(
    overrides: list[str], message: str, store: Store, vlm: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    if any("{policy}" in one for one in overrides):
        trainer_runs.run(store, policy, "run.steps=2")
    settings = [one.format(vlm=vlm, policy=policy) for one in overrides]
    with pytest.raises((FoundryError, UsageError)) as caught:
        resolve_vla(tiny(store, tmp_path / "run", *settings)).check_origin()
    assert message in str(caught.value)


def test_as_a_policy_it_is_refused_with_the_key_that_takes_it(
    store: Store, vlm: Path, tmp_path: Path
) -> None:
    with pytest.raises(FoundryError, match="is no checkpoint of a policy") as caught:
        resolve_vla(tiny(store, tmp_path / "run", f"init.weights={vlm}"))
    assert caught.value.hint == f"init.vlm={vlm} starts from a vision-language model"


def test_a_dry_run_says_where_it_starts(
    store: Store, vlm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*trainer_runs.TINY, *HEAD, "data.mix=lift", f"data.store={store.url}", f"init.vlm={vlm}"]
    assert run_command(group, "foundry-train", ["vla", *settings, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["init"]["vlm"]["step"] == 2
    assert planned["config"]["data"]["tokenizer"] == ByteTokenizer().id


def test_a_tokenizer_without_obs_has_vectors_of_the_policys_there(store: Store, tmp_path: Path) -> None:
    """As SmolLM2's: a language model of others learns to read pictures, and a policy starts from it."""
    folder = transformers_folders.save_folder(
        transformers_folders.make_model("llama", vocab_size=foreign_folders.VOCABULARY), tmp_path / "llm"
    )
    foreign_folders.tokenizer("smolvlm").save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(foreign_folders.ROLES["smolvlm"]))
    pairs = vlm_runs.make_store(tmp_path / "pairs")
    vlm_runs.run(pairs, tmp_path / "vlm", f"init.llm={folder}", "run.steps=2")
    # The head begins at zero, and lets the backbone learn from the third step on.
    settings = [f"init.vlm={tmp_path / 'vlm'}", "model.obs_tokens=2", "run.steps=4"]
    trainer_runs.run(store, tmp_path / "run", *settings)
    policy = Policy.load(tmp_path / "run")
    assert policy.config.model.learned_obs and isinstance(policy.words, Prompts)
    vectors = policy.model.obs_embedding
    assert vectors is not None and vectors.weight.shape == (2, 32)
    begun = tensors(checkpoint.find(tmp_path / "run"))
    assert begun["optim/obs_embedding.weight/exp_avg"].abs().max() > 0
    inputs = vla_inputs(policy)
    before = policy.model.condition(inputs)
    with torch.no_grad():
        vectors.weight[1] += 1
    after = policy.model.condition(inputs)
    assert torch.equal(before[:, 0], after[:, 0]) and not torch.equal(before[:, 1], after[:, 1])


def vla_inputs(policy: Policy) -> Inputs:
    state = np.zeros(len(policy.spaces.datasets[0].state.names))
    batch = policy.batch([{"images": {}, "state": state}], ["lift it"], 0)
    return build_inputs(batch, scales=policy.scales, words=policy.words, roles=policy.roles, targets=False)
