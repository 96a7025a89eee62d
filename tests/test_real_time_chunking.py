"""Real-time chunking: the guidance against closed forms, and a policy that continues a chunk under way."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.trainer_runs import TINY
from foundry_testing.vla_models import make, make_inputs
from torch import Tensor

from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy import Actions, Policy, Underway
from robot_foundry.policy.underway import continued, remaining
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.models.flow import sample
from robot_foundry.trainer.models.flow_guidance import (
    MOST_GUIDANCE,
    Guide,
    guidance_weight,
    guided,
    overlap_weights,
)
from robot_foundry.trainer.models.vla import VLA
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

# --- the guidance itself ------------------------------------------------------------------------------------


def test_weights_of_an_overlap_are_those_of_the_paper() -> None:
    """Equation 5 with H = 10, s = 4, d = 2, written out."""
    c = np.array([4, 3, 2, 1]) / 5
    expected = [1, 1, *(c * (np.exp(c) - 1) / (math.e - 1)), 0, 0, 0, 0]
    np.testing.assert_allclose(overlap_weights(10, 2, 6), expected, rtol=1e-6)
    many = overlap_weights(10, [2, 0, 7, 3], [6, 0, 6, 10])
    np.testing.assert_array_equal(many[0], overlap_weights(10, 2, 6))
    assert not many[1].any() and many[2].tolist() == [1] * 6 + [0] * 4 and many[3, 9] > 0
    assert (np.diff(many) <= 0).all() and overlap_weights(4, 1.5, 3).tolist()[:2] == [1, 1]


def test_corrections_are_strong_at_noise_and_bounded() -> None:
    assert guidance_weight(0.0) == MOST_GUIDANCE and guidance_weight(0.5) == pytest.approx(2)
    assert guidance_weight(0.1) == MOST_GUIDANCE < 0.82 / 0.09
    assert guidance_weight(0.9, most=100) == pytest.approx((0.81 + 0.01) / 0.09)


def test_guidance_on_a_linear_field_is_its_closed_form() -> None:
    """v = M x + b: the end is x + (1 - t)(M x + b), whose Jacobian is I + (1 - t) M."""
    matrix, offset = trainer_runs.noise(6, 6).double(), trainer_runs.noise(6, seed=1).double()
    x = trainer_runs.noise(2, 2, 3, seed=2).double()
    target, weight = trainer_runs.noise(2, 2, 3, seed=3).double(), torch.rand(2, 2, 3).double()

    def velocity(x_BTA: Tensor, t: float) -> Tensor:
        return (x_BTA.flatten(1) @ matrix.T + offset).view_as(x_BTA)

    for t in (0.0, 0.3, 0.9):
        v = velocity(x, t)
        jacobian = torch.eye(6) + (1 - t) * matrix
        error = (weight * (target - (x + (1 - t) * v))).flatten(1)
        expected = v + guidance_weight(t) * (error @ jacobian).view_as(x)
        found = guided(velocity, Guide(target, weight))(x, t)
        assert torch.allclose(found, expected, atol=1e-12)
        # With the identity for a Jacobian it would be another field.
        assert not torch.allclose(found, v + guidance_weight(t) * error.view_as(x), atol=1e-3)


def test_a_flow_is_drawn_to_the_old_chunk_where_it_counts_and_only_there() -> None:
    """Each number flows for itself to a chunk of its own; those that count end at the old one instead."""
    noise, own, old = (trainer_runs.noise(3, 4, 2, seed=seed) for seed in range(3))
    weight = torch.zeros(3, 4, 2)
    weight[:, :2] = 1

    def velocity(x_BTA: Tensor, t: float) -> Tensor:
        return own + 0 * x_BTA - noise  # the straight path from this noise

    free = sample(velocity, noise)
    kept = sample(guided(velocity, Guide(old, weight)), noise)
    assert torch.allclose(free, own, atol=1e-5) and torch.equal(kept[:, 2:], free[:, 2:])
    before, after = ((chunk - old)[:, :2].abs() for chunk in (free, kept))
    assert (after < 0.05 * before + 1e-6).all()


@pytest.fixture(scope="module")
def model() -> VLA:
    built = make(read_recipe(None, [*TINY, "data.mix=none"]).model, seed=0)
    with torch.no_grad():
        for i, parameter in enumerate(built.parameters()):
            parameter += 0.1 * trainer_runs.noise(*parameter.shape, seed=i)
    return built


def test_the_correction_is_the_gradient_through_the_network(model: VLA) -> None:
    """Half the weighted squared error of the predicted end, by finite differences in float64."""
    head, prefix = deepcopy(model.head).double(), trainer_runs.noise(1, 3, 16, seed=3).double()
    head.time_mlp.float(), head.time_modulation.float()  # features of the time are float32 always
    mask, t = torch.ones(1, 4, 6, dtype=torch.bool), 0.4
    x, target = (trainer_runs.noise(1, 4, 6, seed=seed).double() for seed in (0, 1))
    weight = torch.from_numpy(overlap_weights(4, 1, 3))[None, :, None].double().expand(1, 4, 6)

    def velocity(x_BTA: Tensor, t: float) -> Tensor:
        return head(x_BTA, torch.full((1, 1), t), prefix, mask)

    def loss(x_BTA: Tensor) -> float:
        end = x_BTA + (1 - t) * velocity(x_BTA, t)
        return float((weight * (target - end).square()).sum() / 2)

    with torch.no_grad():
        found = guided(velocity, Guide(target, weight))(x, t) - velocity(x, t)
        slopes = torch.zeros_like(x)
        for index in np.ndindex(*x.shape):
            step = torch.zeros_like(x)
            step[index] = 1e-5
            slopes[index] = (loss(x + step) - loss(x - step)) / 2e-5
    assert torch.allclose(found, -guidance_weight(t) * slopes, atol=1e-6)
    identity = weight * (target - (x + (1 - t) * velocity(x, t)))
    assert not torch.allclose(found, guidance_weight(t) * identity, atol=1e-2)


def test_what_does_not_count_changes_no_bit_and_masked_numbers_may_hold_anything(model: VLA) -> None:
    inputs = make_inputs(["push", "lift it"])
    assert inputs.targets is not None
    mask, noise = inputs.targets.mask_BTA, trainer_runs.noise(2, 4, 6, seed=7)
    target, weight = trainer_runs.noise(2, 4, 6, seed=8), torch.ones(2, 4, 6)
    weight[1] = 0
    weight = torch.where(mask, weight, 0)
    with torch.no_grad():
        plain = model.sample(inputs, noise, mask)
        steered = model.sample(inputs, noise, mask, guide=Guide(target, weight))
        garbage = model.sample(
            inputs, torch.where(mask, noise, 1e6), mask, guide=Guide(torch.where(mask, target, 1e6), weight)
        )
    assert torch.equal(steered[1], plain[1]) and not torch.allclose(steered[0], plain[0], atol=1e-2)
    assert torch.equal(garbage, steered) and not steered[~mask].any()
    closer, before = ((chunk - target)[0][mask[0]].abs().mean() for chunk in (steered, plain))
    assert closer < 0.5 * before


# --- a policy that continues a chunk ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A few steps on two robots, one of which has no camera; the head's output is moved off zero."""
    folder = tmp_path_factory.mktemp("chunks")
    store = trainer_runs.make_store(folder / "store")
    settings = ("data.mix=lift=1,six=1", "data.normalization=per_dataset", "data.window.horizon=6")
    trainer_runs.run(store, folder / "run", *settings, "run.steps=2")
    loaded = Policy.load(folder / "run")
    with torch.no_grad():
        for i, parameter in enumerate(loaded.model.head.parameters()):
            parameter += 0.1 * trainer_runs.noise(*parameter.shape, seed=i)
    return loaded


