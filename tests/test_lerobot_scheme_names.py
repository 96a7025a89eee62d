"""Names of columns that are dims of the naming scheme, and so come back as these from a LeRobot dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import robot_foundry
from robot_foundry.export.lerobot.dataset.features import Features
from robot_foundry.export.lerobot.dataset.writer import LeRobotWriter
from robot_foundry.ingest import ingest
from robot_foundry.ingest.sources.lerobot.scheme_names import runs_of
from robot_foundry.normalization.space import PARTS, ActionSpace, Dim, dims_for

QUANTITIES = (
    "ee_position", "ee_rot6d", "gripper_opening", "joint_velocity", "ee_force", "yaw", "linear_velocity"
)  # fmt: skip


def scheme(part: str, quantity: str) -> list[Dim]:
    return list(dims_for(f"{part}.{quantity}", count=3))


def joints(part: str, count: int, unit: str) -> list[Dim]:
    return [Dim(f"{part}.joint_position.{n}", unit, "joint") for n in range(count)]


def own(part: str, names: list[str], unit: str) -> list[Dim]:
    return [Dim(f"{part}.value.{name}", unit, "other", shared=False) for name in names]


PART, WORD = st.sampled_from(PARTS), st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True)
WORDS = st.lists(WORD, min_size=1, max_size=4, unique=True)
GROUPS = st.one_of(
    st.builds(scheme, PART, st.sampled_from(QUANTITIES)),
    st.builds(joints, PART, st.integers(1, 9), st.sampled_from(("rad", "m"))),
    st.builds(own, st.sampled_from(("robot", "left_arm")), WORDS, st.sampled_from(("unknown", "V"))),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(GROUPS, max_size=6))
def test_every_space_is_told_by_its_names_and_units(groups: list[list[Dim]]) -> None:
    unique = {dim.name: dim for dims in groups for dim in dims}
    space = ActionSpace.union(ActionSpace(unique.values()))
    runs = list(runs_of(space.names, [dim.unit for dim in space]))
    assert [n for run in runs for n in range(run.first, run.stop)] == list(range(len(space)))
    for run in runs:
        quantity = run.meaning["quantity"].replace("ee_rotation", "ee_rot6d")
        names = space.names[run.first : run.stop]
        assert all(name == quantity or name.rpartition(".")[0] == quantity for name in names)
        units = [dim.unit for dim in space.dims[run.first : run.stop]]
        told = run.meaning["units"] or (
            ["unknown"] * len(names) if "names" in run.meaning else [d.unit for d in scheme_of(names)]
        )
        assert told == units


def scheme_of(names: tuple[str, ...]) -> list[Dim]:
    return [dims_for(name)[0] for name in names]


@pytest.mark.parametrize(
    "names",
    [
        ["shoulder_pan.pos", "gripper.pos"],  # SO-101
        ["right.ee_position.x", "right.ee_position.y"],  # a part of one
        ["right.ee_position.y", "right.ee_position.x", "right.ee_position.z"],
        ["tool.position.x", "tool.position.y"],  # of no part of ours, and nobody says the unit
        ["robot.value.a"],
    ],
)
def test_names_of_others_say_nothing(names: list[str]) -> None:
    assert list(runs_of(names, None)) == []


@pytest.mark.parametrize("name", ["robot.value.a", "robot.value.A", "robot.value", "x" * 200 + ".value.a"])
def test_names_that_are_no_dims_or_doubled_say_nothing(name: str) -> None:
    assert list(runs_of([name, name], ["V", "V"])) == []


@pytest.mark.parametrize("units", [["deg", "deg"], ["rad"]])
def test_units_that_are_none_of_the_quantity_say_nothing(units: list[str]) -> None:
    names = [f"right.joint_position.{n}" for n in range(len(units))]
    told = list(runs_of(names, units))
    assert [run.meaning["quantity"] for run in told] == ["right.joint_position"] * (units == ["rad"])


def test_names_of_the_scheme_mean_what_it_says(tmp_path: Path) -> None:
    names = [*(f"right.joint_position.{n}" for n in range(2)), "right.gripper_opening", "speed"]
    rows = np.random.default_rng(0).random((8, 4)).astype(np.float32)
    with LeRobotWriter(tmp_path / "out", fps=10, features=Features.of(names, {"action": names})) as writer:
        writer.add_episode({"observation.state": rows, "action": rows}, task="reach")
    version = ingest("lerobot", tmp_path / "out", store=tmp_path / "store", name="back")
    back = robot_foundry.open(version, str(tmp_path / "store"))
    assert [(dim.name, dim.unit) for dim in back.space("command")] == [
        ("right.joint_position.0", "rad"), ("right.joint_position.1", "rad"),
        ("right.gripper_opening", "1"), ("robot.value.speed", "unknown"),
    ]  # fmt: skip
    assert np.array_equal(back.episode("episode_000000").rows["action.command"], rows)
