"""One policy for a robot of one arm at 10 Hz and one of two arms at 20 Hz: dims, steps and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foundry_testing import trainer_runs
from foundry_testing.catalog_stores import POSE, make_version

from robot_foundry.catalog.store import Store
from robot_foundry.evaluation.openloop.openloop import openloop
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d
from robot_foundry.policy import Policy, Underway
from robot_foundry.runtime.errors import FoundryError

TIMINGS = {
    "steps": ("data.window.horizon=6", "data.window.history=2"),
    "seconds": ("data.window.horizon=0.4s", "data.window.history=0.1s"),
    "one rate": ("data.window.control_hz=10", "data.window.horizon=0.4s", "data.window.history=0.1s"),
}
# (steps of a chunk, moments seen, seconds a step) of each robot
EXPECTED = {
    "steps": {"one": (6, 2, 0.1), "two": (6, 2, 0.05)},
    "seconds": {"one": (4, 2, 0.1), "two": (8, 3, 0.05)},
    "one rate": {"one": (4, 2, 0.1), "two": (4, 2, 0.1)},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("arms") / "store")
    both = [*POSE, *(name.replace("right.", "left.") for name in POSE)]
    lengths = [[16, 18, 14], [15, 17]]
    make_version(store, "one", lengths, embodiment="arm", fps=10.0, images=True)
    make_version(store, "two", lengths, state=both, action=both, embodiment="arms", seed=1, images=True)
    return store


@pytest.fixture(scope="module", params=list(TIMINGS))
def answering(request: pytest.FixtureRequest, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The name of a timing, and a policy of it with projections for each robot, scaled by dataset."""
    folder = tmp_path_factory.mktemp("run")
    options = ("data.normalization=per_dataset", "model.head.per_embodiment=true", "run.steps=2")
    trainer_runs.run(store, folder, "data.mix=one=1,two=1", *TIMINGS[request.param], *options)
    return request.param, Policy.load(folder)


def observed(policy: Policy, name: str, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    space = policy.spaces.datasets[policy.number(name)].state
    state = rng.normal(size=len(space))
    for arm in range(len(space) // 10):
        turn = axis_angle_to_matrix(rng.normal(size=3))
        state[10 * arm + 3 : 10 * arm + 9] = matrix_to_rot6d(turn)
    image = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    return {"images": {"primary": image} if seed % 3 else {}, "state": state}


def test_each_robot_is_answered_in_its_dims_at_its_rate_and_in_batches(answering: Any) -> None:
    timing, policy = answering
    texts = ["", "lift", "lift the cube with both arms", "push", "é"]
    for name, arms in (("one", 1), ("two", 2)):
        steps, moments, dt = EXPECTED[timing][name]
        seen = [observed(policy, name, seed) for seed in range(5)]
        chunks = policy.act_batch(seen, texts, seeds=range(5), dataset=name)
        assert policy.steps(policy.number(name)).history == moments
        for seed, (chunk, one, text) in enumerate(zip(chunks, seen, texts, strict=True)):
            assert chunk.values_TA.shape == (steps, 10 * arms) and chunk.dt == pytest.approx(dt)
            assert {dim.part for dim in chunk.space} == ({"right", "left"} if arms == 2 else {"right"})
            alone = policy.act(one, text, seed=seed, dataset=name)
            np.testing.assert_allclose(chunk.values_TA, alone.values_TA, atol=1e-5)
            columns = chunk.values_TA[:, [3, 4, 5, 6, 7, 8]].reshape(-1, 2, 3)
            np.testing.assert_allclose(columns @ columns.swapaxes(1, 2), [np.eye(2)] * steps, atol=1e-9)
        pace = policy.pace(policy.number(name), 20.0)
        assert pace.step == pytest.approx(20 * dt) and pace.moments == 1 + round((moments - 1) * 20 * dt)


def test_each_robot_s_chunks_are_continued(answering: Any) -> None:
    """Also where the chunk is shorter than the batch's, and for two arms."""
    _, policy = answering
    for name in ("one", "two"):
        seen = [observed(policy, name, seed) for seed in range(3)]
        before = policy.act_batch(seen, [""] * 3, seeds=[5, 6, 7], dataset=name)
        underway = [Underway(before[0], 1, 1), None, Underway(before[2], 1.5, 1)]
        chunks = policy.act_batch(seen, [""] * 3, seeds=range(3), dataset=name, underway=underway)
        for seed, (chunk, one, told) in enumerate(zip(chunks, seen, underway, strict=True)):
            assert chunk.values_TA.shape == before[0].values_TA.shape
            alone = policy.act(one, "", seed=seed, dataset=name, underway=told)
            np.testing.assert_allclose(chunk.values_TA, alone.values_TA, atol=1e-5)


def test_robots_of_one_and_two_arms_share_a_batch(answering: Any) -> None:
    """In any order, each with a chunk under way or none, as if alone."""
    _, policy = answering
    names = ["two", "one", "one", "two", "one"]
    seen = [observed(policy, name, seed) for seed, name in enumerate(names)]
    texts = ["lift", "", "push it", "lift the cube", "é"]
    before = [policy.act(one, "", seed=9, dataset=name) for one, name in zip(seen, names, strict=True)]
    underway = [None, Underway(before[1], 1, 1), None, Underway(before[3], 2, 1), None]
    mixed = policy.act_batch(seen, texts, seeds=range(5), dataset=names, underway=underway)
    for row, (name, chunk) in enumerate(zip(names, mixed, strict=True)):
        alone = policy.act(seen[row], texts[row], seed=row, dataset=name, underway=underway[row])
        assert (chunk.space, chunk.dt) == (alone.space, alone.dt)
        np.testing.assert_allclose(chunk.values_TA, alone.values_TA, atol=1e-5)
    with pytest.raises(FoundryError, match="5 observations, 5 instructions, 5 seeds, 2 datasets"):
        policy.act_batch(seen, texts, seeds=range(5), dataset=names[:2])
    with pytest.raises(FoundryError, match="of other dims"):
        policy.act(seen[0], "", seed=0, dataset="two", underway=Underway(before[1], 1))


def test_open_loop_measures_both(answering: Any, store: Store) -> None:
    _, policy = answering
    report = openloop(policy, store, samples=32)["datasets"]
    assert set(report) == {"one", "two"}
    assert all(found["policy"]["position_mm"] > 0 for found in report.values())
