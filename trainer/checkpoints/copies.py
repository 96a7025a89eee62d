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
        on_gpu = False
        for name in names:
            tensor = local(self.tensors[name])
            on_host, is_known = tensor.device.type == "cpu", name in self._kept
            if name in self.constant and (on_host or is_known):
                self._kept.setdefault(name, tensor)
                continue
            if not is_known:
                self._kept[name] = torch.empty_like(tensor, device="cpu", pin_memory=not on_host)
            self._kept[name].copy_(tensor, non_blocking=True)
            on_gpu |= not on_host
        return Taken({name: self._kept[name] for name in names}, _copied() if on_gpu else _at_once)


def _copied() -> Callable[[], None]:
    """Waits for the copies that the GPU was asked for so far."""
    copied = torch.cuda.Event()
    copied.record()
    return copied.synchronize


def _at_once() -> None:
    """Copies in memory of the host are there when they were asked for."""
