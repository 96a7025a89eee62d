"""Tensors of which each rank holds all, or a share that FSDP2 gave it (a DTensor)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard


def local(tensor: Tensor) -> Tensor:
    """This rank's share, in the tensor's own memory; of a plain tensor all of it."""
    if not isinstance(tensor, DTensor):
        return tensor
    with torch.no_grad():  # else it would be a copy in the graph
        return tensor.to_local()


def whole(tensor: Tensor) -> Tensor:
    """All of it. Where it is split, every rank must ask at once."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share(values: Tensor, like: Tensor) -> Tensor:
    """What of whole `values` is this rank's share of the tensor `like`."""
    if not isinstance(like, DTensor):
        return values
    for axis, placement in enumerate(like.placements):
        if isinstance(placement, Shard):
            parts = values.chunk(like.device_mesh.size(axis), placement.dim)
            at = like.device_mesh.get_local_rank(axis)
            values = parts[at] if at < len(parts) else values.narrow(placement.dim, 0, 0)
    return values


def split_as(mine: Tensor, like: Tensor) -> Tensor:
    """The tensor of which `mine` is this rank's share, split as `like` is; it has the memory of `mine`."""
    if not isinstance(like, DTensor):
        return mine
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(mine, mesh, placements, run_check=False, shape=like.shape, stride=like.stride())
