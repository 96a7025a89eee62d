"""What the pages of pairs, of their models and of scenes say runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.pages import ROOT, fences, missing_links, run_page

# What whole data sets and runs would take: of what begins so, less.
FEW = "--pictures 60 --held-out 6"
ROWS = "data.global_batch=4 data.rows.length=128 data.rows.packed=true"
SHORT = f"{ROWS} run.precision=fp32 run.steps=2 run.eval_samples=4"
LESS = {
    "docs/pairs.md": {"foundry-eval collect scenes": FEW},
    "docs/vlm.md": {
        "foundry-eval collect scenes": FEW,
        "foundry-train llm": "run.steps=2 data.global_batch=4 data.rows.length=64 run.eval_samples=4",
        "foundry-train vlm": SHORT,
        "foundry-train sample": "--tokens 8",
        "foundry-eval vlm runs/scenes scenes --pairs": "--pairs 4",
        "foundry-eval vlm runs/scenes scenes_held_out": "--pairs 4",
    },
    "docs/scenes.md": {"foundry-eval collect scenes": f"{FEW} --workers 0"},
}


@pytest.mark.parametrize("page", LESS)
def test_every_command_and_program_of_the_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_page(page, tmp_path, LESS[page], monkeypatch) == fences(page)


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_every_page_and_heading_that_a_page_names_is_there(page: str) -> None:
    assert missing_links(page) == []
