"""The pipeline of dvc.yaml on a shrunk demo: killed, resumed, repeated, and with one setting changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from robot_foundry.cli.pipeline.as_dvc import dvc_text
from robot_foundry.cli.pipeline.done_by_dvc import DvcLock
from robot_foundry.cli.pipeline.pipeline_file import read_pipeline
from robot_foundry.cli.pipeline.programs import problems, recipe_problems
from robot_foundry.cli.pipeline.running import Work
from robot_foundry.cli.pipeline.stage_records import Records, records_folder

ROOT = Path(__file__).resolve().parent.parent
SCENES = 8
RATES = ("policy", "policy_real", "shuffled", "blank", "random")
NARROW = {"width": 32, "heads": 2, "mlp_hidden": 64}
# Decoder and tower come from the stage before, as in the demo.
MODELS = {
    "llm": {"preset": "llm_tiny", "decoder": {**NARROW, "depth": 2, "kv_heads": 1}},
    "vlm": {"preset": "vlm_tiny", "backbone": {"vision": {**NARROW, "depth": 1}}},
    "vla": {"preset": "vla_tiny", "taps": 2, "tap_width": 32, "draws": 4, "head": {**NARROW, "depth": 1}},
}
COPIED = (
    "pipeline.yaml", "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config",
    "examples/demo.py", "examples/prove_resume.py", "examples/corpus/make.py",
)  # fmt: skip


def shrunk_project(folder: Path) -> None:
    """A repository with the pipeline and the demo: little data, and one, one and three steps of training."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    safe_yaml = YAML(typ="safe")
    params = safe_yaml.load(ROOT / "params.yaml")
    params |= {
        "workers": 0,
        "ranks": 1,
        "corpus": {"megabytes": 0.1},
        "tokenizer": {"vocab": 300, "digits": 2},
    }
    params["scenes"]["held_out"] = 4
    for variant in ("sim", "real"):
        params["scenes"][variant]["pictures"] = 40
        params["demonstrations"][variant]["episodes"] = 16
    for stage, budget in (("llm", {"tokens": 2048}), ("vlm", {"samples": 8}), ("vla", {"samples": 24})):
        recipe = safe_yaml.load(ROOT / params[stage]["recipe"])
        recipe["data"]["global_batch"] = 8
        recipe["model"] = MODELS[stage]
        recipe["run"] |= {"precision": "fp32", "save_every": 1, "eval_samples": 8}
        safe_yaml.dump(recipe, folder / f"{stage}.yaml")
        params[stage] |= {"recipe": f"{stage}.yaml", **budget}
    params |= {"scorecard": {"pairs": 8}, "openloop": {"samples": 8}, "rollout": {"scenes": SCENES}}
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


def left_to_do(folder: Path, patch: pytest.MonkeyPatch) -> set[str]:
    """The stages that `foundry-train pipeline pipeline.yaml` would run."""
    patch.chdir(folder)
    pipeline = read_pipeline(Path("pipeline.yaml"))
    records = Records(records_folder(pipeline.path))
    work = Work(pipeline, "./store", records, "", DvcLock.read())
    return {told.stage.name for told in work.plan() if told.why is not None}


def test_the_demo_resumes_after_a_kill_repeats_nothing_and_redoes_what_a_setting_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test, because a demo takes a minute. The only run of two checkpoints or more is the policy's."""
    shrunk_project(tmp_path)
    killed = demo(tmp_path, kill_at="checkpoint-copied:2")
    assert killed.returncode != 0 and "goes on from there" in killed.stderr
    assert (tmp_path / "versions/vlm.json").exists() and not (tmp_path / "versions/vla.json").exists()

    resumed = demo(tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from    step 1" in resumed.stdout
    assert not stages_run(resumed) & stages_run(killed) - {"vla"}
    for condition in RATES:
        report = json.loads((tmp_path / f"reports/{condition}/rollout.json").read_text())
        assert report["trials"] == SCENES == len({scene["seed"] for scene in report["scenes"]})
        assert f"{report['successes']}/{SCENES} " in resumed.stdout
    proof = json.loads((tmp_path / "reports/resume.json").read_text())
    assert proof["resumed_from_step"] > 0 and resumed.stdout.count(proof["undisturbed_weights"]) >= 2
    for score in ("bits a byte", "questions  right", "mm off"):
        assert score in resumed.stdout
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True, text=True)
    assert "store" not in changed.stdout and "raw" not in changed.stdout

    assert not stages_run(demo(tmp_path))
    assert left_to_do(tmp_path, monkeypatch) == set()

    before = {path.name: path.read_bytes() for path in (tmp_path / "versions").iterdir()}
    params = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(params.replace("=0.6,real=0.4", "=0.5,real=0.5"))
    dvc(tmp_path, "repro", "demo")
    after = {path.name: path.read_bytes() for path in (tmp_path / "versions").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"demo.json"}
    assert set(json.loads(dvc(tmp_path, "status", "--json"))) == {"vla", "resume"}
    assert {"vla", "resume"} <= left_to_do(tmp_path, monkeypatch) <= {"vla", "resume", "openloop", *RATES}


def test_the_pipeline_file_runs_what_dvc_runs() -> None:
    """Word for word: dvc.yaml is made of it, and both take their values from params.yaml."""
    pipeline = read_pipeline(ROOT / "pipeline.yaml")
    assert dvc_text(pipeline, ROOT) == (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert pipeline.values_file == "params.yaml" and pipeline.notes == []
    assert [*problems(pipeline, pipeline.stages), *recipe_problems(pipeline, pipeline.stages)] == []
