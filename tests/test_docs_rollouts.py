"""What docs/rollouts.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from foundry_testing.pages import ROOT, fences, missing_links, run_page
from foundry_testing.trainer_runs import TINY

from robot_foundry.evaluation.suites.suite import read_suite

PAGE = "docs/rollouts.md"
# The last one of an option counts.
SMALL = "--episodes 2 --size 32 --max-steps 4"
ONCE = ("data.window.stream=command", "run.steps=1")
LESS = {
    "foundry-eval collect": "--episodes 6 --size 32",
    "foundry-train vla": " ".join(f"'{override}'" for override in [*TINY, *ONCE]),
    "foundry-eval rollout": SMALL,
}


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_page(PAGE, tmp_path, LESS, monkeypatch) == fences(PAGE) - 1  # its suite in YAML


def test_the_suite_of_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "page.yaml").write_text(
        re.findall(r"```yaml\n(.*?)```", (ROOT / PAGE).read_text("utf-8"), re.S)[0]
    )
    suite = read_suite(str(tmp_path / "page.yaml"))
    assert list(suite.categories) == ["reach", "push"] and suite.name == "page"


def test_its_links_lead_somewhere() -> None:
    assert not missing_links(PAGE)
