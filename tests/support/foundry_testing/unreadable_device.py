"""A device whose numbers nobody can read: what a GPU would have to be waited for fails there.

It is PyTorch's meta device: an item, a list, a copy to the host, the places that are not zero: each raises,
as it needs numbers. Copies to it, and all that needs none, work as on a GPU. What PyTorch does not know of it
(fused optimisers, autocast) is told here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch.optim import optimizer

UNREADABLE = torch.device("meta")
FUSED = "_get_fused_kernels_supported_devices"  # by which PyTorch knows them


@contextmanager
def unreadable_device() -> Iterator[torch.device]:
    """Inside, models can be trained on it in fp32."""
    autocast, is_enabled = torch.autocast, torch.is_autocast_enabled

    def autocast_or_none(device_type: str, *given: Any, **named: Any) -> Any:
        return nullcontext() if device_type == UNREADABLE.type else autocast(device_type, *given, **named)

    def is_enabled_or_not(device_type: str = "cuda") -> bool:
        return device_type != UNREADABLE.type and is_enabled(device_type)

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "autocast", autocast_or_none))
        stack.enter_context(patch.object(torch, "is_autocast_enabled", is_enabled_or_not))
        supported = [*getattr(optimizer, FUSED)(), UNREADABLE.type]
        stack.enter_context(patch.object(optimizer, FUSED, lambda: list(supported)))
        yield UNREADABLE
