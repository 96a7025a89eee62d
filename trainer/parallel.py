"""The ranks of a run: one process, or several under torchrun joined by DDP.

Communication of the trainer goes through here; models know nothing of it. Counts and flags travel over gloo
on the CPU, so that no step waits for a GPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robot_foundry.runtime.errors import FoundryError


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as the loop calls it; its gradients become means over ranks."""
        return model if self.size == 1 else DistributedDataParallel(model)

    @contextlib.contextmanager
    def grad_sync(self, model: nn.Module, on: bool) -> Iterator[None]:
        """Around the forward and backward pass of a microbatch; ranks exchange gradients only where `on`."""
        if isinstance(model, DistributedDataParallel) and not on:
            with model.no_sync():
                yield
        else:
            yield

    def agree(self, counts: Mapping[str, int], stop: bool) -> tuple[dict[str, int], bool]:
        """Counts summed over ranks, and whether any rank was asked to stop."""
        names = sorted(counts)
        vector = torch.tensor([*(counts[name] for name in names), int(stop)], dtype=torch.int64)
        *sums, stops = self.sum(vector).tolist()
        return dict(zip(names, sums, strict=True)), stops > 0

    def sum(self, vector: Tensor) -> Tensor:
        """Sum over ranks of a CPU tensor."""
        if self.size > 1:
            dist.all_reduce(vector)
        return vector

    def barrier(self) -> None:
        if self.size > 1:
            self.sum(torch.zeros(1))


@contextlib.contextmanager
def world(device: str) -> Iterator[World]:
    """Join the ranks that the environment names (RANK, WORLD_SIZE, LOCAL_RANK as torchrun sets them)."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device == "cuda" and not torch.cuda.is_available():
        raise FoundryError("run.device is cuda, but this machine has no CUDA device", hint="run.device=cpu")
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(chosen)
    else:
        chosen = torch.device("cpu")
    if size > 1:
        dist.init_process_group("gloo" if chosen.type == "cpu" else "cpu:gloo,cuda:nccl")
    try:
        yield World(rank, size, chosen)
    finally:
        if size > 1:
            dist.destroy_process_group()


@contextlib.contextmanager
def numerics(determinism: str) -> Iterator[None]:
    """`strict` admits only operations that give the same bits in every run."""
    if determinism != "strict":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # costs time, and all memory is written before it is read
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fill
