"""Commands as they are typed, and what they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot_foundry.cli import foundry_train
from robot_foundry.cli.foundry_data import group
from robot_foundry.cli.output import run


class Shell:
    """foundry-data with a store: the exit code, and what stdout and stderr have."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, store: Path, *arguments: str) -> tuple[int, str, str]:
        code = run(group, "foundry-data", [*arguments, "--store", str(store)])
        return code, *self.capsys.readouterr()

    def json(self, store: Path, *arguments: str) -> dict[str, Any]:
        """What `--json` prints of a command that succeeds."""
        code, out, err = self(store, *arguments, "--json")
        assert code == 0, err
        shown: dict[str, Any] = json.loads(out)
        return shown


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """What foundry-train prints: results, and the rest."""
    capsys.readouterr()
    assert run(foundry_train.group, foundry_train.PROGRAM, list(arguments)) == code
    out, err = capsys.readouterr()
    return out, err
