"""Between records no step waits for the device: here on one whose numbers cannot be read, and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from foundry_testing import llm_runs, trainer_runs, vlm_runs
from foundry_testing.unreadable_device import unreadable_device

from robot_foundry.catalog.store import Store
from robot_foundry.trainer import loop, run
from robot_foundry.trainer.loop import RunParts, StepPlan
from robot_foundry.trainer.models.llm import LLM
from robot_foundry.trainer.ranks.ranks import Ranks
from robot_foundry.trainer.tasks.llm.resolving import resolve_llm
from robot_foundry.trainer.tasks.vla.resolving import resolve_vla
from robot_foundry.trainer.tasks.vlm.resolving import resolve_vlm

RUNS: dict[str, tuple[Any, Callable[[Any], Any], tuple[str, ...]]] = {
    "llm": (llm_runs, resolve_llm, ()),
    "vlm": (vlm_runs, resolve_vlm, (vlm_runs.TEXT,)),
    "vla": (trainer_runs, resolve_vla, ()),
}
STEPS = 3
# All that a step can have in it.
FULL = (
    "optim.optimizer=muon", "optim.max_sigmas=6", "optim.ema_max=0.99", "run.accumulate=2",
    "run.log_every=100", "run.save_every=100", f"run.steps={STEPS + 1}",
)  # fmt: skip


class Enough(Exception):
    """So many steps were taken."""


def task_of(name: str, folder: Path, *settings: str) -> Any:
    module, resolve, own = RUNS[name]
    store: Store = module.make_store(folder / "store")
    return resolve(module.tiny(store, folder / "run", *FULL, *own, *settings))


def take_steps(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop of a run, on a device that nobody can read, up to its first record."""

    def until_enough(parts: RunParts, plan: StepPlan, done: int) -> None:
        if done == STEPS:
            raise Enough

    monkeypatch.setattr(loop, "report", until_enough)
    with unreadable_device() as device:
        monkeypatch.setattr(run, "joined", lambda *_: nullcontext(Ranks(0, 1, device)))
        run.run_task(task, quiet=True)


@pytest.mark.parametrize("name", RUNS)
def test_no_step_needs_a_number_of_the_device(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Enough):
        take_steps(task_of(name, tmp_path), monkeypatch)


@pytest.mark.parametrize("look", [torch.Tensor.item, torch.Tensor.cpu, torch.Tensor.nonzero, bool])
def test_a_model_that_looks_is_found(
    look: Callable[[torch.Tensor], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Looking(LLM):
        def forward(self, inputs: Any) -> Any:
            losses = super().forward(inputs)
            look(losses["text"][0].detach())
            return losses

    task = task_of("llm", tmp_path)
    monkeypatch.setattr(type(task), "build_model", lambda self: Looking(self.config.model))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        take_steps(task, monkeypatch)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", RUNS)
def test_no_step_waits_for_a_gpu(
    name: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch raises at the first wait; the first step, which makes ready what stays, is let off."""
    report = loop.report

    def watched(parts: RunParts, plan: StepPlan, done: int) -> None:
        torch.cuda.set_sync_debug_mode("default")
        report(parts, plan, done)
        if done < plan.num_steps:
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(loop, "report", watched)
    try:
        run.run_task(task_of(name, tmp_path, "run.device=cuda", f"run.precision={precision}"), quiet=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
