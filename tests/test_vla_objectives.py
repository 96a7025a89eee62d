"""The head as a regression, and how much of its gradient the backbone gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.catalog_stores import make_version
from foundry_testing.trainer_runs import TINY
from foundry_testing.vla_models import garbled, make, make_inputs

from robot_foundry.catalog.store import Store
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.tasks.vla.recipe import read_recipe


def built(*overrides: str) -> VLA:
    """A shrunk model whose zero-initialised parts have been moved, so that everything matters."""
    model = make(read_recipe(None, [*TINY, "data.mix=none", *overrides]).model, seed=0)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.1 * trainer_runs.noise(*parameter.shape, seed=i)
    return model


def gradients(model: VLA, *texts: str) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    total, count = model(make_inputs(list(texts)))["action"]
    (total / count).backward()
    return float(total.detach()), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def test_the_backbone_gets_a_share_of_the_gradient_and_the_head_all_of_it() -> None:
    loss, whole = gradients(built(), "push", "lift it")
    same, part = gradients(built("model.backbone_grad_scale=0.25"), "push", "lift it")
    assert loss == pytest.approx(same, rel=1e-6)
    for name, gradient in whole.items():
        share = 0.25 if name.startswith(("backbone.", "tap_")) else 1.0
        assert torch.allclose(part[name], share * gradient, rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("scale", ["0", "1.5", "-1"])
def test_a_backbone_that_nothing_teaches_is_refused(scale: str) -> None:
    with pytest.raises(UsageError, match="model.backbone_grad_scale: must lie in"):
        read_recipe(None, [*TINY, "data.mix=none", f"model.backbone_grad_scale={scale}"])


def test_a_regression_neither_draws_nor_integrates() -> None:
    model, inputs = built("model.objective=l1"), make_inputs(["push", "lift it"])
    assert inputs.targets is not None and inputs.draws is not None
    mask = inputs.targets.mask_BTA
    first, second = (model.sample(inputs, trainer_runs.noise(2, 4, 6, seed=n), mask, n) for n in (3, 10))
    assert torch.equal(first, second) and not torch.equal(first, torch.zeros_like(first))
    assert not first[~mask].any()
    noised = inputs.draws.state_noise_BHD  # what training adds to the state
    error = (
        model.sample(replace(inputs, state_BHD=inputs.state_BHD + noised), first, mask)
        - inputs.targets.value_BTA
    )
    total, count = model(inputs)["action"]
    assert float(total) == pytest.approx(float(error[mask].abs().sum()), rel=1e-5)
    assert int(count) == int(mask.sum())


def test_what_is_masked_changes_no_bit_of_a_regression() -> None:
    model, inputs = built("model.objective=l1"), make_inputs(["push", "lift it"])
    loss = model(inputs)["action"][0]
    for value in (1e3, float("nan")):
        assert torch.equal(model(garbled(inputs, value))["action"][0], loss)


def test_a_policy_that_regresses_trains_and_answers(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    make_version(store, "lift", [[12, 15], [9, 14, 11]], images=True)
    trainer_runs.run(store, tmp_path / "run", "model.objective=l1", "run.steps=2")
    policy = Policy.load(tmp_path / "run")
    state = {n: float(n.endswith(("rot6d.0", "rot6d.4"))) for n in policy.spaces.datasets[0].state.names}
    one, other = (policy.act({"images": {}, "state": state}, "lift", seed=seed) for seed in (1, 2))
    assert (one.values_TA == other.values_TA).all()


def test_sizes_are_those_of_the_flow() -> None:
    flow, regression = built(), built("model.objective=l1")
    shapes = {name: tuple(p.shape) for name, p in flow.named_parameters()}
    assert shapes == {name: tuple(p.shape) for name, p in regression.named_parameters()}
