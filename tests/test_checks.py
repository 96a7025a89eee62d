"""Right recordings are silent; wrong times, frozen readings and cameras and values out of range are found.

Legend: N frames.
"""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from foundry_testing.recorded_episodes import FPS, Episode, checks, judged, made
from scipy.spatial.transform import Rotation

from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.measures import measure
from robot_foundry.checks.rules import findings
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.normalization.statistics import Statistics


def test_right_recordings_give_no_finding():
    assert judged(made()) == []
    assert judged(made(), with_command=False) == []
    assert judged(made(lag=2)) == []


def test_a_declared_rate_that_the_timestamps_contradict_is_found():
    def faster(episode):
        episode.fps = 30.0

    found = judged(made(faster))
    assert checks(found) == {"rate"} and "20 … 20 Hz, the declared rate is 30 Hz" in found[0].message


def test_dropped_frames_are_counted_and_their_episodes_named():
    episodes = made()
    kept = np.ones(240, bool)
    kept[[30, 31, 90, 150, 151, 152]] = False
    spoilt = episodes[1]
    for name in ("position", "joints", "velocity", "opening", "time"):
        setattr(spoilt, name, getattr(spoilt, name)[kept])
    spoilt.rotation = spoilt.rotation[kept]
    spoilt.command = {name: values[kept] for name, values in spoilt.command.items()}
    spoilt.images = {}
    found = judged(episodes)
    assert [(f.check, f.value, f.episodes) for f in found] == [("gaps", 6.0, ("demo-1",))]


def test_jitter_and_a_clock_that_goes_back_are_found():
    def shaken(episode):
        episode.time = episode.time + np.random.default_rng(0).uniform(-0.49, 0.49, 240) / FPS

    def back(episode):
        episode.time[100] = episode.time[98]

    assert "jitter" in checks(judged(made(shaken)))
    assert any("not later" in f.message for f in judged(made(back)))


def test_a_joint_that_stands_still_is_found():
    def dead(episode):
        episode.joints[:, 3] = 0.25
        episode.velocity[:, 3] = 0.0

    found = judged(made(dead), with_command=False)
    assert [(f.check, f.where) for f in found] == [("frozen", "state right.joint_position.3")]
    assert "frozen" in checks(judged(made(dead)))


def test_a_reading_that_stops_while_the_command_goes_on_is_found_in_its_episode():
    episodes = made()
    episodes[3].position[100:160] = episodes[3].position[100]
    quaternions = episodes[3].rotation.as_quat()
    quaternions[100:160] = quaternions[100]
    episodes[3].rotation = Rotation.from_quat(quaternions)
    found = judged(episodes)
    assert [(f.check, f.where, f.episodes) for f in found] == [
        ("frozen", "state right.ee_position", ("demo-3",))
    ]
    assert found[0].value == pytest.approx(2.95)


def test_a_frozen_camera_is_found_and_a_still_scene_is_not():
    episodes = made()
    episodes[0].images["front"][50:90] = 7
    found = judged(episodes)
    assert [(f.check, f.where, f.episodes) for f in found] == [("frozen_camera", "camera front", ("demo-0",))]
    still = made()
    for episode in still:
        episode.position[50:90] = episode.position[50] + np.random.default_rng(1).normal(0, 1e-5, (40, 3))
        episode.joints[50:90] = episode.joints[50] + np.random.default_rng(2).normal(0, 1e-5, (40, 6))
        episode.images["front"][50:90] = 7
    assert "frozen_camera" not in checks(judged(still))


def test_what_normalisation_would_clip_and_rows_without_values_are_found():
    space = ActionSpace(dims_for("right.joint_velocity", count=2))
    rng = np.random.default_rng(0)
    values = rng.normal(size=(10_000, 2))
    values[1000:3000, :] = np.nan
    values[500:570, 0], values[600:670, 0] = 30.0, -30.0
    found = findings(Evidence(0, {}), {"state": Statistics.of(values, None, space)})
    assert {(f.check, f.where) for f in found} == {
        ("outside_band", "state right.joint_velocity.0"),
        ("invalid_rows", "state"),
    }


def test_evidence_has_the_same_bits_in_any_order_and_through_json():
    leaves = [measure(Episode(seed, n=60).rows()) for seed in range(4)]
    whole = Evidence.merge_all(leaves)
    for order in itertools.permutations(range(4)):
        assert Evidence.merge_all([leaves[i] for i in order]) == whole
    assert Evidence.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_short_and_broken_episodes_are_measured_without_complaint(recwarn):
    short = Episode(0, n=2)
    short.images = {}
    broken = Episode(1, n=40)
    rows = broken.rows()
    rows.columns["state"].valid_N[:] = False
    evidence = Evidence.merge_all([measure(short.rows()), measure(rows)])
    assert isinstance(findings(evidence), list) and not recwarn.list
