"""Projections of state and actions that each embodiment has for itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.trainer_runs import TINY, make_store, tensors, tiny
from foundry_testing.vla_models import GEOMETRY, make_inputs

from robot_foundry.catalog.store import Store
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.later import without_later
from robot_foundry.trainer.models.layers.initial import allocated, initialise
from robot_foundry.trainer.models.vla import VLA, Inputs
from robot_foundry.trainer.optim.optimizers import OptimConfig, parameter_groups
from robot_foundry.trainer.tasks.run_identity import decisive
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

OWN = "model.head.per_embodiment=true"
OF_EACH = (
    *("head.state_in.weight", "head.state_in.bias", "head.action_in.weight", "head.action_in.bias"),
    "head.action_out.weight",
)


def built(embodiments: int, *overrides: str) -> VLA:
    """A shrunk model whose zero-initialised parts have been moved, so that everything matters."""
    config = read_recipe(None, [*TINY, "data.mix=none", *overrides]).model
    sizes = replace(GEOMETRY, embodiments=embodiments)
    model = initialise(allocated(lambda: VLA(config, sizes), "cpu"), 0)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.1 * trainer_runs.noise(parameter.numel(), seed=i).view_as(parameter)
    return model


def of_robots(inputs: Inputs, *robots: int) -> Inputs:
    return replace(inputs, embodiment_B=torch.tensor(robots, dtype=torch.int32))


def gradients(model: VLA, inputs: Inputs) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(inputs)["action"][0].backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_one_embodiment_is_the_plain_head() -> None:
    """Same names and values; loss, gradients and samples up to rounding."""
    plain, own = built(1), built(1, OWN)
    inputs = of_robots(make_inputs(["push", "lift it"]), 0, 0)
    ours, theirs = dict(own.named_parameters()), dict(plain.named_parameters())
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        assert torch.equal(ours[name].reshape(parameter.shape), parameter), name
        assert (ours[name].shape != parameter.shape) == (name in OF_EACH)
    assert torch.allclose(plain(inputs)["action"][0], own(inputs)["action"][0], rtol=1e-6)
    wanted, found = gradients(plain, inputs), gradients(own, inputs)
    for name, gradient in wanted.items():
        assert torch.allclose(found[name].reshape(gradient.shape), gradient, atol=1e-5), name
    mask, noise = torch.ones(2, 4, 6, dtype=torch.bool), trainer_runs.noise(2, 4, 6)
    assert torch.allclose(plain.sample(inputs, noise, mask), own.sample(inputs, noise, mask), atol=1e-5)


@pytest.mark.parametrize("objective", ["flow", "l1"])
def test_gradients_of_one_robot_do_not_touch_the_other_s_weights(objective: str) -> None:
    model = built(3, OWN, f"model.objective={objective}")
    inputs = make_inputs(["push", "lift it"])
    found = gradients(model, of_robots(inputs, 0, 2))
    for name in OF_EACH:
        assert not found[name][1].any() and found[name][0].any() and found[name][2].any(), name
    alone = gradients(model, of_robots(inputs, 2, 2))
    for name in OF_EACH:
        assert not alone[name][:2].any() and alone[name][2].any(), name
    with torch.no_grad():  # and the same input is another motion of another robot
        mask, noise = torch.ones(2, 4, 6, dtype=torch.bool), trainer_runs.noise(2, 4, 6)
        model.head.action_out.weight[1] *= -1
        one, other = (model.sample(of_robots(inputs, robot, robot), noise, mask) for robot in (0, 1))
    assert not torch.allclose(one, other, atol=1e-3)
    with pytest.raises(ValueError, match="needs the embodiment of each row"):
        model(inputs)


def test_what_decays_is_what_decays_of_a_shared_head() -> None:
    """Biases of all embodiments are a matrix by their shape alone."""
    decaying = []
    for model in (built(1), built(3, OWN)):
        groups, _ = parameter_groups(model, OptimConfig(weight_decay=0.1))
        name_of = {parameter: name for name, parameter in model.named_parameters()}
        kept = [group for group in groups if group["weight_decay"]]
        decaying.append({name_of[parameter] for group in kept for parameter in group["params"]})
    assert decaying[0] == decaying[1] and "head.action_in.weight" in decaying[0]
    assert "head.action_in.bias" not in decaying[1]


def test_runs_of_before_the_key_are_those_without_it() -> None:
    config = read_recipe(None, [*TINY, "data.mix=none"])
    assert config == read_recipe(None, [*TINY, "data.mix=none", "model.head.per_embodiment=false"])
    own = read_recipe(None, [*TINY, "data.mix=none", OWN])
    assert "per_embodiment" not in without_later(decisive(config), config)["model"]["head"]
    assert without_later(decisive(own), own)["model"]["head"]["per_embodiment"] is True


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 'lift' (of the robot panda) and 'seven'."""
    folder = tmp_path_factory.mktemp("own")
    trainer_runs.run(store, folder, "data.mix=lift=1,seven=1", OWN, "optim.lr=0.01")
    return folder


