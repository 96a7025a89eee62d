"""Every command and program of the README runs, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from foundry_testing.pages import ROOT, enter, run_command, run_program

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Where it is, whatever folder a test is in.
SAMPLES = Path(os.environ["FOUNDRY_SAMPLES"]).resolve() if "FOUNDRY_SAMPLES" in os.environ else None
REAL = "hdf5/lift_human_replay_robomimic_image84.hdf5"
RAW = "hdf5/robosuite141_lift_demo.hdf5"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_command_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On real demonstrations where there are any; else, or for what needs none, on the file that it makes."""
    enter(tmp_path, monkeypatch)
    for block in blocks("bash"):
        for line in block.strip().splitlines():
            run_command(line)
            if "lift.hdf5" in line and line.startswith("python") and SAMPLES is not None:
                shutil.copy(SAMPLES / REAL, tmp_path / "lift.hdf5")
    (program,) = blocks("python")
    assert "right.ee_position.x" in run_program(program, "README.md")


@pytest.mark.skipif(SAMPLES is None, reason="FOUNDRY_SAMPLES is not set")
def test_real_recordings_of_unlike_dims_train_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mixture that the readme names: end-effector poses with pictures, joints without."""
    enter(tmp_path, monkeypatch)
    assert SAMPLES is not None
    shutil.copy(SAMPLES / REAL, tmp_path / "lift.hdf5")
    shutil.copy(SAMPLES / RAW, tmp_path / "demo.hdf5")
    ingest = re.findall(r"`(foundry-data ingest robosuite [^`]*)`", README)
    weights = re.findall(r"`(--weights [^`]*)`", README)
    assert len(ingest) == len(weights) == 1
    run_command("foundry-data ingest robomimic lift.hdf5 --as lift")
    run_command(ingest[0])
    run_command(f"foundry-data mix {weights[0]} --as both")
    run_command("foundry-train vla data.mix=both run.steps=2 run.eval_samples=16 run.dir=runs/both")
    assert "joints rad" in run_command("foundry-eval openloop runs/both --samples 16")


def test_every_page_that_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_page_has_its_row() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(docs/(\w+)\.md\)", README, re.MULTILINE)
    assert sorted(page for _, page in rows) == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
    assert all(name == page for name, page in rows)


def test_make_knows_the_targets_of_the_readme() -> None:
    targets = re.findall(r"^ {4}make (\w+)", README, re.MULTILINE) + re.findall(r"`make (\w+)`", README)
    assert targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
