"""What holds on a GPU as on a CPU: who goes on has the same bits. And the script that measures a GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from foundry_testing.trained_tasks import LLM, VLA, TrainedTask
from foundry_testing.trainer_runs import differing, records

ROOT = Path(__file__).parent.parent
CUDA = pytest.param(
    "cuda",
    marks=(
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ),
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("task", [LLM, VLA], ids=str)
def test_a_strict_run_that_goes_on_from_a_checkpoint_ends_in_the_same_bits(
    task: TrainedTask, device: str, tmp_path: Path
) -> None:
    store = task.make_store(tmp_path / "store")
    settings = (f"run.device={device}", "run.determinism=strict", "run.precision=bf16", "run.steps=4")
    whole = task.run(store, tmp_path / "whole", "run.save_every=2", "run.keep_last=2", *settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-00000004")
    again = task.run(store, tmp_path / "again", "run.save_every=2", "run.keep_last=2", *settings)
    assert again.resumed_from == 2
    assert differing(again.checkpoint, whole.checkpoint) == []
    assert records(tmp_path / "again") == records(tmp_path / "whole")


def test_the_script_for_a_gpu_measures_a_rank_by_each_strategy() -> None:
    asked = ["--tiny", "--turns", "1", "--steps", "1", "--only", "llm_1_2b"]
    hows = ["eager", "ddp-1", "fsdp2-1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *asked]
    done = subprocess.run(
        [*command, *(word for how in hows for word in ("--how", how))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for line, how in zip(done.stdout.splitlines(), hows, strict=True):
        assert line.startswith(f"llm_1_2b, {how} ") and '"samples_per_s"' in line
