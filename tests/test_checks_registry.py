"""The registry of data checks is right: measures, limits in the docs, remedies and settings of findings.

Legend: N frames.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foundry_testing.recorded_episodes import Episode, made, spun, wheeled
from scipy.spatial.transform import Rotation

from robot_foundry.checks.evidence import Evidence
from robot_foundry.checks.measures import measure
from robot_foundry.checks.remedies import Remedy
from robot_foundry.checks.rules import CHECKS, JUDGES

DOCS = (Path(__file__).parent.parent / "docs" / "checks.md").read_text("utf-8")
FIELDS = {
    "right.ee_position": {"from": "value", "scale": 1.0},
    "right.ee_rotation": {"from": "quaternion", "order": "xyzw"},
    "right.gripper_opening": {"from": "command", "closed": 1, "open": -1},
    "right.joint_position": {"from": "value", "scale": 1.0},
    "right.joint_velocity": {"from": "value", "scale": 1.0},
}
MAPPING = {"state": FIELDS, "actions": {"command": FIELDS}}
CONTENT = {"flip": {"time": "none"}, "hdf5": {"length": "a", "time": {"key": "t", "unit": "s"}}}


def scaled(name: str, by: float) -> Any:
    def spoil(episode: Any) -> None:
        setattr(episode, name, getattr(episode, name) * by)

    return spoil


def closes_where_it_opens(episode: Any) -> None:
    episode.command["gripper_opening"] = 1 - episode.command["gripper_opening"]


def other_axes(episode: Any) -> None:
    episode.command["ee_position"] = np.roll(episode.command["ee_position"], 1, axis=1)


def other_order(episode: Any) -> None:
    quaternion_N4 = episode.rotation.as_quat()
    episode.rotation = Rotation.from_quat(quaternion_N4[:, [3, 0, 1, 2]])


def no_rotation(episode: Any) -> None:
    episode.command["ee_rot6d"] = episode.command["ee_rot6d"] * 1.1


def spike(episode: Any) -> None:
    episode.position[77] += 3.0


def frozen(episode: Any) -> None:
    episode.joints[50:120] = episode.joints[50]
    episode.images["front"][40:120] = 7


def late_clock(episode: Any) -> None:
    episode.time[100:] += 2.0


def milliseconds(episode: Any) -> None:
    episode.time = episode.time * 1000


def displacements_as_targets(episode: Any) -> None:
    episode.command["ee_position"] = np.diff(episode.position, axis=0, append=episode.position[-1:])


def joints_in_degrees(episode: Any) -> None:
    episode.joints = episode.joints * math.pi / 180


FAULTS = {
    "gripper_polarity": closes_where_it_opens,
    "gripper_range": scaled("opening", 1.4),
    "rotation_orthonormal": no_rotation,
    "motion": other_axes,
    "rotation_agreement": other_order,
    "form": displacements_as_targets,
    "carrying": joints_in_degrees,
    "scale": scaled("joints", 180 / math.pi),
    "velocity_unit": scaled("velocity", 180 / math.pi),
    "magnitude": spike,
    "rate": milliseconds,
    "gaps": late_clock,
    "frozen": frozen,
    "frozen_camera": frozen,
}


def rows_of_docs() -> dict[str, str]:
    data = DOCS[DOCS.index("## Data") : DOCS.index("## The store")]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", data, re.MULTILINE))


@pytest.mark.parametrize("name", CHECKS)
def test_docs_give_the_limits_of_each_check(name):
    row = rows_of_docs()[name].replace("\N{MINUS SIGN}", "-")
    assert CHECKS[name].limits
    for limit in CHECKS[name].limits:
        assert re.search(rf"(?<![\d.]){re.escape(limit)}", row), (limit, row)


def test_checks_judge_all_that_is_measured_and_nothing_else():
    measured = {
        name for rows in (Episode(0).rows(), wheeled(), spun()) for name, _, _ in measure(rows).tallies
    }
    assert measured == {name for check in CHECKS.values() for name in check.measures}


def test_every_check_of_evidence_has_a_judge_and_every_judge_its_checks():
    judged = {name for names in JUDGES.values() for name in names}
    assert judged == {name for name, check in CHECKS.items() if check.measures}


@pytest.mark.parametrize("name", FAULTS)
def test_findings_are_as_their_check_declares(name):
    episodes = made(FAULTS[name], count=3)
    evidence = Evidence.merge_all([measure(episode.rows()) for episode in episodes])
    found = set()
    for judge, names in JUDGES.items():
        for finding in judge(evidence, Remedy(MAPPING, CONTENT)):
            assert finding.check in names
            found.add(finding.check)
            check = CHECKS[finding.check]
            assert any(fits(template, finding.remedy) for template in check.remedies), finding.remedy
            paths = [override.partition("=")[0] for override in finding.overrides]
            assert {path.rpartition(".")[2] for path in paths} <= set(check.settings), finding.overrides
    assert name in found


def fits(template: str, remedy: str) -> bool:
    parts = re.split(r"\{[^}]*\}", template)
    return re.fullmatch(".+".join(map(re.escape, parts)), remedy) is not None


def test_a_fault_of_the_clock_is_mended_where_the_spec_has_its_unit():
    episodes = made(milliseconds, count=3)
    evidence = Evidence.merge_all([measure(episode.rows()) for episode in episodes])
    [rate] = [f for judge in JUDGES for f in judge(evidence, Remedy(MAPPING, CONTENT)) if f.check == "rate"]
    assert rate.overrides == ("content.hdf5.time.unit=ms",)
    assert np.isclose(rate.value, 0.02)
