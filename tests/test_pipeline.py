"""The pipeline of dvc.yaml on a shrunk demo: killed, resumed, repeated, and with one setting changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SCENES = 8


def shrunk_project(folder: Path) -> None:
    """A repository with the pipeline and the demo, few demonstrations and three steps of training."""
    for name in (
        "dvc.yaml",
        ".dvcignore",
        ".gitignore",
        ".dvc/config",
        "examples/demo.py",
        "examples/prove_resume.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    safe_yaml = YAML(typ="safe")
    params = safe_yaml.load(ROOT / "params.yaml")
    params["workers"] = 0
    for demonstrations in params["demonstrations"].values():
        demonstrations["episodes"] = 16
    recipe = safe_yaml.load(ROOT / params["train"]["recipe"])
    recipe["data"]["global_batch"] = 8
    recipe["run"].update(samples=24, save_every=1)
    safe_yaml.dump(recipe, folder / "recipe.yaml")
    params["train"]["recipe"] = "recipe.yaml"
    params["rollout"]["scenes"] = SCENES
    safe_yaml.dump(params, folder / "params.yaml")
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)


def demo(folder: Path, kill_at: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FOUNDRY_KILL_AT": kill_at or "none"}
    environment.pop("FOUNDRY_STORE", None)
    command = [sys.executable, "examples/demo.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def stages_run(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")}


def test_the_demo_resumes_after_a_kill_repeats_nothing_and_redoes_what_a_setting_changes(
    tmp_path: Path,
) -> None:
    """One test, because a demo takes a minute."""
    shrunk_project(tmp_path)
    killed = demo(tmp_path, kill_at="train-step:2")
    assert killed.returncode != 0 and "goes on from there" in killed.stderr
    assert not (tmp_path / "versions/policy.json").exists()

    resumed = demo(tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from    step 1" in resumed.stdout
    assert not {name for name in stages_run(resumed) if name.startswith(("collect", "ingest", "mix"))}
    for condition in ("policy", "random", "blank", "shuffled"):
        for task in ("reach_single", "reach_pair"):
            report = json.loads((tmp_path / f"reports/{condition}/{task}/rollout.json").read_text())
            assert report["trials"] == SCENES == len({scene["seed"] for scene in report["scenes"]})
            assert f"{report['successes']}/{SCENES} [" in resumed.stdout
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True, text=True)
    assert "store" not in changed.stdout and "raw" not in changed.stdout

    assert not stages_run(demo(tmp_path))

    before = {path.name: path.read_bytes() for path in (tmp_path / "versions").iterdir()}
    params = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params.replace("sim=0.6,real=0.4", "sim=0.5,real=0.5"))
    dvc(tmp_path, "repro", "mix")
    after = {path.name: path.read_bytes() for path in (tmp_path / "versions").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"demo.json"}
    assert {name.partition("@")[0] for name in json.loads(dvc(tmp_path, "status", "--json"))} == {
        "train",
        "resume",
    }
