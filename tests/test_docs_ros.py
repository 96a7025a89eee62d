"""What docs/ros.md says runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.pages import run_page


def test_every_command_and_program_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("docs/ros.md", tmp_path, {}, monkeypatch)
