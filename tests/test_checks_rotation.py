"""Rotations read by another convention than they were written by are found.

Legend: N frames, D dims.
"""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.recorded_episodes import checks, judged, made, rot6d
from scipy.spatial.transform import Rotation

from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.measures import measure
from robot_foundry.checks.rules import findings


def osc_rotation(episode):
    """Targets turn the state about base axes by five times what the arm then turns."""
    turned = (episode.rotation[1:] * episode.rotation[:-1].inv()).as_rotvec()
    return np.concatenate([turned, np.zeros((1, 3))]) * 5


def test_a_wrong_quaternion_order_is_found_although_targets_start_from_the_state():
    def right(episode):
        target = Rotation.from_rotvec(osc_rotation(episode)) * episode.rotation
        episode.command["ee_rot6d"] = rot6d(target)

    def swapped(episode):
        asked = Rotation.from_rotvec(osc_rotation(episode))
        episode.rotation = Rotation.from_quat(episode.rotation.as_quat()[:, [1, 2, 3, 0]])
        episode.command["ee_rot6d"] = rot6d(asked * episode.rotation)

    assert judged(made(right)) == []
    mapping = {"state": {"right.ee_rotation": {"from": "quaternion", "order": "wxyz"}}}
    found = judged(made(swapped), mapping)
    assert [(f.check, f.where) for f in found] == [("motion", "action.command right.ee_rot6d")]
    assert found[0].overrides == ("mapping.state.right.ee_rotation.order=xyzw",)


def test_a_quaternion_order_that_is_wrong_in_the_state_disagrees_with_the_command():
    def swapped(episode):
        xyzw = episode.rotation.as_quat()
        episode.rotation = Rotation.from_quat(xyzw[:, [1, 2, 3, 0]])

    mapping = {"state": {"right.ee_rotation": {"from": "quaternion", "order": "wxyz"}}}
    found = judged(made(swapped), mapping)
    assert checks(found) == {"rotation_agreement"}
    assert found[0].overrides == ("mapping.state.right.ee_rotation.order=xyzw",)


def test_an_order_swap_keeps_angles_so_no_jump_can_show_it():
    """A permutation of a quaternion is orthogonal: steps keep their angle, and a flip of sign is no jump."""
    rotations = Rotation.random(1000, random_state=0)
    xyzw = rotations.as_quat() * np.where(np.arange(1000) % 3 == 0, -1, 1)[:, None]
    swapped = Rotation.from_quat(xyzw[:, [3, 0, 1, 2]])
    steps = [(r[1:] * r[:-1].inv()).magnitude() for r in (rotations, swapped)]
    np.testing.assert_allclose(*steps, atol=1e-7)


def test_two_tool_frames_are_told_from_two_conventions():
    def other_tool(episode):
        matrix_N33 = episode.rotation.as_matrix()
        episode.rotation = Rotation.from_matrix(matrix_N33) * Rotation.from_euler("z", 90, degrees=True)

    found = judged(made(other_tool))
    assert checks(found) == {"rotation_agreement"} and "two tool frames" in found[0].message


def test_euler_degrees_read_as_radians_jump():
    def degrees(episode):
        angles = episode.rotation.as_euler("xyz", degrees=True)
        episode.rotation = Rotation.from_euler("xyz", angles)

    found = judged(made(degrees), with_command=False)
    assert "rotation_jump" in checks(found)


def test_a_flip_of_the_quaternions_sign_is_no_jump():
    def flipped(episode):
        quaternions = episode.rotation.as_quat()
        quaternions[::7] *= -1
        episode.rotation = Rotation.from_quat(quaternions)

    assert judged(made(flipped)) == []


def test_rows_that_are_no_rotation_are_found():
    rows = [episode.rows() for episode in made()]
    for row in rows:
        row.columns["state"].values_ND[5:9, 3:9] *= 1.3
    found = findings(Evidence.merge_all(measure(row) for row in rows))
    assert "rotation_orthonormal" in checks(found)
    assert next(f for f in found if f.check == "rotation_orthonormal").value == pytest.approx(4 / 240)
