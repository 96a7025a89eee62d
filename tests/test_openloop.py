"""Open-loop errors by offset, arm and dim: a second time from the dataset's rows and SciPy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from foundry_testing import trainer_runs
from foundry_testing.catalog_stores import POSE, make_version
from scipy.spatial.transform import Rotation

import robot_foundry
from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run
from robot_foundry.evaluation.openloop.errors import chunk_errors, unmeasured
from robot_foundry.evaluation.openloop.openloop import openloop
from robot_foundry.evaluation.openloop.report import Chunk, Told, dataset_report
from robot_foundry.evaluation.scorecards.figures import openloop_rows
from robot_foundry.evaluation.scorecards.reports import Subject
from robot_foundry.loader.order import Order
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.policy import Policy
from robot_foundry.runtime.keyed import key

ARMS = ("right", "left")
DIMS = [*POSE, *(name.replace("right", "left") for name in POSE)]
SEED, SAMPLES, STEPS = 3, 40, 4  # one batch of 32 and a part of the next


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("arms") / "store")
    lengths = [[12, 15, 13], [9] * 10, [11] * 9]
    make_version(store, "two_arms", lengths, state=DIMS, action=DIMS, images=True, stream="command")
    return store


@pytest.fixture(scope="module")
def run_folder(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trainer_runs.run(store, folder, "data.mix=two_arms", "run.steps=2", "data.window.stream=command")
    return folder


@pytest.fixture(scope="module")
def policy(run_folder: Path) -> Policy:
    return Policy.load(run_folder)


@pytest.fixture(scope="module")
def report(policy: Policy, store: Store) -> dict[str, Any]:
    return openloop(policy, store, samples=SAMPLES, seed=SEED)


def test_what_is_held_out_is_shown_as_it_is(policy: Policy, store: Store, report: dict[str, Any]) -> None:
    window = replace(policy.config.data.window, swapped_pictures=1.0)
    data = replace(policy.config.data, window=window)
    taught = replace(policy, config=replace(policy.config, data=data))
    assert openloop(taught, store, samples=SAMPLES, seed=SEED) == report


Answers = dict[str, np.ndarray | None]


def beside(policy: Policy, store: Store) -> Iterator[tuple[int, np.ndarray, Answers]]:
    """Of each sample each step that there is: the demonstrated target, and what is answered to it.

    The last command is that of the row before, where the episode has one.
    """
    dataset = robot_foundry.open("two_arms", store=store, split="val")
    assert len(dataset) > 20
    _, _, sample_n = Order(as_mixture(store, "two_arms", split="val"), seed=SEED).at(np.arange(SAMPLES))
    for k, i in enumerate(sample_n.tolist()):
        frame = dataset[i]
        before = dataset[i - 1] if i else frame
        is_known = before["key"] == frame["key"] and before["frame"] == frame["frame"] - 1
        seen = {"images": {"primary": frame["image.primary"]}, "state": frame["state"]}
        [text] = [a["text"] for a in dataset.episode(frame["key"]).annotations]
        value_Td = policy.act(seen, text, seed=key("openloop", SEED, k)).values_TA
        for step in range(STEPS):
            if i + step < len(dataset) and (later := dataset[i + step])["key"] == frame["key"]:
                last_d = before["action.command"] if is_known else None
                answers = {"policy": value_Td[step], "hold_still": frame["state"], "repeat_last": last_d}
                yield step, later["action.command"], answers


def pose_errors(value_d: np.ndarray, target_d: np.ndarray, arm: int) -> tuple[float, float]:
    """Distance in mm and geodesic angle in degrees of one arm, of 10 numbers each."""
    value_d, target_d = (x[10 * arm : 10 * arm + 10].astype(np.float64) for x in (value_d, target_d))
    turns = []
    for x in (value_d, target_d):
        columns = np.stack([x[3:6], x[6:9], np.cross(x[3:6], x[6:9])], axis=1)
        turns.append(Rotation.from_matrix(columns))
    angle = np.degrees((turns[0].inv() * turns[1]).magnitude())
    return 1000 * float(np.linalg.norm(value_d[:3] - target_d[:3])), float(angle)


def test_errors_by_offset_arm_and_dim_are_those_of_numpy_and_scipy(
    policy: Policy, store: Store, report: Any
) -> None:
    found: dict[Any, list[tuple[float, float]]] = {}
    dims: dict[Any, list[np.ndarray]] = {}
    for step, target_d, answers in beside(policy, store):
        for source, answer_d in answers.items():
            if answer_d is None:
                continue
            dims.setdefault((source, step), []).append(np.abs(np.float64(answer_d) - target_d))
            for arm, name in enumerate(ARMS):
                found.setdefault((name, source, step), []).append(pose_errors(answer_d, target_d, arm))
    arms = report["datasets"]["two_arms"]
    assert list(arms["parts"]) == list(ARMS) and arms["step_s"] == 1 / 20
    for (name, source, step), errors in found.items():
        of_arm = arms["parts"][name]
        assert of_arm["steps"][step] == len(errors) or source == "repeat_last"
        position, angle = np.mean(errors, axis=0)
        assert of_arm[source]["position_mm"][step] == pytest.approx(position, rel=1e-4)
        assert of_arm[source]["rotation_deg"][step] == pytest.approx(angle, rel=1e-4, abs=1e-3)
    for (source, step), errors_nd in dims.items():
        for at, dim in enumerate(ActionSpace(DIMS).dims):
            if dim.quantity != "ee_rot6d":
                told = arms["dims"][dim.name]
                assert told["unit"] == dim.unit
                assert told[source][step] == pytest.approx(np.mean(errors_nd, axis=0)[at], rel=1e-4)
    assert len(arms["dims"]) == 8 and len(dims["repeat_last", 0]) < len(dims["policy", 0])
    for source in ("policy", "hold_still", "repeat_last"):
        every = [e for (_, of, _), errors in found.items() if of == source for e in errors]
        assert arms[source]["position_mm"] == pytest.approx(np.mean(every, axis=0)[0], rel=1e-4)
        assert arms[source]["rotation_deg"] == pytest.approx(np.mean(every, axis=0)[1], rel=1e-4)
    assert found["right", "policy", 0] != found["left", "policy", 0]  # the arms are told apart
    assert len(found["right", "policy", 3]) < len(found["right", "policy", 0]) == SAMPLES


def test_a_report_says_what_it_is_of(store: Store, report: dict[str, Any]) -> None:
    opened = as_mixture(store, "two_arms", split="val")
    assert (report["seed"], report["samples"], report["substituted"]) == (SEED, SAMPLES, 0)
    assert report["mixture_id"] == opened.mixture.id
    assert report["data"] == {"two_arms": {"version": opened.mixture.components[0].version}}
    assert report["datasets"]["two_arms"]["episodes"] == len(
        robot_foundry.open("two_arms", store=store, split="val").episodes()
    )


def test_small_angles_are_not_lost() -> None:
    space = ActionSpace(POSE)
    angles = np.array([1e-7, 1e-3, 0.5, 3.1])
    value_Td = np.zeros((4, 10))
    value_Td[:, 3:9] = (
        Rotation.from_rotvec(angles[:, None] * [0.6, 0, 0.8])
        .as_matrix()[..., :2]
        .swapaxes(1, 2)
        .reshape(4, 6)
    )
    target_Td = np.zeros((4, 10))
    target_Td[:, [3, 7]] = 1
    errors = chunk_errors(value_Td, target_Td, space)["right"]
    assert errors["rotation_deg"] == pytest.approx(np.degrees(angles), rel=1e-7)


def test_what_is_not_known_has_no_error_and_what_is_not_measured_is_named() -> None:
    space = ActionSpace(["left.joint_position.0", "left.gripper_opening", "base.linear_velocity"])
    value_Td = np.array([[0.5, np.nan, 0, 0], [np.nan, 0.9, 0, 0]])
    errors = chunk_errors(value_Td, np.zeros((2, 4)), space)
    assert list(errors) == ["left"]
    np.testing.assert_array_equal(errors["left"]["joint_rad"], [0.5, np.nan])
    np.testing.assert_array_equal(errors["left"]["gripper"], [np.nan, 0])
    assert unmeasured(space) == ["base.linear_velocity.x", "base.linear_velocity.y"]


def test_intervals_draw_episodes_not_steps() -> None:
    """Two episodes that differ, of ten chunks each: the interval spans both, however many steps there are."""

    def told(error: float) -> Told:
        return Told({"right": {"position_mm": np.full(8, error)}}, {})

    def chunk(episode: int, error: float) -> Chunk:
        return Chunk(episode, told(error), {"hold_still": told(50.0), "repeat_last": told(np.nan)})

    chunks = [chunk(episode, error) for episode, error in ((4, 10.0), (7, 30.0)) for _ in range(10)]
    found = dataset_report(chunks, seed=0)
    assert (found["chunks"], found["episodes"]) == (20, 2)
    assert found["policy"]["position_mm"] == 20 and found["policy_95"]["position_mm"] == [10, 30]
    assert found["gain"]["position_mm"] == {"mean": 30, "interval_95": [20, 40]}
    assert found["repeat_last"]["position_mm"] is found["gain_repeat_last"]["position_mm"] is None
    alone = dataset_report(chunks[:10], seed=0)
    assert alone["policy"]["position_mm"] == 10 and alone["policy_95"]["position_mm"] is None


def test_plots_are_one_page_and_the_scorecard_knows_both_controls(
    policy: Policy, store: Store, tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["openloop", str(run_folder), "--store", store.url, "--samples", "8", "--out", str(tmp_path)]
    assert run(group, "foundry-eval", line) == 0
    shown = capsys.readouterr().out
    assert "repeat last" in shown and "openloop.html" in shown
    page = (tmp_path / "openloop.html").read_text("utf-8")
    root = ElementTree.fromstring(re.findall(r"<svg.*?</svg>", page)[0])
    assert len(root) == 3  # the policy and two controls
    assert page.count("<svg") == 2 * 3 + 8 and "left.ee_position.z m" in page
    assert "<script" not in page and "http" not in page
    [row, *_] = openloop_rows(run_folder, Subject.find(run_folder))
    assert [control.name for control in row.controls] == ["hold still", "repeat last"]
    assert row.controls[1].gain is not None or row.controls[1].basis
