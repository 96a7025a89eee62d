"""How a run computes: precision, and whether every run gives the same bits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

PRECISIONS = ("fp32", "bf16")
DETERMINISMS = ("strict", "fast")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """`bf16` computes in it where that is safe; weights stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


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
