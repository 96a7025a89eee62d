"""The units of a model: blocks, which are sharded or computed again one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol, runtime_checkable

from torch import nn
from torch.utils.checkpoint import checkpoint

BLOCKS = "blocks"  # the lists of modules that are units, one by one


@runtime_checkable
class HasUnits(Protocol):
    """A module that names the units in it itself, as its lists have other names."""

    def units(self) -> Iterator[nn.Module]: ...


def units(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model, in the order in which it names them, each once."""
    found: dict[nn.Module, None] = {}
    for name, module in model.named_modules():
        if isinstance(module, HasUnits):
            found |= dict.fromkeys(module.units())
        elif name.split(".")[-1] == BLOCKS:
            found |= dict.fromkeys(module.children())
    return list(found)


def recompute(model: nn.Module) -> None:
    """Keep of each unit what it was given alone; compute the rest again for its gradient (Chen et al. 2016).

    The same bits for a third more work, in a fraction of the memory. Names of parameters stay.
    """
    for unit in units(model):
        # Nothing here draws random numbers, so there is no state of a generator to bring back.
        again = partial(checkpoint, unit.forward, use_reentrant=False, preserve_rng_state=False)
        unit.forward = again
