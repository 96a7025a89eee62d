"""Worlds of Gymnasium described by a YAML file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from foundry_testing.gymnasium_worlds import HILL

from robot_foundry.cli.eval.rollout import command
from robot_foundry.evaluation.worlds.gymnasium_file import read_world
from robot_foundry.evaluation.worlds.registry import get_world
from robot_foundry.runtime.errors import UsageError

PAGE = Path(__file__).parents[1] / "docs" / "worlds.md"


def example(folder: Path) -> Path:
    (text,) = re.findall(r"```yaml\n# hill.yaml\n(.*?)```", PAGE.read_text(), re.S)
    path = folder / "hill.yaml"
    path.write_text(text)
    return path


def test_the_example_of_the_page_is_the_same_world_and_runs(tmp_path: Path) -> None:
    path = example(tmp_path)
    assert (
        get_world(str(path)).describe("climb", "sim").state_space == HILL.describe("climb", "sim").state_space
    )
    told = ["--random", "--world", str(path), "--task", "climb", "--episodes", "1", "--max-steps", "5"]
    result = CliRunner().invoke(command, [*told, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "rollout.json").exists()


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = example(tmp_path)
    text = path.read_text()
    for right, wrong in (
        ("embodiment:", "embodimend:"),
        ("control_hz: 30", "control_hz: 0"),
        ("instruction:", "instructoin:"),
        ("{index: 1, scale: 30.0}", "{indx: 1, scale: 0}"),
        ('unit: "1"', 'unit: "1", kind: thing'),
    ):
        assert right in text
        text = text.replace(right, wrong)
    path.write_text(text)
    with pytest.raises(UsageError) as told:
        read_world(path)
    for said in (
        "'embodimend' is not a key|embodimend: is not a key here, did you mean 'embodiment'",
        "control_hz: expected a number above 0",
        "tasks.climb.instructoin: is not a key here, did you mean 'instruction'",
        "state.base.linear_velocity.x.indx: is not a key here, did you mean 'index'",
        "scale: is 0",
        "kind",
    ):
        assert re.search(said, told.value.message), (said, told.value.message)


def test_files_that_are_not_there_or_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        get_world(str(tmp_path / "none.yaml"))
    (tmp_path / "bare.yaml").write_text("embodiment: car\ncontrol_hz: 30\ntasks: {}\nstate: {}\naction: {}\n")
    with pytest.raises(UsageError, match="1 problem:\n  tasks: names none$"):
        get_world(str(tmp_path / "bare.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="not valid YAML"):
        get_world(str(tmp_path / "bad.yaml"))
