"""What models read, moved as a whole: dataclasses of tensors, which may hold others, numbers or None."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def moved(inputs: T, device: torch.device) -> T:
    """The same on a device; from page-locked memory the copy may still be under way."""
    return _each(inputs, lambda tensor: tensor.to(device, non_blocking=True))


def pinned(inputs: T) -> T:
    """The same in page-locked memory, from which a GPU takes it while the host goes on."""
    return _each(inputs, Tensor.pin_memory)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(value, **{item.name: _each(getattr(value, item.name), change) for item in fields(value)})
