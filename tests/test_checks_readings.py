"""Other readings of the same numbers are told by what contradicts them, and right ones by nothing.

Legend: N frames, n joints.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from foundry_testing.motion.takes import motion
from foundry_testing.recorded_episodes import FPS, judged, made, rot6d, spun, wheeled
from scipy.spatial.transform import Rotation

from robot_foundry.checks.evidence import Column, EpisodeRows, Evidence
from robot_foundry.checks.measures import measure
from robot_foundry.checks.remedies import Remedy
from robot_foundry.checks.rules import findings
from robot_foundry.normalization.space import ActionSpace, dims_for

DEGREE = math.pi / 180
POSITION = {"from": "value", "key": "p", "columns": [0, 3], "scale": 1.0}
MAPPING = {
    "state": {"right.ee_position": POSITION},
    "actions": {"command": {"right.ee_position": POSITION, "right.joint_position": POSITION}},
}
DISPLACED = {"actions": {"command": {"right.ee_position": {**POSITION, "from": "delta", "clip": None}}}}


def steps(episode):
    return np.diff(episode.position, axis=0, append=episode.position[-1:])


def test_displacements_that_are_read_as_targets_are_named_with_the_field_that_reads_them_right():
    def as_targets(episode):
        episode.command["ee_position"] = steps(episode)

    [found] = judged(made(as_targets), MAPPING)
    assert (found.check, found.where) == ("form", "action.command right.ee_position")
    assert "displacements are read as absolute" in found.message and found.value > 0.9
    field = '{"key": "p", "columns": [0, 3], "from": "delta", "scale": 1.0}'
    assert found.overrides == (f"mapping.actions.command.right.ee_position={field}",)


def test_targets_that_are_read_as_displacements_are_named():
    def as_displacements(episode):
        episode.command["ee_position"] = episode.position + episode.command["ee_position"]

    [found] = judged(made(as_displacements), DISPLACED)
    assert (found.check, found.where) == ("form", "action.command right.ee_position")
    assert "targets are read as displacements" in found.message and found.value > 0.3
    assert '"from": "value"' in found.overrides[0]


def test_right_displacements_and_one_target_for_all_of_a_motion_are_in_no_other_form():
    def displaced(episode):
        episode.command["ee_position"] = episode.position + 5 * steps(episode)

    def constant(episode):
        episode.command["ee_position"] = np.tile(episode.position[-1], (len(episode.position), 1))

    assert judged(made(displaced), DISPLACED) == []
    assert "form" not in {found.check for found in judged(made(constant), MAPPING)}


SPACE = ActionSpace(["right.ee_position", "right.ee_rot6d", *dims_for("right.joint_position", count=7)])


def carried(turned=lambda rotation: rotation, scale=1.0, turn_scale=1.0, mapping=None):
    """What is found of an arm of seven joints whose orientation and joints are read in some way."""
    evidence = []
    for seed in range(4):
        take = motion(seed, 10.0, 7)
        position, rotation = take.pose
        rotation = Rotation.from_euler("xyz", turn_scale * turned(rotation).as_euler("xyz"))
        values = np.concatenate([position, rot6d(rotation), scale * take.joints], axis=1)
        column = Column(values.astype(np.float32), np.ones(len(values), bool), SPACE)
        clock = np.arange(len(values)) / take.fps
        evidence.append(measure(EpisodeRows(f"take-{seed}", take.fps, clock, {"state": column})))
    return findings(Evidence.merge_all(evidence), {}, mapping)


def test_joints_that_carry_the_tool_are_found_nothing_of():
    assert carried() == []
    assert carried(lambda r: Rotation.from_euler("z", 2.0) * r * Rotation.from_euler("x", 1.0)) == []


@pytest.mark.parametrize(
    ("misread", "settings", "override"),
    [
        (lambda r: r.inv(), {"from": "homogeneous", "major": "rows"}, "major=columns"),
        (
            lambda r: Rotation.from_quat(r.as_quat()[:, [1, 2, 3, 0]]),
            {"from": "quaternion", "order": "wxyz"},
            "order=xyzw",
        ),
        (
            lambda r: Rotation.from_quat(r.as_quat()[:, [3, 0, 1, 2]]),
            {"from": "quaternion", "order": "xyzw"},
            "order=wxyz",
        ),
    ],
)
def test_an_inverse_is_told_by_the_joints_alone(misread, settings, override):
    [found] = carried(misread, mapping={"state": {"right.ee_rotation": settings}})
    assert (found.check, found.where) == ("carrying", "state right.ee_rot6d")
    assert found.value > 2 and found.overrides == (f"mapping.state.right.ee_rotation.{override}",)


def test_joints_in_another_unit_than_what_they_turn_and_move():
    small = {found.where: found.message for found in carried(scale=DEGREE) if found.check == "carrying"}
    assert "as degrees for radians would" in small["state right.ee_rot6d"]
    assert "of 0, as radians read as degrees would" in small["state right.joint_position"]


def test_angles_read_as_degrees_are_told_by_their_half_turns():
    mapping = {"state": {"right.ee_rotation": {"from": "euler", "sequence": "xyz", "degrees": True}}}
    found = [each for each in carried(turn_scale=DEGREE, mapping=mapping) if "0.11 rad" in each.message]
    assert [each.overrides for each in found] == [("mapping.state.right.ee_rotation.degrees=false",)]


def test_a_yaw_in_degrees_is_told_by_the_course_of_the_wheels():
    def found(scale):
        return findings(Evidence.merge_all([measure(wheeled(seed, scale=scale)) for seed in range(3)]))

    assert found(1.0) == []
    for scale in (DEGREE, 1 / DEGREE):
        [course] = [each for each in found(scale) if each.check == "carrying"]
        assert course.where == "state base.yaw" and "degrees for radians" in course.message
        assert course.value == pytest.approx(1 / scale, rel=0.2)


def test_velocities_of_joints_alone_are_told_by_how_far_they_move_the_tool():
    def found(scale):
        return findings(Evidence.merge_all([measure(spun(seed, scale)) for seed in range(3)]))

    assert found(1.0) == []
    [lever] = found(DEGREE)
    assert (lever.check, lever.where) == ("carrying", "state right.joint_velocity") and 5 < lever.value < 60


def test_the_least_that_is_made_of_displacements_falls_with_the_rate():
    """An arm that answers in 0.16 s makes an eighth of what is asked of it 50 times a second, and is
    right."""

    def asked(episode):
        episode.fps, episode.time = 50.0, episode.time * FPS / 50.0
        episode.command["ee_position"] = episode.position + 8 * steps(episode)

    def at_20_hz(episode):
        episode.command["ee_position"] = episode.position + 8 * steps(episode)

    assert judged(made(asked), DISPLACED) == []
    assert {each.check for each in judged(made(at_20_hz), DISPLACED)} == {"scale"}


def test_the_other_form_of_each_field_is_one_that_reads_the_same_numbers():
    turns = {"from": "delta", "key": "r", "rotation": "xyz", "scale": 1.0, "clip": None}
    remedy = Remedy({"actions": {"command": {"right.ee_rotation": turns}}})
    [override] = remedy.other_form("action.command", "right.ee_rot6d")
    assert override.endswith('{"key": "r", "from": "euler", "sequence": "xyz"}')
