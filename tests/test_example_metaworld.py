"""The example of five tasks of Meta-World, from pictures to rates, with little of everything."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from foundry_testing.pages import ROOT, enter, missing_links, run_command

from robot_foundry.cli.pipeline.as_dvc import dvc_text
from robot_foundry.cli.pipeline.pipeline_file import read_pipeline
from robot_foundry.cli.pipeline.programs import problems, recipe_problems

EXAMPLE = ROOT / "examples" / "metaworld"
LITTLE = (
    "workers=0", "ranks=1", "scenes.held_out=2", "scenes.front.pictures=8", "scenes.side.pictures=8",
    "tokenizer.vocab=290", "llm.tokens=4096", "vlm.samples=32", "answers.pairs=4",
    "demonstrations.episodes=1", "vla.samples=64", "rollout.scenes=1",
)  # fmt: skip
NARROW = "{width: 32, heads: 2, kv_heads: 1, depth: 2, mlp_hidden: 64}"
LESS = {
    "llm": [f"model.decoder={NARROW}"],
    "vlm": ["model.backbone.vision={width: 32, heads: 2, depth: 1, mlp_hidden: 64}"],
    "vla": [
        "model.head={width: 32, heads: 2, depth: 1, mlp_hidden: 64}",
        "model.taps=2",
        "model.tap_width=32",
    ],
    "rates": ["--max-steps", "4"],
}


def test_all_of_its_stages_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which spares importing what they need for each."""
    enter(tmp_path, monkeypatch)
    monkeypatch.chdir("examples/metaworld")
    pipeline = read_pipeline(Path("pipeline.yaml"), LITTLE)
    for stage in pipeline.stages:
        run_command(shlex.join([*pipeline.arguments(stage), *LESS.get(stage.name, ())]))
    report = json.loads(Path("reports/rates/suite.json").read_text())
    tasks = str(pipeline.values["tasks"]).split(",")
    assert sorted(report["tasks"]) == sorted(tasks)


def test_its_dvc_file_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE)
    pipeline = read_pipeline(Path("pipeline.yaml"))
    assert dvc_text(pipeline, Path()) == Path("dvc.yaml").read_text(encoding="utf-8")
    assert pipeline.values_file == "params.yaml" and pipeline.notes == []
    assert "dvc.lock" not in Path(".gitignore").read_text(encoding="utf-8")  # dvc refuses to go on then
    assert [*problems(pipeline, pipeline.stages), *recipe_problems(pipeline, pipeline.stages)] == []


def test_its_readme_names_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE)
    readme = Path("README.md").read_text(encoding="utf-8")
    commands = [line.strip() for line in readme.splitlines() if line.startswith("    ")]
    assert commands == ["dvc repro", "foundry-train pipeline pipeline.yaml"]
    products = {str(stage.out) for stage in read_pipeline(Path("pipeline.yaml")).stages}
    for place in ("reports/answers", "reports/rates", "versions/llm.json", "versions/vla.json"):
        assert place in readme and place in products
    assert not missing_links("examples/metaworld/README.md")
