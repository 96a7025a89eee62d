"""What docs/export.md says runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.pages import fences, missing_links, run_page

PAGE = "docs/export.md"


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(PAGE, tmp_path, {}, monkeypatch) == fences(PAGE)


def test_its_links_lead_somewhere() -> None:
    assert not missing_links(PAGE)
