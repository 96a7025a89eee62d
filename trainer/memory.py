"""What memory training takes on each of several GPUs, before any is there.

Of each parameter: weights, gradient and optimiser's state in fp32, where averaged weights are kept those too
(Rajbhandari et al. 2020, §3); of a frozen one the weights alone. In bf16 the matrices are copied for the
matrix units.
  DDP            all of it on each GPU, and on several a second gradient, in the buckets that they exchange
  fully sharded  an equal share of it, and for a moment the weights of two units and the gradient of one
                 (Zhao et al. 2023, §4.3); a unit is a block, or all that is in none. Where a step has several
                 microbatches also whole gradients, which are summed over ranks after the last of them
  grouped        the same in groups of the GPUs of a machine, each of which holds one copy
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from robot_foundry.trainer.models.sizes.communication import GROUP
from robot_foundry.trainer.models.units import units
from robot_foundry.trainer.optim.optimizers import OptimConfig, parameter_groups

GPUS = (1, 2, 4, 8, 16, 32, 64, 128)
FP32, BF16 = 4, 2
ADAMW, MUON = 2 * FP32, FP32  # bytes of state a parameter


@dataclass(frozen=True)
class StateBytes:
    """What all parameters take, in bytes."""

    weights: int
    copies: int  # of weights in bf16
    gradients: int
    optimizer: int
    average: int
    unit: int  # weights of the largest unit, in fp32

    @property
    def total(self) -> int:
        return self.weights + self.copies + self.gradients + self.optimizer + self.average


@dataclass(frozen=True)
class Activations:
    """What a GPU keeps of the rows that it computes at a time, in bytes."""

    row: float
    once: int  # whatever the number of rows

    def of(self, rows: int) -> int:
        return round(rows * self.row) + self.once


@dataclass(frozen=True)
class GpuMemory:
    """What each of `gpus` takes, in bytes.

    rows         what it computes at a time; None where its share of a step is no multiple of the microbatches
    activations  of these rows; None where they are, or their size is not known, and so what accumulation fits
    ddp          without activations; `sharded` and `grouped` likewise
    ddp_fits     the fewest microbatches a step with which it fits; None where none does; `sharded_fits` alike
    """

    gpus: int
    rows: int | None
    activations: int | None
    ddp: int
    sharded: int
    ddp_fits: int | None
    sharded_fits: int | None
    grouped: int | None = None  # where there are more GPUs than in a group


def state_bytes(model: nn.Module, optim: OptimConfig, precision: str) -> StateBytes:
    """Of a model, which may be on the meta device."""
    adamw, muon = (
        sum(parameter.numel() for group in groups for parameter in group["params"])
        for groups in parameter_groups(model, optim)
    )
    numbers, trained = sum(parameter.numel() for parameter in model.parameters()), adamw + muon
    return StateBytes(
        weights=FP32 * numbers,
        copies=BF16 * numbers if precision == "bf16" else 0,
        gradients=FP32 * trained,
        optimizer=ADAMW * adamw + MUON * muon,
        average=FP32 * trained if optim.ema_max else 0,
        unit=FP32 * max(_unit_sizes(model)),
    )


def gpu_memory(
    state: StateBytes,
    activations: Activations | None,
    global_batch: int,
    accumulate: int,
    limit: int,
) -> Iterator[GpuMemory]:
    """For each number of GPUs of `limit` bytes by which the samples of a step divide."""
    for number in GPUS:
        if global_batch % number:
            continue
        kept = state.gradients if number > 1 else 0
        now = kept if accumulate > 1 else 0
        share = global_batch // number
        rows = None if share % accumulate else share // accumulate
        ddp = state.total + (state.gradients if number > 1 else 0)
        sharded = _shared(state, number) if number > 1 else ddp  # alone there is nobody to share with
        yield GpuMemory(
            gpus=number,
            rows=rows,
            activations=None if activations is None or rows is None else activations.of(rows),
            ddp=ddp,
            sharded=sharded + now,
            ddp_fits=_fewest(share, activations, limit - ddp),
            sharded_fits=_fewest(share, activations, limit - sharded, kept),
            grouped=_shared(state, GROUP) + now if number > GROUP else None,
        )


def _shared(state: StateBytes, number: int) -> int:
    """What each of so many ranks takes that share the state, without activations."""
    return -(-(state.total - state.copies) // number) + _gathered(state)


def _gathered(state: StateBytes) -> int:
    """Bytes of the weights of two units, and of the gradient of one."""
    return state.unit // FP32 * (2 * (BF16 if state.copies else FP32) + FP32)


def _fewest(rows: int, activations: Activations | None, free: int, kept: int = 0) -> int | None:
    """The fewest microbatches that `rows` divide into, so that each has room beside what several keep."""
    if activations is None:
        return None
    if activations.of(rows) <= free:
        return 1
    divisors = (number for number in range(2, rows + 1) if rows % number == 0)
    return next((number for number in divisors if activations.of(rows // number) <= free - kept), None)


def _unit_sizes(model: nn.Module) -> Iterator[int]:
    """Parameters of each unit; the last is all that is in no other."""
    rest = _count(model)
    for unit in units(model):
        rest -= _count(unit)
        yield _count(unit)
    yield rest


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
