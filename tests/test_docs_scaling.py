"""Every table of docs/scaling.md that a command makes is what the command prints."""

from __future__ import annotations

import re
import shlex

import pytest
from foundry_testing.pages import ROOT

from robot_foundry.cli import foundry_train
from robot_foundry.cli.output import run

PAGE = (ROOT / "docs" / "scaling.md").read_text("utf-8")
BLOCKS = re.findall(r"```console\n\$ (.*?)\n(.*?)\n```", PAGE, re.DOTALL)


@pytest.mark.parametrize("command, printed", BLOCKS, ids=[str(i) for i in range(len(BLOCKS))])
def test_what_a_command_prints_is_on_the_page(
    command: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(command)
    assert program == foundry_train.PROGRAM
    assert run(foundry_train.group, program, arguments) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.strip().splitlines()]
    assert lines == printed.splitlines()


def test_there_are_three_models() -> None:
    assert len(BLOCKS) == 3
