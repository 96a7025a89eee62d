"""A run that is not there is a usage error with the nearest name, whatever command is given it."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_foundry.cli.foundry_eval import PROGRAM as FOUNDRY_EVAL
from robot_foundry.cli.foundry_eval import group as foundry_eval
from robot_foundry.cli.foundry_train import PROGRAM as FOUNDRY_TRAIN
from robot_foundry.cli.foundry_train import group as foundry_train
from robot_foundry.cli.output import run

GROUPS = {FOUNDRY_EVAL: foundry_eval, FOUNDRY_TRAIN: foundry_train}


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (FOUNDRY_EVAL, ["openloop", "{run}"]),
        (FOUNDRY_EVAL, ["scorecard", "{run}"]),
        (FOUNDRY_EVAL, ["latency", "{run}"]),
        (FOUNDRY_TRAIN, ["diff", "{there}", "{run}"]),
        (FOUNDRY_TRAIN, ["sample", "{run}", "A prompt"]),
        (FOUNDRY_TRAIN, ["export", "{run}", "out"]),
    ],
)
def test_the_nearest_run_is_named(
    program: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, misspelt = tmp_path / "runs" / "first", tmp_path / "runs" / "frist"
    there.mkdir(parents=True)
    code = run(GROUPS[program], program, [word.format(run=misspelt, there=there) for word in words])
    assert code == 2
    told = capsys.readouterr().err
    assert f"there is no run '{misspelt}', did you mean '{there}'?" in told
    assert "give a run's folder, a checkpoint or a pointer file" in told


def test_without_a_near_name_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(foundry_eval, FOUNDRY_EVAL, ["openloop", str(tmp_path / "nowhere" / "a")])
    assert code == 2
    told = capsys.readouterr().err
    assert "there is no run" in told and "did you mean" not in told
