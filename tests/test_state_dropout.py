"""Proprioception that samples hide while training, and that a policy is never shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foundry_testing import trainer_runs
from foundry_testing.catalog_stores import make_version

from robot_foundry.catalog.mixture import Mixture
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import load
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.tasks.vla.draws import state_seen
from robot_foundry.trainer.tasks.vla.inputs import InputMaker


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("dropout") / "store")
    make_version(store, "lift", [[12, 15], [9, 14, 11]], images=True)
    return store


def test_who_hides_it_depends_on_the_sample_alone_and_comes_as_often_as_asked() -> None:
    k = np.arange(4000)
    seen = state_seen(k, 3, 0.3)
    assert abs(seen.mean() - 0.7) < 0.03
    assert np.array_equal(state_seen(k[::-7], 3, 0.3), seen[::-7])
    assert not np.array_equal(state_seen(k, 4, 0.3), seen)
    assert state_seen(k, 3, 0.0).all() and not state_seen(k, 3, 1.0).any()


def acting(policy: Policy, shift: float) -> np.ndarray:
    images = {role: np.full((1, 16, 24, 3), 90, np.uint8) for role in policy.roles}
    names = policy.spaces.datasets[0].state.names
    state = {name: float(name.endswith(("rot6d.0", "rot6d.4"))) for name in names}
    state["right.gripper_opening"] = shift
    return policy.act({"images": images, "state": state}, "lift", seed=0).values_TA


def test_with_all_hidden_the_policy_acts_without_it_and_with_less_it_acts_with_it(
    store: Store, tmp_path: Path
) -> None:
    for share in (0.5, 1):
        trainer_runs.run(store, tmp_path / f"{share}", f"model.state_dropout={share}", "run.steps=2")
        policy = Policy.load(tmp_path / f"{share}")
        window, mixture = policy.config.data.window, Mixture.from_json(policy.lineage["mixture"])
        with load(mixture, window, seed=0, global_batch=16, store=store, threads=0) as loader:
            batch = loader.batch(0)
        maker = InputMaker.of(policy.config, policy.spaces, policy.scales, policy.words)
        shown_B = maker(batch).state_mask_BHD.any(dim=(1, 2)).numpy()
        assert np.array_equal(shown_B, state_seen(batch.k_B, policy.config.seed, share))
        assert np.array_equal(acting(policy, 0.0), acting(policy, 1.0)) is (share == 1)


def test_a_share_outside_0_to_1_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"model.state_dropout: must lie in 0 … 1, not 1.5"):
        trainer_runs.run(store, tmp_path / "run", "model.state_dropout=1.5")
