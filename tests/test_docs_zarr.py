"""What docs/zarr.md says runs, of a replay buffer as it describes."""

from __future__ import annotations

from pathlib import Path

import pytest
from foundry_testing.pages import ROOT, fences, missing_links, run_page
from foundry_testing.zarr_buffers import write_buffer

from robot_foundry.ingest.spec.spec_files import load_spec

PAGE = "docs/zarr.md"


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_buffer(tmp_path / "pusht.zarr")
    assert run_page(PAGE, tmp_path, {}, monkeypatch) == fences(PAGE) - 1  # its spec in YAML


def test_its_spec_is_one(tmp_path: Path) -> None:
    (text,) = (ROOT / PAGE).read_text("utf-8").split("```yaml\n")[1:]
    path = tmp_path / "umi.yaml"
    path.write_text(text.partition("```")[0])
    assert load_spec(path).content.fps == 59.94


def test_its_links_lead_somewhere() -> None:
    assert not missing_links(PAGE)
