"""What the bits of a run depend on besides its identity: its machine, and what changes rounding alone.

A sum over a tensor is taken in another order by another number of threads, so the number is part of a
checkpoint and is set again on resume.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from robot_foundry.trainer.ranks.ranks import Ranks

SHARED_CORES = "FOUNDRY_SHARED_CORES"  # set where OMP_NUM_THREADS is the launcher's choice and not the user's
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_WORDS = {
    "threads": "threads",
    "device": "device",
    "cpu_capability": "instructions of the processor",
    "torch": "version of PyTorch",
    "precision": "run.precision",
    "determinism": "run.determinism",
    "accumulate": "run.accumulate",
    "shard": "run.shard",
    "compile": "run.compile",
}


@dataclass(frozen=True)
class MachineSettings:
    """Where and how a run computes."""

    accumulate: int = 1  # microbatches a step and rank
    shard: int = 1  # ranks that hold one copy of the weights among them; 1: each holds all | 0: all ranks
    recompute: bool = (
        False  # blocks a second time for their gradients, in place of keeping what they computed
    )
    compile: bool = False  # each block, when it first runs; needs a C++ compiler
    device: str = "auto"  # auto | cpu | cuda
    precision: str = "fp32"  # fp32 | bf16: autocast; weights stay fp32
    determinism: str = "strict"  # strict: the same bits in every run | fast
    patience: float = 600.0  # seconds for a rank to give a sign of life, and in a step to come


def num_cuda_devices() -> int:
    """How many GPUs this process may use."""
    return torch.cuda.device_count()


def facts(ranks: Ranks, settings: MachineSettings) -> dict[str, Any]:
    """Of this rank, as a checkpoint keeps them."""
    on_gpu = ranks.device.type == "cuda"
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(ranks.device) if on_gpu else ranks.device.type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "precision": settings.precision,
        "determinism": settings.determinism,
        "accumulate": settings.accumulate,
        "shard": 1 if ranks.mesh is None else ranks.mesh.size(ranks.mesh.ndim - 1),
        "compile": settings.compile,
    }


@contextlib.contextmanager
def same_threads(before: Sequence[Mapping[str, Any]], ranks: Ranks) -> Iterator[None]:
    """Inside, as many threads as this rank had when the checkpoint was written.

    Not where the user says how many (OMP_NUM_THREADS, MKL_NUM_THREADS), or the number of ranks is another.
    """
    chosen = any(os.environ.get(name) for name in _THREADS) and SHARED_CORES not in os.environ
    if chosen or len(before) != ranks.size:
        yield
        return
    now = torch.get_num_threads()
    torch.set_num_threads(int(before[ranks.rank]["threads"]))
    try:
        yield
    finally:
        torch.set_num_threads(now)


def changes(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str | None:
    """One sentence about everything that differs, so that the bits may; None where nothing does.

    Each has an entry for every rank. Nothing is known of a checkpoint that has none.
    """
    if not before:
        return None
    differing = [f"{words} {then} there and {here} here" for words, then, here in unlike_facts(before, now)]
    if not differing:
        return None
    return (
        "this run computes otherwise than that of the checkpoint, so it may end in other bits than one that "
        f"was never stopped: {', '.join(differing)}"
    )


def unlike_facts(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, str]]:
    """What differs between the facts of the ranks then and now: in words, and both values."""
    if before and len(before) != len(now):
        yield "ranks", str(len(before)), str(len(now))
    for name, words in _WORDS.items():
        then, here = ([rank.get(name) for rank in side] for side in (before, now))
        if not then or None in then:  # the checkpoint is older than what it does not say
            continue
        if then != here and not (len(then) != len(here) and set(then) == set(here)):
            yield words, _listed(then), _listed(here)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))
