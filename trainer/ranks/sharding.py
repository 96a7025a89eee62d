"""Weights that ranks share among them: FSDP2, block by block.

    run.shard   1           each rank holds all (DDP)
                all ranks   each holds a share (FSDP2)
                fewer       each group of so many ranks holds one copy (HSDP)

A unit is a block, or all that is in none. Its weights are whole on a rank only while it computes; gradients
and all that follows from them (moments, averages, checkpoints) are shares. Zhao et al. 2023, "PyTorch FSDP".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from robot_foundry.runtime.errors import UsageError
from robot_foundry.trainer.models.units import units

NORMS = (nn.RMSNorm, nn.LayerNorm)


def mesh_of(size: int, shard: int, device: torch.device) -> DeviceMesh | None:
    """How `size` ranks share weights: None where each holds all. `shard` 0 is all ranks.

    UsageError where the ranks do not divide into groups of `shard`. Every rank calls this.
    """
    shard = shard or size
    if size % shard:
        fitting = [number for number in range(1, size + 1) if size % number == 0]
        raise UsageError(
            f"run.shard: {size} ranks do not divide into groups of {shard}",
            hint=f"run.shard is one of {', '.join(map(str, fitting))}",
        )
    if shard == 1:
        return None
    if shard == size:
        return init_device_mesh(device.type, (size,), mesh_dim_names=("shard",))
    groups = (size // shard, shard)
    return init_device_mesh(device.type, groups, mesh_dim_names=("replicate", "shard"))


def shard_model(model: nn.Module, mesh: DeviceMesh, precision: str) -> None:
    """Split every parameter over the ranks of `mesh`, in place; a model without memory gets none.

    In `bf16` what is in blocks travels in it, as it is rounded to it to be multiplied anyhow; all else
    (embeddings, last norms, both ends of heads) stays in fp32, and gradients are summed in it.
    """
    rounded = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if precision == "bf16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,  # the stream between blocks keeps the precision that it has
    )
    for unit in units(model):
        for module in unit.modules():
            if isinstance(module, NORMS) and module.weight is not None:
                module.register_forward_pre_hook(_rounded_as_weight)
        fully_shard(unit, mesh=mesh, mp_policy=rounded)
    fully_shard(model, mesh=mesh)


def _rounded_as_weight(norm: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Kernels of norms want one precision. What comes out is rounded in any case, by the matrix behind it."""
    weight = norm.get_parameter("weight")
    return tuple(value.to(weight.dtype) for value in inputs)


def let_go(model: nn.Module) -> None:
    """Forget whole weights that are still there: the next pass gathers them anew, of the shares as they are.

    A backward pass does it by itself; one without gradients leaves those that are in no block.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def sync_gradients(model: nn.Module, on: bool) -> None:
    """Whether the next backward pass sums gradients over ranks, or keeps them until one does."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(on)
