"""The units of a model: blocks, which are sharded or computed again one at a time; and what of it learns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
        unit.forward = partial(again, context_fn=partial(_first_and_again, unit))


def _first_and_again(unit: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around both passes of a unit: what does not learn in the first does not in the second."""
    return nullcontext(), as_constants([of for of in unit.parameters() if not of.requires_grad])


@contextmanager
def as_constants(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """While none of them learns; what goes in has gradients all the same.

    It is to come before passes in which they do, as autocast remembers what it cast for those.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
