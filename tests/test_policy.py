"""A policy needs its checkpoint folder alone, sees what training saw, and answers in robot units."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing import catalog_stores, trainer_runs
from foundry_testing.catalog_stores import make_version
from foundry_testing.trainer_runs import make_store, tensors, tiny

from robot_foundry.catalog.mixture import Mixture, as_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_data import group as data_group
from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.openloop.errors import chunk_errors
from robot_foundry.evaluation.openloop.openloop import openloop
from robot_foundry.loader.load import load
from robot_foundry.normalization.rotation import axis_angle_to_matrix, matrix_to_rot6d, rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla

POSE = ActionSpace(catalog_stores.POSE)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 'lift' alone, history 2."""
    folder = tmp_path_factory.mktemp("lift")
    trainer_runs.run(
        store, folder, "data.window.history=2", "run.steps=40", "run.save_every=40", "optim.lr=0.01"
    )
    return folder


@pytest.fixture(scope="module")
def mixed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = tmp_path_factory.mktemp("mixed")
    trainer_runs.run(store, folder, "data.mix=seven=1,six=1", "data.normalization=per_dataset", "run.steps=4")
    return Policy.load(folder)


def observation(seed: int = 0, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    state = rng.normal(size=10)
    state[3:9] = matrix_to_rot6d(axis_angle_to_matrix(rng.normal(size=3)))
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return {"images": {"primary": image}, "state": dict(zip(POSE.names, state, strict=True)), **changes}


def test_the_folder_of_a_checkpoint_is_enough(trained: Path, tmp_path: Path) -> None:
    from_run = Policy.load(trained)
    shutil.copytree(trained / "checkpoints" / "step-00000040", tmp_path / "moved")
    moved = Policy.load(tmp_path / "moved")
    assert (moved.roles, moved.history, moved.datasets) == (("primary",), 2, ("lift",))
    ours, theirs = (p.act(observation(), "lift the cube", seed=3) for p in (from_run, moved))
    assert np.array_equal(ours.values_TA, theirs.values_TA)
    assert ours.values_TA.shape == (4, 10) and ours.values_TA.dtype == np.float64
    assert ours.space.names == POSE.names and ours.dt == 1 / 20
    assert all(dim.representation == "absolute" for dim in ours.space)


def test_averaged_weights_are_served(trained: Path) -> None:
    weights = tensors(trained / "checkpoints" / "step-00000040")
    for name, parameter in Policy.load(trained).model.named_parameters():
        assert parameter.equal(weights[f"ema/{name}"]) and not parameter.equal(weights[f"model/{name}"])


def test_targets_move_with_the_robot(trained: Path) -> None:
    """Actions are learned in the tool's frame: where the network answers the same, targets follow the pose.

    The network sees the pose, so its answer is held fixed here.
    """
    policy = Policy.load(trained)
    batch = policy.batch([observation(1), observation(2)], ["", ""], 0)
    action = policy.predict(batch, [0, 0])
    action[1] = action[0]
    first, second = policy.decode(batch, action)
    for row, target in enumerate((first, second)):
        state = batch.state_BHD[row, -1].astype(np.float64)
        in_tool_frame = rot6d_to_matrix(state[3:9]).T @ (target[0, :3] - state[:3])
        assert np.allclose(in_tool_frame, action[0, 0, :3], atol=1e-6)
    assert np.allclose(first[:, 9], second[:, 9])
    columns = first[:, 3:9].reshape(-1, 2, 3)
    assert np.allclose(columns @ columns.swapaxes(1, 2), np.eye(2), atol=1e-9)


def test_one_seed_gives_one_chunk_and_batches_change_rounding_alone(trained: Path) -> None:
    policy = Policy.load(trained)
    seen = [observation(i) for i in range(4)]
    texts = ["lift", "lift the cube 1", "", "é" * 100]
    single = [policy.act(o, t, seed=s).values_TA for o, t, s in zip(seen, texts, range(4), strict=True)]
    batch = policy.act_batch(seen, texts, seeds=range(4))
    for one, many in zip(single, batch, strict=True):
        assert np.allclose(one, many.values_TA, atol=1e-5)
    assert np.array_equal(single[0], policy.act(seen[0], texts[0], seed=0).values_TA)
    for changed in (
        policy.act(seen[0], texts[0], seed=1),
        policy.act(seen[0], texts[1], seed=0),
        policy.act({**seen[0], "images": seen[1]["images"]}, texts[0], seed=0),
        policy.act({**seen[0], "images": {}}, texts[0], seed=0),
    ):
        assert not np.allclose(single[0], changed.values_TA, atol=1e-6)


def test_what_the_policy_sees_is_what_training_saw(trained: Path, store: Store) -> None:
    """Stored frames, observed as a robot would report them, become the loader's own batch."""
    policy = Policy.load(trained)
    window = policy.config.data.window
    mixture = Mixture.from_json(policy.lineage["mixture"])
    with load(mixture, window, seed=0, global_batch=6, store=store, threads=0) as loader:
        batch = loader.batch(0)
    full = replace(window, image=None)
    with load(mixture, full, seed=0, global_batch=6, store=store, threads=0) as loader:
        stored = loader.batch(0)
    assert stored.images["primary"].shape[2:4] == (16, 24)
    observations = [
        {"images": {"primary": stored.images["primary"][row]}, "state": stored.state_BHD[row]}
        for row in range(6)
    ]
    seen = policy.batch(observations, batch.instruction, 0)
    for name in ("state_BHD", "state_mask_BD", "action_dim_mask_BA", "dataset_B"):
        assert np.array_equal(getattr(seen, name), getattr(batch, name)), name
    assert np.array_equal(seen.images["primary"], batch.images["primary"])
    assert np.array_equal(seen.image_mask["primary"], batch.image_mask["primary"])


def test_one_moment_is_repeated(trained: Path) -> None:
    policy = Policy.load(trained)
    once = observation()
    image, state = once["images"]["primary"], np.array(list(once["state"].values()))
    twice = {"images": {"primary": np.stack([image, image])}, "state": np.stack([state, state])}
    ours, theirs = (policy.act(o, "", seed=0).values_TA for o in (once, twice))
    assert np.array_equal(ours, theirs)


def test_each_robot_gets_its_own_dims(mixed: Policy) -> None:
    assert mixed.datasets == ("seven", "six")
    state = observation()["state"]
    for name, joints in (("seven", 7), ("six", 6)):
        own = {**state, **{f"right.joint_position.{i}": 0.1 for i in range(joints)}}
        chunk = mixed.act({"state": own, "images": {}}, "lift", seed=0, dataset=name)
        assert [n for n in chunk.space.names if "joint" in n] == [
            f"right.joint_position.{i}" for i in range(joints)
        ]
        assert chunk.values_TA.shape == (4, 10 + joints) and np.isfinite(chunk.values_TA).all()
    with pytest.raises(FoundryError, match="trained on 2 datasets: say which one"):
        mixed.act({"state": state}, "lift", seed=0)
    with pytest.raises(FoundryError, match="not trained on 'sevn', did you mean 'seven'"):
        mixed.act({"state": state}, "lift", seed=0, dataset="sevn")


@pytest.fixture(scope="module")
def timed(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 'lift' at 20 Hz and 'slow' at 10 Hz whose windows are given in seconds."""
    make_version(store, "slow", [[22, 25, 21], [19, 24]], fps=10.0, images=True)
    folder = tmp_path_factory.mktemp("timed")
    settings = (
        "data.mix=lift=0.5,slow=0.5", "data.window.horizon=0.2s", "data.window.history=0.1s",
        "data.window.flags={terminal: mask, intervention: 2}", "data.normalization=per_dataset",
        "data.normalization_scope=per_offset", "data.normalization_weights=mixture", "run.save_every=3",
    )  # fmt: skip
    trainer_runs.run(store, folder, *settings, "run.steps=3")
    assert trainer_runs.run(store, folder, *settings, "run.steps=6").resumed_from == 3
    return folder


def test_each_dataset_has_its_own_number_of_steps(timed: Path, store: Store) -> None:
    policy = Policy.load(timed)
    assert policy.history == 3
    for name, steps, moments, dt in (("lift", 4, 3, 0.05), ("slow", 2, 2, 0.1)):
        chunk = policy.act(observation(), "lift", seed=0, dataset=name)
        assert (len(chunk.values_TA), chunk.dt) == (steps, dt) and np.isfinite(chunk.values_TA).all()
        state = np.array(list(observation()["state"].values()))
        seen = observation(state=np.stack([state] * moments))
        assert np.array_equal(policy.act(seen, "lift", seed=0, dataset=name).values_TA, chunk.values_TA)
        with pytest.raises(FoundryError, match=rf"neither \(10,\) nor \({moments}, 10\)"):
            policy.act(observation(state=np.zeros((moments + 1, 10))), "lift", seed=0, dataset=name)
    report = openloop(policy, store, samples=32)
    assert all(found["policy"]["position_mm"] > 0 for found in report["datasets"].values())


def test_surplus_steps_of_a_shorter_chunk_change_nothing(timed: Path) -> None:
    """They are masked in the network: noise in them leaves no trace in the others."""
    policy = Policy.load(timed)
    slow = policy.spaces.dataset("slow")
    batch = policy.batch([observation()], ["lift"], slow)
    assert batch.step_mask_BT.tolist() == [[True, True, False, False]]
    action = policy.predict(batch, [0])
    assert not action[:, 2:].any() and action[:, :2].any()


def test_a_kept_normaliser_must_scale_steps_as_this_run_does(
    store: Store, timed: Path, tmp_path: Path
) -> None:
    kept = (
        "data.mix=lift",
        f"init.weights={timed}",
        "init.normalizer=keep",
        "data.normalization=per_dataset",
    )
    by_step = "data.normalization_scope=per_offset"
    job = resolve_vla(tiny(store, tmp_path, *kept, by_step, "data.window.horizon=4"))
    (normalizer,) = job.first_scales().action
    assert normalizer == Policy.load(timed).scales.action[0] and len(normalizer.offsets) == 4
    with pytest.raises(FoundryError, match="is per_offset, it cannot be kept as pooled"):
        resolve_vla(tiny(store, tmp_path, *kept)).first_scales()
    with pytest.raises(FoundryError, match="has scales for 4 steps, chunks have 5"):
        resolve_vla(tiny(store, tmp_path, *kept, by_step, "data.window.horizon=5")).first_scales()


def test_a_control_rate_is_the_policy_s_own(store: Store, timed: Path, tmp_path: Path) -> None:
    trainer_runs.run(
        store, tmp_path, "data.mix=lift=0.5,slow=0.5", "data.window.control_hz=15", "run.steps=2",
        "data.window.horizon=0.4s", "data.split_by=time", "data.val_fraction=1/3",
    )  # fmt: skip
    policy = Policy.load(tmp_path)
    for name in policy.datasets:
        chunk = policy.act(observation(), "lift", seed=0, dataset=name)
        assert (len(chunk.values_TA), chunk.dt) == (6, pytest.approx(1 / 15))
    pace = policy.pace(policy.spaces.dataset("slow"), 30)
    assert pace.step == pytest.approx(2) and pace.targets(chunk.values_TA, chunk.space).shape == (11, 10)
    gaps = {c["selection"]["gap"] for c in policy.lineage["mixture"]["components"]}
    assert gaps == {10}  # 6 targets and an observation, 1.33 rows apart at 20 Hz
    assert openloop(policy, store, samples=32)["samples"] == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": {"right.ee_position.x": 0.0}}, "right.ee_position.y must be known"),
        (
            {"state": {"right.ee_positon.x": 0.0}},
            "no 'right.ee_positon.x', did you mean 'right.ee_position.x'",
        ),
        ({"state": np.zeros(9)}, r"a state of shape \(9,\) is neither \(10,\) nor \(2, 10\)"),
        ({"state": None}, "the observation has no state; it needs right.ee_position.x"),
        ({"images": {"primry": np.zeros((4, 4, 3), np.uint8)}}, "no camera 'primry', did you mean 'primary'"),
        ({"images": {"primary": np.zeros((4, 4, 3))}}, "the image 'primary' is float64"),
        ({"images": {"primary": np.zeros((3, 4, 4, 3), np.uint8)}}, "has 3 moments, the policy sees 2"),
    ],
)
def test_bad_observations_are_refused_in_one_sentence(
    trained: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FoundryError, match=message):
        Policy.load(trained).act(observation(**changes), "", seed=0)


def test_an_unknown_state_value_is_masked_or_refused_where_it_is_needed(mixed: Policy) -> None:
    state = {**observation()["state"], **{f"right.joint_position.{i}": 0.1 for i in range(6)}}
    state["right.joint_position.3"] = np.nan
    chunk = mixed.act({"state": state}, "lift", seed=0, dataset="six")
    assert np.isfinite(chunk.values_TA).all()
    state["right.ee_position.x"] = np.nan
    with pytest.raises(FoundryError, match="right.ee_position.x must be known"):
        mixed.act({"state": state}, "lift", seed=0, dataset="six")


def test_the_rotation_that_positions_are_relative_to_must_be_known(tmp_path: Path) -> None:
    """Also where no target names it: positions of the tool's frame turn with the state's rotation."""
    store = Store(tmp_path / "store")
    position = [name for name in catalog_stores.POSE if "ee_rot6d" not in name]
    make_version(store, "lift", [[12, 9]], action=position, images=True)
    trainer_runs.run(store, tmp_path / "run", "run.steps=1", "run.save_every=1")
    policy, seen = Policy.load(tmp_path / "run"), observation()
    assert policy.act(seen, "lift", seed=0).values_TA.shape == (4, 4)
    seen["state"]["right.ee_rot6d.2"] = np.nan
    with pytest.raises(FoundryError, match="right.ee_rot6d.2 must be known: .* relative_tool to it"):
        policy.act(seen, "lift", seed=0)


def test_a_robot_without_rotations_trains_by_default_and_says_along_which_axes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    dims = [name for name in catalog_stores.POSE if "ee_rot6d" not in name]
    make_version(store, "gantry", [[12, 9, 10]], state=dims, action=dims, images=True)
    trainer_runs.run(store, tmp_path / "run", "data.mix=gantry", "run.steps=1", "run.save_every=1")
    policy = Policy.load(tmp_path / "run")
    assert policy.config.data.window.representation == "relative_tool"
    assert policy.spaces.action.dims[0].representation == "relative_base"
    notes = resolve_vla(tiny(store, tmp_path / "run", "data.mix=gantry")).notes
    assert "gantry has no rotation of right: relative_tool is relative_base there" in notes
    seen = observation()
    seen["state"] = {name: value for name, value in seen["state"].items() if "rot6d" not in name}
    chunk = policy.act(seen, "lift", seed=0)
    assert chunk.values_TA.shape == (4, 4)
    seen["state"]["right.ee_position.x"] += 5.0  # targets move with the anchor, along the axes of the base
    moved = policy.act(seen, "lift", seed=0)
    assert not np.allclose(moved.values_TA[:, 0], chunk.values_TA[:, 0], atol=1.0)
    arguments = ("stats", "gantry", "-r", "relative_tool", "--horizon", "2", "--store", store.url)
    assert run(data_group, "foundry-data", arguments) == 0
    assert "Note: gantry has no rotation of right" in capsys.readouterr().err


# --- open loop ----------------------------------------------------------------------------------------------


def test_errors_are_in_millimetres_degrees_and_shares() -> None:
    space = ActionSpace(POSE)
    target = np.zeros((2, 10))
    target[:, 3:9] = matrix_to_rot6d(np.eye(3))
    value = target.copy()
    value[0, :3] = (0.003, 0.004, 0.0)
    value[1, 3:9] = matrix_to_rot6d(axis_angle_to_matrix(np.array([0.0, 0.0, np.pi / 6])))
    value[1, 9] = 0.9
    errors = chunk_errors(value, target, space)["right"]
    assert np.allclose(errors["position_mm"], [5, 0])
    assert np.allclose(errors["rotation_deg"], [0, 30], atol=1e-5)
    assert errors["gripper"].tolist() == [1, 0]


def test_a_policy_that_answers_the_demonstration_has_no_error(
    trained: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Policy, "predict", lambda self, batch, seeds: batch.action_BTA.astype(np.float64))
    report = openloop(Policy.load(trained), store, samples=32)
    means = report["datasets"]["lift"]
    assert means["policy"] == {"position_mm": 0, "rotation_deg": pytest.approx(0, abs=1e-3), "gripper": 1}
    assert means["hold_still"]["position_mm"] > 100
    assert "repeat_last" not in means and "holding still" in means["left_out"]["repeat_last"]
    assert max(means["dims"]["right.ee_position.x"]["policy"]) == pytest.approx(0, abs=1e-6)


def test_open_loop_measures_held_out_rows(
    trained: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("openloop", str(trained), "--store", store.url, "--samples", "64", "--json")
    assert run(group, "foundry-eval", arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["split"], report["samples"], report["note"]) == ("val", 64, None)
    assert report["mixture_id"] == as_mixture(store, "lift", split="val").mixture.id
    means = report["datasets"]["lift"]
    assert means["policy"]["position_mm"] > 0 and 0 <= means["policy"]["gripper"] <= 1
    assert run(group, "foundry-eval", arguments[:-1]) == 0
    text = capsys.readouterr().out
    assert "hold still" in text and "position mm" in text and "64 chunks of the split 'val'" in text


def test_without_held_out_episodes_it_says_what_it_measured(store: Store, tmp_path: Path) -> None:
    make_version(store, "lone", [[40]], images=True)
    with pytest.warns(FoundryWarning, match="no held-out loss") as told:
        outcome = trainer_runs.run(store, tmp_path, "data.mix=lone", "run.steps=1")
    assert outcome.held_out_loss is None and outcome.notes[-1] == str(told[-1].message)
    report = openloop(Policy.load(tmp_path), store, samples=32)
    assert "which training saw" in report["note"] and report["datasets"]["lone"]["policy"]["position_mm"] > 0
    held = trainer_runs.run(store, tmp_path / "time", "data.mix=lone", "data.split_by=time", "run.steps=1")
    assert held.held_out_loss is not None
    assert openloop(Policy.load(tmp_path / "time"), store, samples=32)["note"] is None
