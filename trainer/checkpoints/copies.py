"""Copies of what is trained, as it stands at one step: taken while the loop waits, written as it goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robot_foundry.trainer.ranks.shares import local


@dataclass(frozen=True)
class Taken:
    """Tensors by name, of split ones this rank's share. They hold their values once `ready` has returned."""

    tensors: Mapping[str, Tensor]
    ready: Callable[[], None]


def live(tensors: Mapping[str, Tensor], names: Collection[str]) -> Taken:
    """The tensors themselves, for a loop that waits until they are written."""
    return Taken({name: local(tensors[name]) for name in names}, _at_once)


@dataclass
class Copies:
    """Of the tensors that a rank writes, in memory of the host that is kept from one checkpoint to the next.

    Of those that are `constant` there is no copy where they lie in memory of the host themselves.
    """

    tensors: Mapping[str, Tensor]
    constant: Collection[str] = ()
    _kept: dict[str, Tensor] = field(default_factory=dict, init=False)

    @torch.no_grad()
    def take(self, names: Collection[str]) -> Taken:
        """Copy what is there now. What is on a GPU is copied in the order of its work: the host goes on, and
        later steps change nothing that is not copied yet."""
        for name in names:
            tensor = local(self.tensors[name])
            on_host = tensor.device.type == "cpu"
            if name in self.constant and on_host:
                self._kept[name] = tensor
            elif name not in self._kept:
                self._kept[name] = torch.empty_like(tensor, device="cpu", pin_memory=not on_host)
                self._kept[name].copy_(tensor, non_blocking=True)
            elif name not in self.constant:
                self._kept[name].copy_(tensor, non_blocking=True)
        return Taken({name: self._kept[name] for name in names}, _done())


def _done() -> Callable[[], None]:
    """Waits for the copies that were asked of a GPU so far."""
    if not torch.cuda.is_available():
        return _at_once
    copied = torch.cuda.Event()
    copied.record()
    return copied.synchronize


def _at_once() -> None:
    """Copies in memory of the host are there when they were asked for."""
