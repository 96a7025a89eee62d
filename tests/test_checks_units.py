"""Degrees for radians and millimetres for metres are found, of a group, a joint or an episode."""

from __future__ import annotations

import math

import numpy as np
import pytest
from foundry_testing.recorded_episodes import checks, judged, made


def test_joints_in_degrees_are_found_with_the_scale_that_mends_them():
    def degrees(episode):
        for values in (episode.joints, episode.command["joint_position"]):
            values *= 180 / math.pi

    mapping = {"state": {"right.joint_position": {"from": "value", "scale": 1.0}}}
    found = judged(made(degrees), mapping)
    assert checks(found) == {"magnitude", "velocity_unit"}
    magnitude = next(f for f in found if f.where == "state right.joint_position")
    assert magnitude.overrides == (f"mapping.state.right.joint_position.scale={math.pi / 180:.8g}",)


def test_one_joint_in_degrees_among_radians_is_named():
    def mixed(episode):
        episode.command["joint_position"][:, 2] *= 180 / math.pi

    found = [f for f in judged(made(mixed)) if f.check == "scale"]
    assert [f.where for f in found] == ["action.command right.joint_position"]
    assert "right.joint_position.2 of action.command" in found[0].message
    assert "degrees for radians" in found[0].message
    assert found[0].value == pytest.approx(math.pi / 180, rel=0.1)


def test_one_episode_in_degrees_is_named():
    episodes = made()
    episodes[2].joints *= 180 / math.pi
    found = [f for f in judged(episodes, with_command=False) if f.check == "magnitude"]
    assert {f.episodes for f in found} == {("demo-2",)}


@pytest.mark.parametrize("stream", ["state", "command"])
def test_millimetres_for_metres_are_found(stream):
    def millimetres(episode):
        if stream == "state":
            episode.position = 1000 * episode.position
        else:
            episode.command["ee_position"] = 1000 * episode.command["ee_position"]

    found = judged(made(millimetres))
    assert {"magnitude", "scale"} <= checks(found)
    where = "state right.ee_position" if stream == "state" else "action.command right.ee_position"
    assert where in {f.where for f in found if f.check == "magnitude"}
    scale = next(f for f in found if f.check == "scale" and f.where == "action.command right.ee_position")
    assert scale.value == pytest.approx(1000 if stream == "state" else 1e-3, rel=0.1)
    assert "millimetres for metres" in scale.message


def test_displacements_a_thousand_times_too_small_are_found():
    def tiny(episode):
        step = np.diff(episode.position, axis=0, append=episode.position[-1:])
        episode.command["ee_position"] = episode.position + 0.01 * step

    found = [f for f in judged(made(tiny)) if f.check == "scale"]
    assert [f.where for f in found] == ["action.command right.ee_position"]
    assert found[0].value == pytest.approx(100, rel=0.1)
