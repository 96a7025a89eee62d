"""What docs/ros.md says runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.pages import fences, run_page

PAGE = "docs/ros.md"


def test_every_command_and_program_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(PAGE, tmp_path, {}, monkeypatch) == fences(PAGE) - 2  # its spec and its triggers in YAML
