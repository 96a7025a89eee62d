"""A policy in a robot's loop sees the very bits that it was trained on.

Two recordings of unlike rates, cameras and image sizes are ingested; each of their episodes is then played to
a policy as a robot would live it, one period after the other, and compared with the loader's batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foundry_testing import trainer_runs
from make_robomimic import make

from robot_foundry.catalog.mixture import Mixture, as_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.engine import run
from robot_foundry.ingest.spec.spec_files import load_spec
from robot_foundry.loader.load import load
from robot_foundry.loader.open import open as open_dataset
from robot_foundry.loader.order import Order
from robot_foundry.policy.policy import Policy
from robot_foundry.trainer.models.vla import Inputs
from robot_foundry.trainer.tasks.vla.inputs import build_inputs

RATES = {"fast": 20.0, "slow": 10.0}
BATCH = 36
TENSORS = ("image_BVHWC", "view_mask_BV", "token_BS", "obs_B", "state_BHD", "state_mask_BHD")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """'fast' has both cameras, 'slow' the primary one alone, in another size."""
    folder = tmp_path_factory.mktemp("skew")
    for name, size, more in (
        ("fast", 32, ["mapping.cameras={agentview: primary, robot0_eye_in_hand: wrist_right}"]),
        ("slow", 28, ["mapping.cameras={agentview: primary}", "content.cameras=[agentview]"]),
    ):
        path = folder / f"{name}.hdf5"
        make(path, episodes=2, frames=9, size=size)
        fps = [f"content.fps={RATES[name]:g}"]
        run(load_spec("robomimic", [*more, *fps]), path, store=folder / "store", name=name)
    return Store(folder / "store")


@pytest.fixture(
    scope="module",
    params=["data.window.history=3", "data.window.history=0.1s", "data.window.history=0.2s hertz"],
)
def policy(store: Store, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """Of equal histories in steps, of unlike ones in seconds, and of moments between the frames."""
    history, *hertz = request.param.split()
    rate = ["data.window.control_hz=15"] if hertz else []
    folder = tmp_path_factory.mktemp("run")
    cameras = "data.window.cameras=[primary, wrist_right]"
    steps = ("run.steps=1", "run.save_every=1")
    trainer_runs.run(store, folder, "data.mix=fast=1,slow=1", cameras, history, *rate, *steps)
    return Policy.load(folder)


def lived(policy: Policy, store: Store, name: str) -> list[tuple[dict[str, Any], str]]:
    """Observations of all moments of a dataset, and the instructions, from what was seen until then."""
    dataset = open_dataset(name, store)
    pace = policy.pace(policy.datasets.index(name), RATES[name])
    seen = []
    for row in dataset.episodes().to_pylist():
        episode = dataset.episode(row["key"])
        frames = list(episode)
        for i in range(len(frames)):
            past = frames[max(0, i + 1 - pace.moments) : i + 1]
            images = {
                role: pace.images(np.stack([frame[f"image.{role}"] for frame in past]))
                for role in policy.roles
                if f"image.{role}" in frames[i]
            }
            state = pace.states(np.stack([frame["state"] for frame in past]), dataset.space())
            seen.append(({"images": images, "state": state}, episode.annotations[0]["text"]))
    return seen


def test_what_is_lived_is_what_was_trained_on(policy: Policy, store: Store) -> None:
    mixture = as_mixture(store, Mixture.from_json(policy.lineage["mixture"]), split="all")
    observed = {name: lived(policy, store, name) for name in RATES}
    assert {len(seen) for seen in observed.values()} == {18}
    inputs = {"targets": False, "scales": policy.scales, "words": policy.words, "roles": policy.roles}
    window = policy.config.data.window
    with load(mixture, window, seed=1, global_batch=BATCH, store=store, split="all", threads=0) as loader:
        batch = loader.batch(0)
    dataset_B, _, sample_B = Order(mixture.mixture, seed=1).at(batch.k_B)
    for number, name in enumerate(policy.datasets):
        (rows,) = np.nonzero(dataset_B == number)
        assert sorted(sample_B[rows]) == list(range(18))  # every frame, those at the start as well
        played = [observed[name][sample] for sample in sample_B[rows]]
        ours = policy.batch([one for one, _ in played], [text for _, text in played], number)
        for field in ("state_BHD", "state_mask_BD", "action_dim_mask_BA", "dataset_B"):
            assert bits(getattr(ours, field)) == bits(getattr(batch, field)[rows]), (name, field)
        for role in policy.roles:
            assert bits(ours.images[role]) == bits(batch.images[role][rows]), (name, role)
            assert bits(ours.image_mask[role]) == bits(batch.image_mask[role][rows]), (name, role)
        assert ours.image_mask["primary"].all()
        assert ours.image_mask["wrist_right"].all() == (name == "fast")
        made, trained = build_inputs(ours, **inputs), build_inputs(batch, **inputs)
        for field in TENSORS:
            assert bits(values(made, field)) == bits(values(trained, field)[rows]), (name, field)


def values(inputs: Inputs, field: str) -> np.ndarray:
    tensor = getattr(inputs, field)
    return np.asarray(tensor)


def bits(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.str, array.shape, array.tobytes()
