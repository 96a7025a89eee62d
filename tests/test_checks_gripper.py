"""A gripper that runs backwards, leaves its range or is not read is found.

Legend: N frames, D dims.
"""

from __future__ import annotations

import numpy as np
import pytest
from foundry_testing.recorded_episodes import checks, judged, made

from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.measures import measure
from robot_foundry.checks.rules import findings


@pytest.mark.parametrize("side", ["command", "state"])
def test_an_inverted_gripper_is_found_on_either_side(side):
    def invert(episode):
        if side == "command":
            episode.command["gripper_opening"] = 1 - episode.command["gripper_opening"]
        else:
            episode.opening = 1 - episode.opening

    settings = {"from": "command", "closed": 1.0, "open": -1.0}
    mapping = {"actions": {"command": {"right.gripper_opening": settings}}}
    found = judged(made(invert), mapping)
    assert checks(found) == {"gripper_polarity"}
    command = next(f for f in found if f.where == "action.command right.gripper_opening")
    assert command.value < -0.8
    assert command.overrides == (
        "mapping.actions.command.right.gripper_opening.closed=-1",
        "mapping.actions.command.right.gripper_opening.open=1",
    )


def test_where_nothing_proves_which_side_is_wrong_both_settings_are_told_and_none_is_printed():
    def invert(episode):
        episode.command["gripper_opening"] = 1 - episode.command["gripper_opening"]

    value = {"from": "value", "closed": 0.0, "open": 1.0}
    mapping = {
        "state": {"right.gripper_opening": value},
        "actions": {"command": {"right.gripper_opening": value}},
    }
    [command] = [f for f in judged(made(invert), mapping) if f.where.startswith("action.command")]
    assert command.overrides == ()
    for where in ("state", "actions.command"):
        assert f"--set mapping.{where}.right.gripper_opening.closed=1" in command.remedy


@pytest.mark.parametrize("wrong", ["state", "command"])
def test_a_width_between_fingers_proves_which_side_is_wrong(wrong):
    def invert(episode):
        if wrong == "command":
            episode.command["gripper_opening"] = 1 - episode.command["gripper_opening"]
        else:
            episode.opening = 1 - episode.opening

    closed, opened = (0.08, 0.0) if wrong == "state" else (0.0, 0.08)
    mapping = {
        "state": {"right.gripper_opening": {"from": "width", "closed": closed, "open": opened}},
        "actions": {"command": {"right.gripper_opening": {"from": "command", "closed": 1, "open": -1}}},
    }
    [command] = [f for f in judged(made(invert), mapping) if f.where.startswith("action.command")]
    side = "state" if wrong == "state" else "actions.command"
    assert all(setting.startswith(f"mapping.{side}.") for setting in command.overrides)
    assert len(command.overrides) == 2


def test_a_command_that_opposes_the_stream_beside_it_is_found():
    episodes = made()
    rows = [episode.rows() for episode in episodes]
    for row in rows:
        row.columns["action.command"].values_ND[:, 9] = 1 - row.columns["action.command"].values_ND[:, 9]
    found = findings(Evidence.merge_all(measure(row) for row in rows))
    assert any("against action.next_state" in finding.message for finding in found)


def test_an_opening_outside_its_range_is_found():
    def in_millimetres(episode):
        episode.opening = 80 * episode.opening

    found = judged(made(in_millimetres))
    assert checks(found) == {"gripper_range"} and found[0].num_episodes == 4


def test_a_gripper_that_is_not_read_is_found():
    def stuck(episode):
        episode.opening = np.full(240, 1.0)

    found = judged(made(stuck))
    assert {(f.check, f.where) for f in found} == {("frozen", "state right.gripper_opening")}
