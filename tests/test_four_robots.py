"""Arms of 7 and 6 joints, a bimanual robot and a mobile base in one mixture, from tables to commands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from foundry_testing.catalog_stores import make_version
from foundry_testing.trainer_runs import tensors

from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.policy.policy import Policy
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.run import run_task
from robot_foundry.trainer.tasks.vla.recipe import read_recipe
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

POSE = ("ee_position", "ee_rot6d", "gripper_opening")
HORIZON = 4


def arm(part: str, joints: int) -> list[Any]:
    return [*(f"{part}.{q}" for q in POSE), *dims_for(f"{part}.joint_position", count=joints)]


# What each robot's state and actions are, and where its numbers lie: far from those of the others.
ROBOTS: dict[str, tuple[list[Any], list[Any], float]] = {
    "seven": (arm("right", 7), arm("right", 7), 10.0),
    "six": (arm("right", 6), arm("right", 6), -20.0),
    "bimanual": (arm("right", 6) + arm("left", 6), arm("right", 6) + arm("left", 6), 30.0),
    "rover": (
        ["base.position", "base.yaw", "base.linear_velocity"],
        ["base.linear_velocity", "base.yaw_velocity"],
        -40.0,
    ),
}
SIZES = {"seven": 17, "six": 16, "bimanual": 32, "rover": 3}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    for seed, (name, (state, action, centre)) in enumerate(ROBOTS.items()):
        make_version(
            store, name, [[12, 10, 11], [13, 9, 14]], seed=seed, state=state, action=action, images=True,
            embodiment=name, centre=centre,
        )  # fmt: skip
    return store


@pytest.fixture(scope="module", params=["merged", "per_dataset"])
def trained(store: Store, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three optimiser steps of the packaged recipe vla_tiny on all four, and the policy that they leave."""
    overrides = (
        f"data.mix={','.join(f'{name}=1' for name in ROBOTS)}", f"data.store={store.url}",
        f"run.dir={tmp_path_factory.mktemp('run')}", "run.steps=3", "data.global_batch=8", "model.draws=1",
        f"data.window.horizon={HORIZON}", "run.eval_samples=8", f"data.normalization={request.param}",
    )  # fmt: skip
    job = resolve_vla(read_recipe("vla_tiny", overrides))
    outcome = run_task(job, quiet=True)
    return SimpleNamespace(job=job, outcome=outcome, policy=Policy.load(outcome.run_dir))


def test_the_union_names_every_dim_once_and_rows_count_their_own(trained: Any, store: Store) -> None:
    spaces = trained.job.spaces
    # Poses and grippers are shared by name; joints are of their robot: 2 × 10, 7 + 6 + 12, 3.
    assert len(spaces.action) == 20 + 25 + 3
    assert {"seven:right.joint_position.6", "bimanual:left.joint_position.5"} <= set(spaces.action.names)
    window = trained.job.config.data.window
    with load(trained.job.mixture, window, seed=0, global_batch=64, store=store, threads=0) as loader:
        batch = loader.batch(0)
    assert set(batch.dataset_B) == {0, 1, 2, 3}
    for row, number in enumerate(batch.dataset_B):
        own = spaces.datasets[number]
        assert batch.action_dim_mask_BA[row].sum() == len(own.action) == SIZES[own.name]
        present = own.action.indices_in(spaces.action, own.embodiment)
        assert batch.action_dim_mask_BA[row][present].all()
        assert not batch.action_BTA[row][:, ~batch.action_dim_mask_BA[row]].any()


def test_they_train_together(trained: Any) -> None:
    assert trained.outcome.step == 3 and np.isfinite(trained.outcome.loss)
    assert [record["skipped"] for record in read_metrics(trained.outcome.run_dir) if "skipped" in record][
        -1
    ] == 0
    moved = tensors(trained.outcome.checkpoint)["model/head.action_out.weight"]
    # The output starts at zero: every row that moved belongs to a dim that some robot was taught.
    assert (moved.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("name", list(ROBOTS))
def test_each_robot_gets_its_own_dims_back(trained: Any, name: str) -> None:
    policy, (_, action, centre) = trained.policy, ROBOTS[name]
    own = policy.spaces.datasets[policy.spaces.dataset(name)]
    rng = np.random.default_rng(0)
    state = dict(zip(own.state.names, rng.normal(centre, 1.0, len(own.state)), strict=True))
    for part in ("right", "left"):
        for i, value in enumerate((1.0, 0.0, 0.0, 0.0, 1.0, 0.0)):
            if f"{part}.ee_rot6d.{i}" in state:
                state[f"{part}.ee_rot6d.{i}"] = value
    image = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    chunk = policy.act({"images": {"primary": image}, "state": state}, "go", seed=1, dataset=name)
    assert chunk.space == ActionSpace(action) and all(dim.representation == "absolute" for dim in chunk.space)
    assert chunk.values_TA.shape == (HORIZON, SIZES[name]) and np.isfinite(chunk.values_TA).all()
    columns = [i for i, dim in enumerate(chunk.space) if dim.kind in ("joint", "base", "position")]
    # A policy of three steps answers noise, but noise in this robot's units.
    assert np.abs(chunk.values_TA[:, columns] - centre).max() < 9.0
    for part in {dim.part for dim in chunk.space if dim.kind == "rotation"}:
        at = [chunk.space.index(f"{part}.ee_rot6d.{i}") for i in range(6)]
        columns_T23 = chunk.values_TA[:, at].reshape(-1, 2, 3)
        np.testing.assert_allclose(
            columns_T23 @ columns_T23.swapaxes(1, 2), np.eye(2) + 0 * columns_T23[:, :, :2], atol=1e-9
        )
