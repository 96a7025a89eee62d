"""What docs/inspect.md says runs, from a file of one's own to a version."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.pages import ROOT, enter, missing_links, run_command, run_program

PAGE = "docs/inspect.md"


def test_the_tutorial_runs_from_the_file_to_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    tutorial = (
        (ROOT / PAGE).read_text("utf-8").partition("## From a file")[2].partition("## What the evidence")[0]
    )
    program = tutorial.partition("```python\n")[2].partition("```")[0]
    commands = [block.partition("```")[0] for block in tutorial.split("```bash\n")[1:]]
    run_program(program, PAGE)
    told = [run_command(line) for block in commands for line in block.splitlines()]
    draft = Path("lab.yaml").read_text()
    assert "right.ee_rotation: {key: tool/pose, columns: [3, 7], from: quaternion, order: wxyz}" in draft
    assert "TODO\n" not in draft and any("lab@" in text and "4 episodes" in text for text in told), told


def test_its_links_lead_somewhere() -> None:
    assert not missing_links(PAGE)
