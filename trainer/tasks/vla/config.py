"""The configuration of a run that trains a policy, and what must hold between its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from robot_foundry.catalog.selection import SPLIT_BY
from robot_foundry.trainer.models.sizes import vla_problems
from robot_foundry.trainer.models.vla import VLAConfig
from robot_foundry.trainer.optim.optimizers import OptimConfig, optim_problems
from robot_foundry.trainer.recipes.ranges import at_least, choice
from robot_foundry.trainer.settings import RunConfig, run_problems
from robot_foundry.windows.chunk_statistics import WEIGHTINGS
from robot_foundry.windows.window import WindowSpec

NORMALIZATIONS = ("merged", "per_dataset")
SCOPES = ("pooled", "per_offset")
KEEP, REFIT = "keep", "refit"


@dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    mix: str | None = None  # a reference (lift, lift@v3) or weights (sim=0.6,real=0.4)
    store: str | None = None  # folder or URL; default: $FOUNDRY_STORE, else ./store
    split_by: str | None = None  # held out: `episode` (the default) whole ones, `time` the end of each
    val_fraction: str | None = None  # held out, by default 1/10; a stored mixture says both itself
    window: WindowSpec = field(default_factory=WindowSpec)
    global_batch: int = 32  # samples an optimiser step, over all ranks and microbatches
    threads: int = 1  # decoding threads a rank
    normalization: str = "merged"  # merged: one scale for the mixture | per_dataset
    normalization_scope: str = "pooled"  # pooled: one scale for all steps of a chunk | per_offset
    normalization_weights: str = "count"  # count: every frame once | mixture: as often as it is drawn
    percentiles: tuple[float, float] = (1.0, 99.0)  # mapped to -1 and 1
    clip: float = 1.5  # normalised targets are clipped at ±clip


@dataclass(frozen=True)
class InitConfig:
    """Where the first weights come from. Without `weights` they are random, keyed by the seed."""

    weights: str | None = None  # a run, checkpoint folder or pointer file; averaged weights if it has them
    only: tuple[str, ...] = ()  # names of parameters, or how they begin (backbone, head.blocks); () is all
    normalizer: str = REFIT  # refit: statistics of this mixture | keep: those of the run that `weights` names


@dataclass(frozen=True)
class VLATaskConfig:
    """A whole run that trains a policy."""

    name: str = "vla"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: VLAConfig = field(default_factory=VLAConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.run.num_steps(self.global_batch)

    @property
    def global_batch(self) -> int:
        """Samples of an optimiser step."""
        return self.data.global_batch


def problems(config: VLATaskConfig) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another."""
    yield from _data_problems(config.data)
    yield from vla_problems(config.model, config.data.window.image)
    yield from _init_problems(config.init)
    yield from optim_problems(config.optim)
    yield from run_problems(config.run, config.global_batch)


def _data_problems(data: DataConfig) -> Iterator[str]:
    if not data.mix:
        yield "data.mix: is missing; give a dataset (data.mix=lift) or weights (data.mix=sim=0.6,real=0.4)"
    window = data.window
    yield from at_least(1, "data", data, "global_batch", "threads")
    if data.split_by is not None:
        yield from choice("data.split_by", data.split_by, SPLIT_BY)
    yield from choice("data.normalization", data.normalization, NORMALIZATIONS)
    yield from choice("data.normalization_scope", data.normalization_scope, SCOPES)
    yield from choice("data.normalization_weights", data.normalization_weights, WEIGHTINGS)
    if not window.cameras:
        yield "data.window.cameras: name at least one camera role"
    if window.image is None:
        yield "data.window.image: is missing; give [height, width] in pixels"
    low, high = data.percentiles
    if not 0 <= low < high <= 100:
        yield f"data.percentiles: two rising numbers in 0 … 100 are needed, not {low}, {high}"
    if not 1 <= data.clip < inf:
        yield f"data.clip: must be at least 1 and finite, not {data.clip}"


def _init_problems(init: InitConfig) -> Iterator[str]:
    yield from choice("init.normalizer", init.normalizer, (KEEP, REFIT))
    if init.weights is None and init != InitConfig():
        yield "init.weights: is missing; init.only and init.normalizer need a run to start from"
