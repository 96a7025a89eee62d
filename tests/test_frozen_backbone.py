"""A backbone that does not move: no gradients, nothing kept for them, and features that are kept instead."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foundry_testing import trainer_runs, vlm_runs
from foundry_testing.trainer_runs import TINY, differing, records, run_phases, tensors, tiny
from foundry_testing.vla_models import garbled, make, make_inputs
from torch.autograd.graph import saved_tensors_hooks

from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.storage.storage_local import LocalStorage
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.features.kept import KeptFeatures
from robot_foundry.trainer.models.flow import FlowConfig
from robot_foundry.trainer.models.foreign.config import ForeignLLMConfig
from robot_foundry.trainer.models.layers.initial import initialise
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.models.vla import VLA, Inputs, VLAConfig
from robot_foundry.trainer.optim.optimizers import OptimConfig, freeze
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.settings import RunConfig
from robot_foundry.trainer.tasks.origin import RunOrigin
from robot_foundry.trainer.tasks.vla.features import features_id, obstacle, seen_by_features
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

FROZEN = "optim.lr_scales={backbone: 0}"
CACHED = (FROZEN, "data.cache_features=true", "run.keep_last=9", "run.steps=8", "run.eval_samples=32")
TEXTS = ["pick", "put the can on", ""]
HERE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return trainer_runs.make_store(tmp_path_factory.mktemp("robots"))


@pytest.fixture(scope="module")
def cached(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of an epoch and more that made all features itself."""
    return trainer_runs.run(store, tmp_path_factory.mktemp("cached") / "run", *CACHED)


def model_of(frozen: str | None = "backbone", *overrides: str) -> VLA:
    model = make(read_recipe(None, [*TINY, "data.mix=none", *overrides]).model, seed=0)
    freeze(model, OptimConfig(lr_scales=None if frozen is None else {frozen: 0}))
    return model


def seen(inputs: Inputs) -> Inputs:
    return replace(inputs, seen=seen_by_features(inputs, 1))


def saved_by(compute: Callable[[], Any]) -> int:
    """How many tensors are kept for gradients."""
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        compute()
    return len(kept)


def test_nothing_is_kept_for_gradients_of_what_is_frozen() -> None:
    inputs = make_inputs(TEXTS)
    free, frozen, blind = model_of(None), model_of(), model_of("vision")
    assert saved_by(lambda: free.features(inputs)) > 50
    assert saved_by(lambda: frozen.features(inputs)) == 0
    picture_NHWC = inputs.image_BVHWC.flatten(0, 1)
    assert saved_by(lambda: free.backbone.vision(picture_NHWC)) > 10
    assert saved_by(lambda: blind.backbone.vision(picture_NHWC)) == 0
    assert all(tap.requires_grad for tap in blind.features(inputs))
    frozen(inputs)["action"][0].backward()
    assert {name.split(".")[0] for name, p in frozen.named_parameters() if p.grad is not None} == {
        "head", "tap_norms",
    }  # fmt: skip


def of_others() -> VLA:
    """A frozen backbone that `transformers` makes, and vectors for `<obs>` that stay at random."""
    values = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 300, "attention_dropout": 0.5,
    }  # fmt: skip
    backbone = ForeignLLMConfig(values, ViTConfig(patch=4, width=16, depth=1, heads=2, mlp_hidden=32))
    head = FlowConfig(width=16, depth=1, heads=2)
    model = make(VLAConfig(backbone, taps=2, tap_width=16, head=head, learned_obs=True), seed=0)
    freeze(model, OptimConfig(lr_scales={"backbone": 0}))
    assert (
        obstacle(model)
        == "obs_embedding.weight learns, which obs_embedding: 0 in optim.lr_scales would freeze"
    )
    freeze(model, OptimConfig(lr_scales={"backbone": 0, "obs_embedding": 0}))
    assert obstacle(model) is None
    before = model.obs_embedding.weight.detach().clone()
    assert torch.equal(initialise(model, seed=1).obs_embedding.weight, before)  # runs of other seeds find it
    return initialise(model, seed=0)


@pytest.mark.parametrize("made", [model_of, of_others], ids=["ours", "others"])
def test_kept_features_depend_on_no_other_row_and_no_number_of_threads(
    made: Callable[[], VLA], tmp_path: Path
) -> None:
    model, inputs = made(), seen(make_inputs(TEXTS))
    plain = torch.stack(model.features(inputs))
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            model.kept = KeptFeatures(LocalStorage(tmp_path / str(number)), "features", model.feature_shape)
            found.append(torch.stack(model.features(inputs)))
            assert torch.equal(torch.stack(model.features(inputs)), found[-1])
            assert (model.kept.made, model.kept.found) == (3, 3)
    finally:
        torch.set_num_threads(threads)
    model.kept = KeptFeatures(LocalStorage(tmp_path / "alone"), "features", model.feature_shape)
    alone = [torch.stack(model.features(seen(inputs.alone(row, 1)))) for row in (2, 0, 1)]
    assert torch.equal(found[0], found[1]) and torch.equal(torch.cat(alone, dim=1), found[0][:, [2, 0, 1]])
    assert float((found[0] - plain).abs().max()) < 1e-5
    assert found[0].requires_grad is False


