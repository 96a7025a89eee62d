"""The most memory that this rank has taken."""

from __future__ import annotations

import resource
import sys

import torch

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes; getrusage(2)


def peak_memory(device: torch.device) -> dict[str, float]:
    """In bytes, by what it is of.

    Of a GPU what tensors took, and what was held for them, since the last call; else of the process, since it
    began: nobody else has a lower mark of it.
    """
    if device.type != "cuda":
        return {"memory_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT)}
    peak = {
        "memory_bytes": float(torch.cuda.max_memory_allocated(device)),
        "memory_reserved_bytes": float(torch.cuda.max_memory_reserved(device)),
    }
    torch.cuda.reset_peak_memory_stats(device)
    return peak
