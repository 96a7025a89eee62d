"""What docs/metaworld.md says runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from foundry_testing.pages import fences, missing_links, run_page

PAGE = "docs/metaworld.md"
# The last one of an option counts.
LESS = {
    "foundry-eval collect metaworld": "--episodes 1 --size 16 --workers 0",
    "foundry-eval rollout": "--episodes 1 --max-steps 3 --size 16",
    "foundry-eval collect scenes": "--pictures 3 --held-out 1 --size 16 --workers 0",
}


@pytest.mark.skipif(find_spec("metaworld") is None, reason="needs the extra metaworld")
def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(PAGE, tmp_path, LESS, monkeypatch) == fences(PAGE)


def test_its_links_lead_somewhere() -> None:
    assert not missing_links(PAGE)
