"""How the state follows the command: lag, gain and axes."""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.recorded_episodes import Episode, checks, judged, made

from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.following import following
from robot_foundry.checks.measures import measure
from robot_foundry.checks.rules import findings


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


def only_messages(found):
    """By check, what is said of positions of the command."""
    return {f.check: f.message for f in found if f.where == "action.command right.ee_position"}


def swinging(period):
    """The position swings; nothing else of the recording is changed."""

    def spoil(episode):
        t_N1 = np.arange(len(episode.position))[:, None]
        episode.position = 0.5 + 0.1 * np.sin(2 * np.pi * (t_N1 / period + np.array([0.0, 0.2, 0.4])))

    return spoil


@pytest.mark.parametrize("period", [40, 60, 100])
def test_a_constant_action_is_called_so_and_not_late(period):
    def constant(episode):
        swinging(period)(episode)
        episode.command["ee_position"] = np.full_like(episode.position, 0.5)

    assert only_messages(judged(made(constant))) == {
        "motion": "right.ee_position of action.command has one value in each episode while the state moves"
    }


def test_a_constant_displacement_is_not_said_to_ask_for_nothing():
    def constant(episode):
        episode.command["ee_position"] = episode.position + np.array([0.02, 0.0, 0.0])

    told = only_messages(judged(made(constant)))["lag"]
    assert "moves as the state does in the same frame" in told and "constant displacement" in told
    assert "nothing" not in told


def test_the_state_itself_asks_for_nothing():
    def itself(episode):
        episode.command["ee_position"] = episode.position.copy()

    told = only_messages(judged(made(itself)))["lag"]
    assert told.endswith("is the state itself in every frame, so it asks for nothing")


def test_an_earlier_state_is_named_by_its_frames():
    def earlier(episode):
        episode.command["ee_position"] = np.roll(episode.position, 2, axis=0)
        episode.command["ee_position"][:2] = episode.position[0]

    told = only_messages(judged(made(earlier)))["lag"]
    assert "moves as the state does 2 frames before" in told


def test_a_state_that_hardly_moves_tells_no_lag():
    def still(episode):
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 1e-6, (len(episode.position) + 5, 3)).cumsum(axis=0)
        episode.position = 0.5 + noise[:-5]
        episode.command["ee_position"] = 0.5 + noise[5:]

    assert "lag" not in only_messages(judged(made(still)))


def test_few_frames_tell_no_lag():
    episodes = [Episode(seed, n=24, lag=5) for seed in range(2)]
    assert "lag" not in only_messages(judged(episodes))
    assert "lag" in only_messages(judged([Episode(seed, n=240, lag=5) for seed in range(2)]))


def test_a_motion_that_every_lag_fits_tells_none():
    """At a steady speed a target is like any other: which frame it is of, no correlation says."""

    def steady(episode):
        n = len(episode.position)
        rng = np.random.default_rng(len(episode.key))
        line_N3 = np.arange(n + 1)[:, None] * np.array([2e-3, 1e-3, 0.0])
        episode.position = 0.3 + line_N3[:n] + rng.normal(0, 2e-5, (n, 3))
        episode.command["ee_position"] = 0.3 + line_N3[1:] + rng.normal(0, 2e-5, (n, 3))

    assert only_messages(judged(made(steady))) == {}


def test_times_that_stand_still_have_no_rate():
    def stopped(episode):
        episode.time = np.zeros_like(episode.time)

    (found,) = (f for f in judged(made(stopped)) if f.where == "timestamp")
    assert found.message == "956 timestamps are not later than the one before (956 equal it)"
    assert "sort" not in found.remedy and "type" in found.remedy
