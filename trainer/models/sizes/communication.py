"""What ranks send each other in an optimiser step, in closed form.

By collective, of tensors of b bytes in n ranks, each rank sends in a ring (Thakur et al. 2005, §4):
  all-gather, reduce-scatter   b (n - 1) / n
  all-reduce                   2 b (n - 1) / n

DDP (run.shard=1) sums all gradients over all ranks once a step, in fp32.
FSDP2 gathers the weights of each unit before its forward and again before its backward pass, those that are
in no unit before the forward pass alone, of every microbatch; after the last one gradients are summed in fp32
while they are scattered (Zhao et al. 2023, §4). In bf16 units travel in it. Shares are of first dimensions,
so that what does not divide is padded. With groups (HSDP) shares of gradients are then summed over groups.
Of a unit that does not learn, the second gathering is left out here; where gradients pass through one it
takes place.
Beside, where weights are shared: a norm in fp32 of each parameter, for clipping; Muon gathers the momentum of
each of its matrices, in fp32. Counts and flags of a step, a few bytes between hosts, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from torch import nn

from robot_foundry.trainer.models.units import units
from robot_foundry.trainer.optim.optimizers import OptimConfig, parameter_groups

FP32, BF16 = 4, 2
GROUP = 8  # GPUs of a machine, which the links between them make a group


@dataclass(frozen=True)
class Traffic:
    """The whole tensors, in bytes, that the collectives of one rank are about.

    shared     ranks that hold one copy of the weights among them (run.shard)
    copies     how many such groups there are
    weights    gathered in a group in each microbatch
    scattered  gradients that are summed and scattered in a group, in each step
    summed     gradients that are summed over groups
    norms      of gradients, summed in a group
    momenta    gathered in a group, for Muon
    """

    shared: int
    copies: int
    weights: int
    scattered: int
    summed: int
    norms: int
    momenta: int

    @property
    def gpus(self) -> int:
        return self.shared * self.copies

    @property
    def sent_each_microbatch(self) -> int:
        """Bytes that each rank sends."""
        return round(self.weights * (self.shared - 1) / self.shared)

    @property
    def sent_each_step(self) -> int:
        """Bytes that each rank sends beside."""
        within = (self.scattered + self.momenta + 2 * self.norms) * (self.shared - 1) / self.shared
        return round(within + 2 * self.summed * (self.copies - 1) / self.copies)


def traffic(model: nn.Module, optim: OptimConfig, precision: str, gpus: int, shard: int) -> Traffic:
    """Of a model, which may be on the meta device, and `gpus` ranks in groups of `shard`."""
    adamw, muon = (
        [parameter for group in groups for parameter in group["params"]]
        for groups in parameter_groups(model, optim)
    )
    learning = {*adamw, *muon}
    if shard == 1:
        whole = FP32 * sum(parameter.numel() for parameter in learning)
        return Traffic(1, gpus, weights=0, scattered=0, summed=whole, norms=0, momenta=0)
    gradients = FP32 * sum(_padded(parameter, shard) for parameter in learning)
    return Traffic(
        shared=shard,
        copies=gpus // shard,
        weights=_gathered(model, learning, BF16 if precision == "bf16" else FP32, shard),
        scattered=gradients,
        summed=gradients // shard,
        norms=FP32 * len(learning),
        momenta=FP32 * sum(_padded(parameter, shard) for parameter in muon),
    )


def strategies(model: nn.Module, optim: OptimConfig, precision: str, gpus: int) -> Iterator[Traffic]:
    """That of DDP, of groups of a machine where there are more GPUs, and of all ranks that share."""
    for shard in dict.fromkeys((1, GROUP if gpus > GROUP and gpus % GROUP == 0 else gpus, gpus)):
        yield traffic(model, optim, precision, gpus, shard)


def _gathered(model: nn.Module, learning: set[nn.Parameter], size: int, shard: int) -> int:
    """Bytes of weights gathered for the passes of a microbatch; `size` is that of a unit's number."""
    rest, total = set(model.parameters()), 0
    for unit in units(model):
        of_unit = set(unit.parameters())
        passes = 1 if of_unit.isdisjoint(learning) else 2
        total += passes * size * sum(_padded(parameter, shard) for parameter in of_unit)
        rest -= of_unit
    return total + FP32 * sum(_padded(parameter, shard) for parameter in rest)


def _padded(parameter: nn.Parameter, shard: int) -> int:
    """Numbers of a parameter whose first dimension is made a multiple of the ranks."""
    rows = parameter.shape[0]
    return parameter.numel() // rows * ceil(rows / shard) * shard
