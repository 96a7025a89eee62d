"""Pipelines from YAML: what a stage refers to, and that all that is wrong is told before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from foundry_testing.pages import ROOT

from robot_foundry.cli.foundry_train import group
from robot_foundry.cli.output import run
from robot_foundry.cli.pipeline.as_dvc import dvc_text
from robot_foundry.cli.pipeline.pipeline_file import read_pipeline
from robot_foundry.cli.pipeline.programs import problems, process_of, recipe_problems
from robot_foundry.runtime.errors import UsageError

GOOD = """
values: {vocab: 512, llm: {tokens: 2e5}, sides: [1]}
stages:
  words:
    run: foundry-data ingest text 'raw/**/*.jsonl' --as words --pointer {out}
    out: versions/words.json
  tokens:
    run: foundry-data tokenize words --tokenizer byte --as tokens --pointer {out}
    out: versions/tokens.json
    needs: [words]
  llm:
    run: foundry-train llm data.mix=tokens run.tokens=${llm.tokens} --pointer {out}
    out: versions/llm.json
    needs: [tokens]
  vlm:
    run: foundry-train vlm init.llm={llm} data.mix=scenes --pointer {out}
    out: versions/vlm.json
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def told(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        read_pipeline(written(folder, text), overrides)
    return str(caught.value)


def test_stages_name_values_and_the_products_of_others(tmp_path: Path) -> None:
    pipeline = read_pipeline(written(tmp_path, GOOD), ["llm.tokens=1000"])
    words, _, llm, vlm = pipeline.stages
    assert pipeline.arguments(words)[3] == "raw/**/*.jsonl"
    assert "run.tokens=1000" in pipeline.arguments(llm)
    assert "init.llm=versions/llm.json" in pipeline.arguments(vlm) and vlm.needs == ("llm",)
    assert pipeline.notes == ["no stage reads ${vocab}", "no stage reads ${sides}"]
    assert [*problems(pipeline, pipeline.stages), *recipe_problems(pipeline, pipeline.stages)] == []


def test_values_may_lie_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "numbers.yaml").write_text("llm: {tokens: 7}\n", encoding="utf-8")
    text = re.sub("values: .*", "values: numbers.yaml", GOOD)
    pipeline = read_pipeline(written(tmp_path, text))
    assert "run.tokens=7" in pipeline.arguments(pipeline.stages[2])
    assert "vars:\n- numbers.yaml" in dvc_text(pipeline, tmp_path)
    assert "values: there is no file" in told(tmp_path, re.sub("values: .*", "values: nowhere.yaml", GOOD))


def test_values_that_break_a_command_are_told_and_places_read_none(tmp_path: Path) -> None:
    text = """
values: {name: "don't", none: ""}
stages:
  one: {run: "python make.py ${name} {out}", out: one.json}
  two: {run: "${none}", out: "${name}/two.json"}
"""
    said = told(tmp_path, text)
    assert "\n  one: its command cannot be read with its values: No closing quotation" in said
    assert "\n  two: its command is empty with its values" in said
    assert "\n  two.out: '${name}/two.json' reads ${name}, which only commands do" in said


def test_no_dvc_yaml_is_made_that_a_shell_would_read_otherwise(tmp_path: Path) -> None:
    text = "stages: {one: {run: 'python make.py {out}', out: two words.json}}"
    pipeline = read_pipeline(written(tmp_path, text))
    assert pipeline.arguments(pipeline.stages[0])[2] == "two words.json"
    with pytest.raises(UsageError, match="takes these places apart: one.out: 'two words.json'"):
        dvc_text(pipeline, tmp_path)
    with pytest.raises(UsageError, match="there is no folder"):
        dvc_text(pipeline, tmp_path / "nowhere")


