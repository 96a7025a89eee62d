"""A rollout that cannot be is a mistake in the command: exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_foundry.cli.foundry_eval import PROGRAM, group
from robot_foundry.cli.output import run


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--task", "raech"], "the tabletop has no task 'raech', did you mean 'reach'?"),
        (
            ["--task", "reach", "--variant", "rael"],
            "no variant 'rael', did you mean 'real'?",
        ),
        (["--world", "mujoco", "--task", "reach"], "pusht and your own by a .yaml file (docs/worlds.md)"),
        (["--task", "reach", "--delay", "12"], "delay must lie in 0 … execute (8), got 12"),
        (["--task", "reach", "--episodes", "0"], "episodes must be at least 1, got 0"),
    ],
)
def test_the_command_is_wrong(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(group, PROGRAM, ["rollout", "--random", "--out", str(tmp_path / "out"), *options])
    assert code == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
