"""One rank as DDP and FSDP2 treat each of many: their hooks, splits and casts, with no peer to wait for.

A run of one rank joins nobody. Here its ranks are replaced by one that is in a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from robot_foundry.trainer import run
from robot_foundry.trainer.ranks.ranks import Ranks

PLAIN, DDP, FSDP2 = STRATEGIES = ("plain", "ddp-1", "fsdp2-1")


class _Wrapped(Ranks):
    """Its gradients go through DDP, of one rank as well."""

    def wrap(self, model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model)


@contextmanager
def alone(strategy: str, device: torch.device) -> Iterator[None]:
    """Inside, runs of this process are of one rank by the strategy."""
    if strategy == PLAIN:
        yield
        return
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        if strategy == DDP:
            ranks: Ranks = _Wrapped(0, 1, device)
        else:
            ranks = Ranks(0, 1, device, init_device_mesh(device.type, (1,), mesh_dim_names=("shard",)))
        with patch.object(run, "joined", lambda *_: nullcontext(ranks)):
            yield
    finally:
        dist.destroy_process_group()