def test_every_problem_is_told_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    text = """
value: {}
values: {vocab: 512, from: "{llm}"}
stages:
  words: {run: "foundry-data ingest text raw --as words --pointer {out}", out: versions/words.json, need: []}
  bpe: {run: "foundry-data tokenizer train words --vocab ${vocabs} --out {out}", out: versions/words.json}
  tokens: {run: "foundry-data tokenize {word} --tokenizer byte > {out}", out: ../tokens.json}
  llm: {run: "foundry-train llm data.mix={vlm}", out: versions/llm.json}
  vlm: {run: "foundry-train vlm --pointer {out}", out: versions/llm.json/vlm, needs: [bpee]}
  Bad: {out: x}
  out: no
"""
    said = told(tmp_path, text, "vocap=1024")
    for line in (
        "value: is not a key, did you mean 'values'?",
        "vocap=1024: there is no value vocap, did you mean 'vocab'?",
        "values.from: '{llm}' names the product of a stage, which only commands do",
        "words.need: is not a key, did you mean 'needs'? (keys: run, out, needs)",
        "bpe: there is no value ${vocabs}, did you mean 'vocab'?",
        "tokens: there is no stage 'word', did you mean 'words'?",
        "tokens.run: no shell reads it, so '>' means nothing",
        "tokens.out: '../tokens.json' is no path below the folder of work",
        "llm: it reads 'vlm', which comes no earlier",
        "llm: its command does not say where its product goes: write {out} after --pointer or --out",
        "vlm: there is no stage 'bpee', did you mean 'bpe'?",
        "vlm.out: 'versions/llm.json/vlm' is in the way of that of llm, 'versions/llm.json'",
        "Bad: is no name of a stage",
        "Bad.run: needs text",
        "out: needs the keys run and out",
    ):
        assert f"\n  {line}" in said, said
    assert "no stage 'words'" not in said  # whose only fault is a key


def test_options_values_and_recipes_are_looked_at_before_the_first_stage_runs(tmp_path: Path) -> None:
    text = """
stages:
  scenes: {run: "foundry-eval collect scenes --picture 5 --out {out}", out: raw/scenes}
  other: {run: "foundry-eval collect scene --out {out}", out: raw/other}
  mix: {run: "foundry-data mixx --pointer {out}", out: versions/mix.json}
  demos: {run: "foundry-eval collect tabletop --task reach --episodes none --out {out}", out: raw/demos.hdf5}
  vla:
    run: foundry-train vla data.mix=demo optim.lrr=1 run.sample=5 --pointer {out}
    out: versions/vla.json
  none: {run: "foundry-train vlm vlm_tinny data.mix=scenes --pointer {out}", out: versions/none.json}
  seen: {run: "foundry-eval rollout {vla} --task reach --out {out}", out: reports/seen}
  own: {run: "no_such_program {out}", out: reports/own}
"""
    pipeline = read_pipeline(written(tmp_path, text))
    lines = [*problems(pipeline, pipeline.stages), *recipe_problems(pipeline, pipeline.stages)]
    said = dict(line.split(": ", 1) for line in lines)
    assert "--picture" in said["scenes"] and "--pictures" in said["scenes"]
    assert "did you mean 'scenes'?" in said["other"]
    assert "did you mean 'mix'?" in said["mix"]
    assert "'none' is not a valid integer" in said["demos"]
    assert "did you mean 'lr'?" in said["vla"] and "did you mean 'samples'?" in said["vla"]
    assert "no_such_program" in said["own"]
    assert "did you mean 'vlm_tiny'?" in said["none"]
    assert "seen" not in said


def test_what_is_wrong_with_file_commands_and_recipes_is_told_in_one_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
stages:
  words: {run: "foundry-data ingest text raw --as words --pointr {out}", out: versions/words.json}
  tokens: {run: "foundry-data tokenize {word} --tokenizer byte --as tokens --pointer {out}", out: tokens.json}
  llm: {run: "foundry-train llm data.mix=tokens optim.lrr=1 --pointer {out}", out: versions/llm.json}
"""
    assert run(group, "foundry-train", ["pipeline", str(written(tmp_path, text))]) == 2
    said = capsys.readouterr().err
    assert "has 3 problems" in said and "did you mean 'words'?" in said
    assert "--pointr" in said and "did you mean 'lr'?" in said


def test_the_page_shows_a_pipeline_that_can_run(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "pipeline.md").read_text("utf-8"), re.DOTALL)
    pipeline = read_pipeline(written(tmp_path, text))
    assert [*problems(pipeline, pipeline.stages), *recipe_problems(pipeline, pipeline.stages)] == []
    assert pipeline.notes == [] and len(pipeline.stages) == 8


def test_commands_of_the_product_need_no_path(tmp_path: Path) -> None:
    python, option, program, *rest = process_of(["foundry-data", "ls"])
    assert Path(python).is_file() and option == "-c" and "foundry_data" in program and rest == ["ls"]
    assert process_of(["python", "make.py"])[1:] == ["make.py"]
    assert process_of(["true", "it", "is"]) == ["true", "it", "is"]
