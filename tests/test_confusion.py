"""Specs that contradict recorded motion are found by cause, and right ones have no finding: a part of what
benchmarks/confusion.py measures over all specs.

Legend: T frames.
"""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.oxe.confusion_runs import outcomes
from foundry_testing.oxe.confusions import DEGREES, DELTA, GRIPPER, MAJOR, ORDER, RADIANS
from foundry_testing.oxe.oracle import oracle_of
from foundry_testing.oxe.published import published
from foundry_testing.oxe.recorded import episode_of, take_of, written
from scipy.spatial.transform import Rotation

from robot_foundry.ingest.spec.spec_files import builtin_specs

# By dataset the confusions that its spec can state: displacements, targets, quaternions, matrices, wheels.
CONFUSED = {
    "fractal20220817_data": {GRIPPER, DEGREES, RADIANS, ORDER, DELTA},
    "tdroid_carrot_in_bowl": {GRIPPER, DEGREES, RADIANS, DELTA},
    "viola": {GRIPPER, DEGREES, RADIANS, MAJOR},
    "kaist_nonprehensile_converted_externally_to_rlds": {DEGREES, RADIANS, ORDER, DELTA},
    "berkeley_gnm_recon": {DEGREES, RADIANS},
    "uiuc_d3field": {MAJOR},
}


def test_there_is_motion_for_every_spec():
    assert set(written()) == {n.removeprefix("oxe/") for n in builtin_specs() if n.startswith("oxe/")}


@pytest.mark.parametrize("name", CONFUSED)
def test_a_spec_that_contradicts_the_motion_is_found_by_cause(name, tmp_path):
    done = outcomes(name, tmp_path)
    assert [str(outcome) for outcome in done if not outcome.error and outcome.flagged] == []
    assert {outcome.error for outcome in done} - {""} == CONFUSED[name]
    assert [str(outcome) for outcome in done if outcome.error and not outcome.named] == []


@pytest.mark.parametrize("name", sorted(published()))
def test_what_is_written_of_a_motion_means_it(name):
    """By the oracle, which was written from the same sources the other way round."""
    take, state = take_of(name, 0, 5.0), oracle_of(name)["state"]
    position, rotation = take.framed(take.right.pose)
    moved = {
        "right.ee_position": position,
        "right.ee_rotation": rotation,
        "right.joint_position": take.right.joints,
        "right.gripper_opening": take.right.opening[:, None],
        "left.joint_position": take.left.joints,
        "base.position": take.base.position,
    }
    arrays = episode_of(name, take)
    for quantity, expression in state.items():
        if quantity in moved:
            told, meant = expression(arrays), moved[quantity]
            if isinstance(told, Rotation):
                told, meant = told.as_matrix(), meant.as_matrix()
            elif set(np.unique(told)) <= {0.0, 1.0}:  # of a gripper that is recorded as shut or not
                meant = np.round(meant)
            np.testing.assert_allclose(told, meant, atol=1e-5, err_msg=quantity)
