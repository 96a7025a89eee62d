"""Every command and program of the README runs, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REAL = "hdf5/lift_human_replay_robomimic_image84.hdf5"
RAW = "hdf5/robosuite141_lift_demo.hdf5"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    env.pop("FOUNDRY_STORE", None)
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    """On real demonstrations where there are any; else, or for what needs none, on the file that it makes."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for block in blocks("bash"):
        for line in block.strip().splitlines():
            run(line, tmp_path)
            if "lift.hdf5" in line and line.startswith("python") and "FOUNDRY_SAMPLES" in os.environ:
                shutil.copy(Path(os.environ["FOUNDRY_SAMPLES"]) / REAL, tmp_path / "lift.hdf5")
    (program,) = blocks("python")
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    assert "right.ee_position.x" in run(f"{sys.executable} program.py", tmp_path)


@pytest.mark.skipif("FOUNDRY_SAMPLES" not in os.environ, reason="FOUNDRY_SAMPLES is not set")
def test_real_recordings_of_unlike_dims_train_together(tmp_path: Path) -> None:
    """The mixture that the readme names: end-effector poses with pictures, joints without."""
    samples = Path(os.environ["FOUNDRY_SAMPLES"])
    shutil.copy(samples / REAL, tmp_path / "lift.hdf5")
    shutil.copy(samples / RAW, tmp_path / "demo.hdf5")
    ingest = re.findall(r"`(foundry-data ingest robosuite [^`]*)`", README)
    weights = re.findall(r"`(--weights [^`]*)`", README)
    assert len(ingest) == len(weights) == 1
    run("foundry-data ingest robomimic lift.hdf5 --as lift", tmp_path)
    run(ingest[0], tmp_path)
    run(f"foundry-data mix {weights[0]} --as both", tmp_path)
    run("foundry-train vla data.mix=both run.steps=2 run.eval_samples=16 run.dir=runs/both", tmp_path)
    assert "joints rad" in run("foundry-eval openloop runs/both --samples 16", tmp_path)


def test_every_page_that_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_knows_the_targets_of_the_readme() -> None:
    targets = re.findall(r"^ {4}make (\w+)", README, re.MULTILINE) + re.findall(r"`make (\w+)`", README)
    assert targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
