"""What docs/tabletop.md says of formats runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.pages import fences, missing_links, run_page

PAGE = "docs/tabletop.md"
# The last one of an option counts.
LESS = {"foundry-eval collect": "--episodes 4 --size 16"}


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(PAGE, tmp_path, LESS, monkeypatch) == fences(PAGE) - 1  # its spec in YAML


def test_its_links_lead_somewhere() -> None:
    assert not missing_links(PAGE)
