"""Any number of pictures: four cameras at two moments, fewer, more, and those that are not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foundry_testing import trainer_runs
from foundry_testing.catalog_stores import make_version
from foundry_testing.trainer_runs import TINY
from foundry_testing.vla_models import make, make_inputs

from robot_foundry.catalog.mixture import Mixture
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.policy.policy import Policy
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.tasks.vla.inputs import InputMaker, build_inputs
from robot_foundry.trainer.tasks.vla.recipe import read_recipe

CAMERAS = {"agentview": "primary", "side": "secondary", "hand": "wrist_right", "other": "wrist_left"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a robot with four cameras and on one with a single one, at two moments each."""
    folder = tmp_path_factory.mktemp("pictures")
    store = Store(folder / "store")
    make_version(store, "four", [[12, 9], [10, 11]], images=True, cameras=CAMERAS)
    make_version(store, "one", [[12, 9], [10, 11]], images=True)
    roles = f"data.window.cameras=[{', '.join(CAMERAS.values())}]"
    trainer_runs.run(
        store, folder / "run", "data.mix=four=1,one=1", roles, "data.window.history=2", "run.steps=2"
    )
    return folder


def test_eight_pictures_a_sample_train_and_those_that_are_absent_are_masked(run: Path) -> None:
    losses = [record["loss"] for record in read_metrics(run / "run") if "loss" in record]
    assert len(losses) == 2 and np.isfinite(losses).all()
    policy = Policy.load(run / "run")
    maker = InputMaker.of(policy.config, policy.spaces, policy.scales, policy.words)
    mixture = Mixture.from_json(policy.lineage["mixture"])
    window, store = policy.config.data.window, run / "store"
    with load(mixture, window, seed=0, global_batch=8, store=store, threads=0) as loader:
        batch = loader.batch(0)
    inputs = maker(batch)
    assert inputs.image_BVHWC.shape == (8, 8, 16, 16, 3)
    names = [policy.datasets[number] for number in batch.dataset_B]
    assert set(names) == {"four", "one"}
    for name, mask in zip(names, inputs.view_mask_BV.tolist(), strict=True):
        assert mask == ([True] * 8 if name == "four" else [True] * 2 + [False] * 6)


def test_each_camera_is_looked_at_and_only_those_that_are_there(run: Path) -> None:
    policy = Policy.load(run / "run")
    assert policy.history == 2 and len(policy.roles) == 4
    rng = np.random.default_rng(0)
    images = {role: rng.integers(0, 256, (2, 16, 24, 3), dtype=np.uint8) for role in policy.roles}
    state = {n: float(n.endswith(("rot6d.0", "rot6d.4"))) for n in policy.spaces.datasets[0].state.names}

    def features(**shown: Any) -> torch.Tensor:
        pictures = {role: pixels for role, pixels in {**images, **shown}.items() if pixels is not None}
        batch = policy.batch([{"images": pictures, "state": state}], ["lift"], 0)
        inputs = build_inputs(
            batch, scales=policy.scales, words=policy.words, roles=policy.roles, targets=False
        )
        assert inputs.view_mask_BV.sum() == 2 * len(pictures)
        with torch.no_grad():
            return policy.model.condition(inputs)

    whole = features()
    for role, pixels in images.items():
        for moment in range(2):
            other = pixels.copy()
            other[moment] = 255 - other[moment]
            assert (features(**{role: other}) - whole).abs().max() > 1e-5, (role, moment)
        without = features(**{role: None})
        assert (without - whole).abs().max() > 1e-5, role
    chunk = policy.act({"images": images, "state": state}, "lift", seed=0, dataset="four")
    assert np.isfinite(chunk.values_TA).all()


@pytest.mark.parametrize("views", [1, 3, 8, 13])
def test_a_model_takes_any_number_of_pictures(views: int) -> None:
    """One model, as its parameters count no pictures; a step on each number lowers its loss."""
    model = make(read_recipe(None, [*TINY, "data.mix=none"]).model, seed=0)
    inputs = make_inputs(["push", "lift it"])
    rng = np.random.default_rng(views)
    inputs = replace(
        inputs,
        image_BVHWC=torch.from_numpy(rng.integers(0, 256, (2, views, 16, 16, 3), dtype=np.uint8)),
        view_mask_BV=torch.from_numpy(rng.random((2, views)) < 0.7),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        loss = model(inputs)["action"][0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[1] < losses[0]
