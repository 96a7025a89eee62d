"""Units of a model compiled one by one, so that what they share is compiled once.

What is compiled is the forward pass inside of a unit's hooks: of weights that FSDP2 has gathered when it
runs, and within what is computed again for gradients. The module stays what it is, as do names of parameters
in checkpoints, and a run goes on whether it was compiled before or not, with other rounding.
Sizes that change are compiled anew once, then for any size.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from torch import nn

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.models.units import units


def compile_units(model: nn.Module, device: torch.device, determinism: str) -> None:
    """Compile each unit in place, when it first runs; after its weights are shared, before it is recomputed.

    FoundryError where there is no compiler. With `strict` no kernel is chosen by how fast it ran; UsageError
    where this PyTorch cannot promise that on a GPU.
    """
    check_compiler()
    options = _deterministic(device) if determinism == "strict" else None
    for unit in units(model):
        unit.forward = torch.compile(unit.forward, options=options)


def check_compiler() -> None:
    """FoundryError where PyTorch would find no C++ compiler."""
    name = os.environ.get("CXX", "g++").split()[0]
    if shutil.which(name) is None:
        raise FoundryError(
            f"run.compile needs a C++ compiler, and there is no {name} on this machine",
            hint="install g++, name a compiler in CXX, or give run.compile=false",
        )


def _deterministic(device: torch.device) -> dict[str, Any] | None:
    from torch._inductor import config

    if hasattr(config, "deterministic"):
        return {"deterministic": True}
    if device.type == "cpu":  # where nothing is chosen by measuring
        return None
    raise UsageError(
        f"run.compile: PyTorch {torch.__version__} chooses kernels by their speed, so no bits are promised",
        hint="run.determinism=fast, or a newer PyTorch",
    )
