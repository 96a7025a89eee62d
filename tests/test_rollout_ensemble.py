"""Temporal ensembling: each target is the weighted mean of all chunks that are there for its period."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.execution import Ensemble
from robot_foundry.evaluation.rollout import RolloutSpec, rollout
from robot_foundry.evaluation.rollouts.spec import CONTROLS
from robot_foundry.normalization.rotation import matrix_to_rot6d, rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import UsageError

GRIPPER = ActionSpace(["right.gripper_opening"])
ARM = ActionSpace([*(f"right.ee_rot6d.{k}" for k in range(6)), "right.gripper_opening"])
HORIZON = 8


@given(
    execute=st.integers(1, HORIZON),
    decay=st.floats(0, 3),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
@settings(deadline=None, max_examples=40)
def test_targets_are_the_means_that_the_paper_defines(
    execute: int, decay: float, seed: int, data: st.DataObject
) -> None:
    """Period by period against all chunks: w_i = exp(-m i), i = 0 for the oldest that covers the period."""
    delay = data.draw(st.integers(0, min(execute, HORIZON - execute)))
    chunks = np.random.default_rng(seed).normal(size=(6, HORIZON, 1))
    ensemble = Ensemble(GRIPPER, execute, decay, delay)
    done = np.concatenate([ensemble.follow(chunk) for chunk in chunks])
    assert len(done) == 6 * execute and ensemble.executed == execute
    for period, target in enumerate(done[:, 0]):
        said = [
            chunk[period - asked, 0]
            for asked, chunk in zip(range(0, 6 * execute, execute), chunks, strict=True)
            if 0 <= period - asked < HORIZON and (asked == 0 or asked + delay <= period)
        ]
        weights = np.exp(-decay * np.arange(len(said)))
        assert target == pytest.approx(np.average(said, weights=weights), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0, 1))
@settings(deadline=None, max_examples=30)
def test_the_mean_of_rotations_is_a_rotation_between_them(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(random.normal(size=(2, 3)) * spread) * Rotation.random(random_state=random)
    rows = [
        np.append(matrix_to_rot6d(turn), opening)
        for turn, opening in zip(turns.as_matrix(), (0, 1), strict=True)
    ]
    ensemble = Ensemble(ARM, 1, 0.0)
    ensemble.follow(np.stack([rows[0]] * 2))
    (target,) = ensemble.follow(rows[1][None])
    mean = rot6d_to_matrix(target[:6])
    np.testing.assert_allclose(matrix_to_rot6d(mean), target[:6], atol=1e-12)
    assert target[6] == 0.5
    between = (turns[0].inv() * turns[1]).magnitude()
    for turn in turns:
        assert (turn.inv() * Rotation.from_matrix(mean)).magnitude() <= between + 1e-9


def test_chunks_that_are_alike_change_nothing_and_what_it_cannot_be_is_refused() -> None:
    spec = RolloutSpec(ActorSpec(None), "reach_single", episodes=1, max_steps=4, execute=2)
    assert replace_ensemble(spec, 0.01).condition == "random-ensemble0.01"
    one = rollout(spec, quiet=True, films=0).episodes[0]
    averaged = rollout(replace_ensemble(spec, 50.0), quiet=True, films=0).episodes[0]
    assert one.executed is not None and averaged.executed is not None
    np.testing.assert_allclose(averaged.executed.target_TA[:2], one.executed.target_TA[:2], atol=1e-12)
    for wrong, said in (
        ({"ensemble": -1.0}, "ensemble must be a finite number of at least 0"),
        ({"ensemble": 0.1, "rtc": True}, "ensemble and rtc exclude each other"),
    ):
        with pytest.raises(UsageError, match=said):
            RolloutSpec(ActorSpec(None), "reach_single", **wrong)
    policy = RolloutSpec(ActorSpec("run"), "reach", ensemble=0.1, execute=1)
    assert [policy.control(name).condition for name in CONTROLS] == [
        "policy-blank-ensemble0.1", "policy-shuffled-ensemble0.1", "random",
    ]  # fmt: skip
    assert policy.control("random").execute == 8


def replace_ensemble(spec: RolloutSpec, decay: float) -> RolloutSpec:
    return RolloutSpec(**{**vars(spec), "ensemble": decay})
