"""What docs/lerobot.md says runs, of a dataset as it describes."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.lerobot_datasets import recordings, write_dataset
from foundry_testing.pages import ROOT, fences, missing_links, run_page

from robot_foundry.ingest.spec.spec_files import load_spec

PAGE = "docs/lerobot.md"


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "pick", recordings(width=6), names=[f"joint_{n}.pos" for n in range(6)])
    assert run_page(PAGE, tmp_path, {}, monkeypatch) == fences(PAGE) - 1  # its spec in YAML


def test_its_spec_is_one(tmp_path: Path) -> None:
    (text,) = (ROOT / PAGE).read_text("utf-8").split("```yaml\n")[1:]
    path = tmp_path / "so101.yaml"
    path.write_text(text.partition("```")[0])
    assert load_spec(path).mapping.others == "named"


def test_its_links_lead_somewhere() -> None:
    assert not missing_links(PAGE)
