"""How the state follows the command: lag, gain and axes."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robot_foundry.normalization.checks import findings
from robot_foundry.normalization.checks_motion import following
from robot_foundry.normalization.evidence import Evidence
from robot_foundry.normalization.measures import measure

h: Any = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("recorded_episodes.py"))))
judged, checks, made = h.judged, h.checks, h.made


@pytest.mark.parametrize("lag", [0, 2, 3, 6])
def test_lag_and_gain_are_measured_and_three_steps_are_a_finding(lag):
    episodes = made(lag=lag)
    evidence = Evidence.merge_all(measure(episode.rows()) for episode in episodes)
    measured = following(evidence)
    for quantity in ("right.ee_position", "right.ee_rot6d", "right.joint_position"):
        assert measured["action.command", quantity].lag == lag
        assert measured["action.command", quantity].correlation > 0.9
        assert measured["action.next_state", quantity].lag == 0
        assert measured["action.next_state", quantity].gain == pytest.approx(1, abs=1e-3)
    found = findings(evidence)
    assert checks(found) == ({"lag"} if lag >= 3 else set())
    if lag == 3:
        assert "3 frames (0.15 s)" in found[0].message


def test_a_command_that_repeats_the_state_is_found():
    def reading(episode):
        episode.command["ee_position"] = episode.position - np.array([0.0, 0.0, 0.01])

    found = judged(made(reading))
    assert [(f.check, f.value) for f in found] == [("lag", -1)]


def test_displacements_of_the_state_have_their_lag_and_gain():
    """As robosuite's OSC: targets are the state plus what is asked, of which the arm makes a fifth."""

    def osc(episode):
        step = np.diff(episode.position, axis=0, append=episode.position[-1:])
        episode.command["ee_position"] = episode.position + 5 * step

    episodes = made(osc)
    evidence = Evidence.merge_all(measure(episode.rows()) for episode in episodes)
    measured = following(evidence)["action.command", "right.ee_position"]
    assert measured.lag == 0 and measured.gain == pytest.approx(0.2, rel=1e-3)
    assert findings(evidence) == []


def test_displacements_in_other_axes_than_the_state_moves_are_found():
    def rotated(episode):
        step = np.diff(episode.position, axis=0, append=episode.position[-1:])
        episode.command["ee_position"] = episode.position + 5 * step[:, [1, 2, 0]]

    found = judged(made(rotated))
    assert [(f.check, f.where) for f in found] == [("motion", "action.command right.ee_position")]
