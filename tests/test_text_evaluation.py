"""foundry-eval llm: bits a byte of held-out text are those of training, and the control is Shannon's."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from foundry_testing import llm_runs

from robot_foundry.catalog.mixture import as_mixture
from robot_foundry.catalog.store import Store
from robot_foundry.cli.foundry_eval import group
from robot_foundry.cli.output import run as run_command
from robot_foundry.evaluation.text import text_report
from robot_foundry.loader.load import load
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.tasks.llm.trained import load_trained


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return llm_runs.make_store(tmp_path_factory.mktemp("text") / "store")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose records are of all that is held out."""
    folder = tmp_path_factory.mktemp("run")
    llm_runs.run(store, folder, "run.steps=6", "run.eval_samples=5000", "run.precision=fp32")
    return folder


def test_bits_a_byte_are_those_that_training_recorded(run: Path, store: Store) -> None:
    """By another code: of each row by itself, and with enough rows of the whole split."""
    report = text_report(load_trained(run), store, rows=5000)
    recorded = read_metrics(run)[-1]["bits_per_byte"]
    assert report["bits_per_byte"]["real"] == pytest.approx(recorded, rel=1e-5)
    low, high = report["real_95"]
    assert low < recorded < high and report["rows"] > 10
    fewer = text_report(load_trained(run), store, rows=10)
    assert fewer["rows"] == 10 and fewer["tokens"] < report["tokens"]


def test_the_control_is_the_entropy_of_single_tokens(run: Path, store: Store) -> None:
    report = text_report(load_trained(run), store, rows=5000)
    opened = as_mixture(store, "tales", split="val")
    spec = load_trained(run).config.data.rows
    with load(opened, spec, seed=0, global_batch=report["rows"], split="val", threads=0) as loader:
        batch = loader.batch(0)
    found = Counter(batch.target_BS[batch.segment_BS >= 0].tolist())
    total = sum(found.values())
    bits = -sum(count * math.log2(count / total) for count in found.values())
    assert report["tokens"] == total and report["bytes"] == pytest.approx(float(np.sum(batch.bytes_B)))
    assert report["bits_per_byte"]["alone"] == pytest.approx(bits / report["bytes"])
    gain = report["gain"]["mean"]
    assert gain == pytest.approx(report["bits_per_byte"]["alone"] - report["bits_per_byte"]["real"])


def test_the_command_keeps_its_report_with_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(group, "foundry-eval", ["llm", str(run), "--rows", "10"]) == 0
    shown = capsys.readouterr()
    kept = json.loads((run / "scorecards" / "llm" / "val" / "text.json").read_text())
    assert (kept["step"], kept["rows"], kept["seed"]) == (6, 10, 0)
    assert f"{kept['bits_per_byte']['real']:.4f}" in shown.out and "without context" in shown.out
    assert f"foundry-eval scorecard {run}" in shown.err