def observation(policy: Policy, dataset: str, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    space = policy.spaces.datasets[policy.number(dataset)].state
    state = 0.3 * rng.normal(size=len(space))
    state[3:9] = matrix_to_rot6d(axis_angle_to_matrix(rng.normal(size=3)))
    return {"images": {}, "state": state}


def test_old_targets_are_seen_from_the_new_state(policy: Policy) -> None:
    """Said of the state that it was predicted at, an old chunk is what the network said, but clipped."""
    for name in policy.datasets:
        seen = observation(policy, name)
        batch = policy.batch([seen, observation(policy, name, 5)], ["", ""], policy.number(name))
        said = policy.predict(batch, [3, 4])
        chunk = policy.act(seen, "", seed=3, dataset=name)
        mask = np.broadcast_to(batch.action_dim_mask_BA[:, None], said.shape)
        kinds = {"spaces": policy.spaces, "scales": policy.scales, "representation": "relative_tool"}
        target, weight = continued(batch, mask, [Underway(chunk, 0), Underway(chunk, 2, 1)], **kinds)
        normal = policy.scales.normalize_action(said, mask, batch.dataset_B)
        turning = [i for i, dim in enumerate(policy.spaces.action) if dim.kind == "rotation"]
        others = np.setdiff1d(np.flatnonzero(mask[0, 0]), turning)  # decoded rotations are orthonormal
        np.testing.assert_allclose(target[0][:, others], normal[0][:, others], atol=1e-5)
        # Of another state the same targets are other numbers, which lead to the same poses.
        moved = policy.scales.denormalize_action(target.astype(np.float64), mask, batch.dataset_B)
        reached = policy.decode(batch, moved)[1]
        posed = [i for i, dim in enumerate(policy.spaces.action) if dim.quantity.startswith("ee_")]
        inside = np.abs(target[1][:4, posed]).max(axis=-1) < 1.5
        assert inside.any()
        np.testing.assert_allclose(reached[:4, :9][inside], chunk.values_TA[2:, :9][inside], atol=1e-5)
        assert np.abs(target[1, :4][inside][:, posed] - target[0, 2:][inside][:, posed]).max() > 0.1
        assert weight[1, :, ~mask[1, 0]].sum() == 0
        assert weight[1, :, others[0]].tolist() == overlap_weights(6, 1, 4).tolist()


def test_between_steps_and_behind_the_end() -> None:
    dims = ActionSpace(["right.joint_position.0"])
    chunk = Actions(np.arange(5.0)[:, None], dims, 0.1)
    target, overlap = remaining(Underway(chunk, 1.5, 2), dims, 5)
    assert target[:, 0].tolist() == [1.5, 2.5, 3.5, 4, 4] and overlap == 3
    assert remaining(Underway(chunk, 5), dims, 5)[1] == 0
    assert remaining(Underway(chunk, 0.1 * 30), dims, 2)[0][:, 0].tolist() == [3, 4]
    for wrong, message in (
        (Underway(chunk, 3, 3), "has 5 steps: it ends before the next one is there"),
        (Underway(chunk, -1), "-1 steps are executed"),
        (Underway(replace(chunk, values_TA=np.full((5, 1), np.nan)), 1), "no numbers"),
    ):
        with pytest.raises(FoundryError, match=message):
            remaining(wrong, dims, 5)
    with pytest.raises(FoundryError, match="of other dims: right.joint_position.0"):
        remaining(Underway(chunk, 1), ActionSpace(["right.gripper_opening"]), 5)


def test_a_continued_chunk_keeps_to_the_old_one(policy: Policy) -> None:
    first, later = observation(policy, "lift"), observation(policy, "lift", 1)
    old = policy.act(first, "lift", seed=1, dataset="lift")
    naive = policy.act(later, "lift", seed=2, dataset="lift")
    continuing = policy.act(later, "lift", seed=2, dataset="lift", underway=Underway(old, 2, 2))
    away, kept = (
        np.linalg.norm(chunk.values_TA[:2, :3] - old.values_TA[2:4, :3], axis=-1).mean()
        for chunk in (naive, continuing)
    )
    assert kept < 0.5 * away, (kept, away)


def test_with_nothing_left_it_is_plain_sampling_bit_for_bit(policy: Policy) -> None:
    seen = observation(policy, "lift")
    old = policy.act(observation(policy, "lift", 1), "", seed=1, dataset="lift")
    plain = policy.act(seen, "push", seed=2, dataset="lift")
    ended = policy.act(seen, "push", seed=2, dataset="lift", underway=Underway(old, len(old.values_TA)))
    assert ended.values_TA.tobytes() == plain.values_TA.tobytes()
    # Beside a row that is continued too.
    both = {"seeds": [2, 3], "dataset": "lift"}
    alone = policy.act_batch([seen, seen], ["push", "push"], **both)
    beside = policy.act_batch([seen, seen], ["push", "push"], **both, underway=[None, Underway(old, 1, 1)])
    assert beside[0].values_TA.tobytes() == alone[0].values_TA.tobytes()
    assert not np.allclose(beside[1].values_TA, alone[1].values_TA, atol=1e-3)
    single = policy.act(seen, "push", seed=3, dataset="lift", underway=Underway(old, 1, 1))
    np.testing.assert_allclose(beside[1].values_TA, single.values_TA, atol=1e-5)


def test_the_backbone_sees_each_observation_once(policy: Policy) -> None:
    """Ten steps of the head to one pass of the decoder, guided or not."""
    calls = {"decoder": 0, "head": 0}
    seen = observation(policy, "lift")
    old = policy.act(seen, "", seed=1, dataset="lift")
    hooks = []
    for name, part in (("decoder", policy.model.backbone.decoder), ("head", policy.model.head)):

        def count(*_: Any, name: str = name) -> None:
            calls[name] += 1

        hooks.append(part.register_forward_hook(count))
    for underway in (None, Underway(old, 2, 1)):
        calls.update(decoder=0, head=0)
        policy.act(seen, "", seed=1, dataset="lift", underway=underway)
        assert calls == {"decoder": 1, "head": 10}
    for hook in hooks:
        hook.remove()


def test_a_regression_cannot_be_continued(policy: Policy, tmp_path: Path) -> None:
    store = trainer_runs.make_store(tmp_path / "store")
    trainer_runs.run(store, tmp_path / "run", "model.objective=l1", "run.steps=1")
    regression = Policy.load(tmp_path / "run")
    seen = observation(regression, "lift")
    old = regression.act(seen, "", seed=0)
    with pytest.raises(FoundryError, match="cannot be continued: model.objective is l1"):
        regression.act(seen, "", seed=0, underway=Underway(old, 1, 1))
    with pytest.raises(FoundryError, match="1 observations, 2 chunks under way"):
        policy.act_batch([seen], [""], seeds=[0], underway=[None, None])