def test_a_policy_answers_for_each_of_its_robots_with_their_weights(trained: Path) -> None:
    policy = Policy.load(trained)
    assert policy.spaces.embodiments == ("panda", "seven")
    assert policy.model.head.action_in.weight.shape[0] == 2
    state = {n: float(n.endswith(("rot6d.0", "rot6d.4"))) for n in policy.spaces.datasets[0].state.names}
    before = {name: policy.act({"state": state}, "", seed=0, dataset=name) for name in ("lift", "seven")}
    with torch.no_grad():
        policy.model.head.action_out.weight[0] += 1
    after = {name: policy.act({"state": state}, "", seed=0, dataset=name) for name in ("lift", "seven")}
    assert not np.allclose(before["lift"].values_TA, after["lift"].values_TA)
    assert np.array_equal(before["seven"].values_TA, after["seven"].values_TA)


def started(
    store: Store, origin: Path, folder: Path, *overrides: str
) -> tuple[Any, dict[str, torch.Tensor], dict[str, torch.Tensor], tuple[str, ...]]:
    """A run on 'six' and 'lift': its task, first weights, what they would be, and what is told of them."""
    settings = ("data.mix=six=1,lift=1", f"init.weights={origin}", "seed=5", *overrides)
    task = resolve_vla(tiny(store, folder, *settings))
    model = initialise(task.build_model(), 5)
    fresh = {name: p.detach().clone() for name, p in model.named_parameters()}
    notes = task.take_origin(model)
    return task, {name: p.detach() for name, p in model.named_parameters()}, fresh, notes


def test_weights_go_by_the_name_of_the_embodiment(store: Store, trained: Path, tmp_path: Path) -> None:
    """'panda' is known and 'six' is new; dims are moved by name within each."""
    task, now, fresh, notes = started(store, trained, tmp_path, OWN)
    assert any("projections of embodiments that" in line and line.endswith("fresh: six") for line in notes)
    before, out = tensors(trained / "checkpoints" / "step-00000006"), "head.action_out.weight"
    for name in OF_EACH:
        assert torch.equal(now[name][1], fresh[name][1]), name
        if name.endswith("bias"):
            assert torch.equal(now[name][0], before[f"ema/{name}"][0]), name
    names, old = task.spaces.action.names, Policy.load(trained).spaces.action
    for i, dim in enumerate(names):
        # Joints of 'six' are dims that the old run lacks: fresh for the robot that is known, too.
        expected = before[f"ema/{out}"][0, old.index(dim)] if dim in old else fresh[out][0, i]
        assert torch.equal(now[out][0, i], expected), dim
    assert sum(dim in old for dim in names) == 10 and sum("six:" in dim for dim in names) == 6


def test_a_shared_head_fills_no_heads_of_each(store: Store, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"head.action_in.bias is \(2, 16\) there and \(16,\) here"):
        started(store, trained, tmp_path)