def test_a_row_is_known_by_all_that_its_features_depend_on_and_nothing_else() -> None:
    inputs = make_inputs(TEXTS)
    keys = seen_by_features(inputs, 1)
    assert len(set(keys)) == 3
    tokens = inputs.token_BS.clone()
    tokens[0, 6:] = 7
    garbage = replace(garbled(inputs, float("nan")), token_BS=tokens)
    assert seen_by_features(garbage, 1) == keys
    assert seen_by_features(inputs.alone(1, 1), 1) == keys[1:2]
    image, said, there = inputs.image_BVHWC.clone(), inputs.token_BS.clone(), inputs.view_mask_BV.clone()
    image[1, 3, 0, 0, 0] += 1
    said[1, 0] += 1
    there[1, 3] = False
    changed = [
        replace(inputs, image_BVHWC=image),
        replace(inputs, token_BS=said),
        replace(inputs, view_mask_BV=there),
        replace(inputs, image_at=1),
    ]
    assert len({seen_by_features(other, 1)[1] for other in changed} | {keys[1]}) == 5


def test_features_are_known_by_the_backbone_and_what_computes() -> None:
    run = RunConfig()
    base = features_id(model_of(), run, HERE)
    assert features_id(model_of("vision", "model.head.depth=3", "model.draws=4"), run, HERE) == base
    assert features_id(model_of(), replace(run, accumulate=2), HERE) == base
    other = model_of()
    with torch.no_grad():
        other.backbone.decoder.norm.weight[3] += 1e-3
    changed = [
        features_id(other, run, HERE),
        features_id(model_of("backbone", "model.taps=1"), run, HERE),
        features_id(model_of(), replace(run, precision="bf16"), HERE),
    ]
    assert len({base, *changed}) == 4


def test_a_run_that_finds_features_ends_as_the_one_that_made_them(
    store: Store, cached: Any, tmp_path: Path
) -> None:
    with pytest.warns(match=r"features of 0 samples were made and \d+ times found"):
        again = trainer_runs.run(store, tmp_path / "again", *CACHED)
    assert differing(again.checkpoint, cached.checkpoint) == []
    with pytest.warns(match=r"features of 0 samples were made"):
        trainer_runs.run(store, tmp_path / "seed", *CACHED, "seed=1", f"init.weights={cached.run_dir}")
    plain = trainer_runs.run(store, tmp_path / "plain", *(s for s in CACHED if "cache" not in s))
    ours, theirs = ([r["loss"] for r in records(one.run_dir) if "loss" in r] for one in (cached, plain))
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_killed_run_and_other_ranks_find_the_same_features(
    store: Store, cached: Any, tmp_path: Path
) -> None:
    folder = Path(store.url) / "cache" / "features"
    before = {path.name: path.read_bytes() for path in folder.rglob("*.bin")}

    def phase(name: str, size: int, kill: str | None, *more: str) -> dict[str, Any]:
        arguments = ["vla", *TINY, "data.mix=lift", f"data.store={store.url}", f"run.dir={tmp_path / name}"]
        return {"size": size, "arguments": [*arguments, *CACHED, *more], "kill": kill}

    done = run_phases([phase("killed", 1, "checkpoint-renamed:2"), phase("two", 2, None, "run.accumulate=2")])
    assert json.loads(done.stdout.splitlines()[-1]) == [[-signal.SIGKILL], [0, 0]], done.stderr
    outcome = trainer_runs.run(store, tmp_path / "killed", *CACHED)
    assert outcome.resumed_from == 4
    assert differing(outcome.checkpoint, cached.checkpoint) == []
    assert {path.name: path.read_bytes() for path in folder.rglob("*.bin")} == before


def test_a_frozen_backbone_ends_as_its_origin_and_is_kept_once(store: Store, tmp_path: Path) -> None:
    vlm_runs.run(vlm_runs.make_store(tmp_path / "pairs"), tmp_path / "vlm", "run.steps=2")
    settings = (
        "data.window.image=[16, 16]",
        "model.text_length=12",
        f"init.vlm={tmp_path / 'vlm'}",
        "run.steps=2",
    )
    outcome = trainer_runs.run(store, tmp_path / "run", FROZEN, *settings)
    stored, origin = tensors(outcome.checkpoint), RunOrigin.at(checkpoint.find(tmp_path / "vlm"))
    policy = dict(Policy.load(tmp_path / "run").model.named_parameters())
    names = [name for name in origin.stored() if name.startswith("backbone.")]
    theirs = {name: torch.empty(origin.stored()[name]) for name in names}
    origin.fill(theirs)
    assert len(names) > 20
    for name in names:
        assert torch.equal(stored[f"model/{name}"], theirs[name]) and torch.equal(policy[name], theirs[name])
    assert {name.split("/")[0] for name in stored if "backbone." in name} == {"model"}
    head = [name for name in policy if name.startswith("head.")]
    assert all(torch.equal(policy[name], stored[f"ema/{name}"]) for name in head)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ([], r"backbone.vision.stem.0.weight learns, which backbone: 0 in optim.lr_scales would freeze"),
        (["optim.lr_scales={vision: 0}"], "backbone.projector.weight learns"),
        (["model.lora.rank=2"], "model.lora.rank=2 gives the backbone adapters, which learn"),
    ],
)
def test_features_that_change_are_not_kept(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str], why: str
) -> None:
    with pytest.raises(UsageError, match=f"data.cache_features: features cannot be kept, as {why}"):
        resolve_vla(tiny(store, tmp_path, *settings, "data.cache_features=true"))
    arguments = ["vla", *TINY, "data.mix=lift", f"data.store={store.url}", "--dry-run"]
    assert run_command(group, "foundry-train", [*arguments, *settings]) == 0
    assert capsys.readouterr().out.startswith("features of the backbone cannot be cached: ")
    assert run_command(group, "foundry-train", [*arguments, FROZEN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"] == {"cached": False, "change_by": None}
