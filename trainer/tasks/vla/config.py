"""The configuration of a run that trains a policy, and what must hold between its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf

from robot_foundry.runtime.later import later
from robot_foundry.trainer.models.sizes.sizes import taps_problems, vla_problems
from robot_foundry.trainer.models.vla import VLAConfig
from robot_foundry.trainer.optim.optimizers import OptimConfig, optim_problems
from robot_foundry.trainer.recipes.ranges import choice
from robot_foundry.trainer.settings import RunConfig, run_problems
from robot_foundry.trainer.tasks.mixtures import BatchSettings, MixtureSettings, mixture_problems
from robot_foundry.trainer.tasks.origin import InitSettings, init_problems
from robot_foundry.trainer.tasks.vla.cotraining.config import PairsConfig, beside_problems, room_problems
from robot_foundry.trainer.tasks.vlm.config import TextConfig
from robot_foundry.windows.chunk_statistics import WEIGHTINGS
from robot_foundry.windows.window import WindowSpec

NORMALIZATIONS = ("merged", "per_dataset")
SCOPES = ("pooled", "per_offset")
KEEP, REFIT = "keep", "refit"


@dataclass(frozen=True)
class WindowSettings:
    """What a sample is."""

    window: WindowSpec = field(default_factory=WindowSpec)
    tokenizer: str | None = later(None)  # its id: that of the vision-language model; otherwise bytes
    cache_features: bool = later(False)  # keep what a frozen backbone makes of a sample in the store


# A dataclass has the fields of its last base first: read upwards, this is the order of a saved config.yaml.
@dataclass(frozen=True)
class DataConfig(BatchSettings, WindowSettings, MixtureSettings):
    """What is trained on, and how its numbers are scaled."""

    normalization: str = "merged"  # merged: one scale for the mixture | per_dataset
    normalization_scope: str = "pooled"  # pooled: one scale for all steps of a chunk | per_offset
    normalization_weights: str = "count"  # count: every frame once | mixture: as often as it is drawn
    percentiles: tuple[float, float] = (1.0, 99.0)  # mapped to -1 and 1
    clip: float = 1.5  # normalised targets are clipped at ±clip
    pairs: PairsConfig = later(PairsConfig())  # learnt beside
    text: TextConfig = later(TextConfig())  # and this


@dataclass(frozen=True)
class InitConfig(InitSettings):
    """Where the first weights and the normalisers come from.

    `weights` is a run of this task. `vlm` fills the backbone alone, whose shape and tokenizer it brings.
    """

    # A run of foundry-train vlm, a checkpoint folder or pointer file, or a folder of `transformers`.
    vlm: str | None = later(None)
    normalizer: str = REFIT  # refit: statistics of this mixture | keep: those of the run that `weights` names

    @property
    def begins(self) -> bool:
        return self.weights is not None or self.vlm is not None


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
    # Pictures and taps must fit the backbone that weights bring, which is looked at when it is found.
    yield from vla_problems(config.model, None if config.init.vlm else config.data.window.image)
    if not config.init.begins:
        yield from taps_problems(config.model)
    yield from _init_problems(config.init)
    yield from _beside_problems(config)
    yield from optim_problems(config.optim)
    yield from run_problems(config.run, config.global_batch)
    yield from _shared_problems(config)


def _data_problems(data: DataConfig) -> Iterator[str]:
    window = data.window
    yield from mixture_problems(data, data)
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


def _beside_problems(config: VLATaskConfig) -> Iterator[str]:
    data, model = config.data, config.model
    yield from beside_problems(data.pairs, data.text, model, config.run.accumulate)
    if not config.init.begins:  # else the weights say what the backbone is
        yield from room_problems(data.pairs, model.backbone, data.window.image)


def _shared_problems(config: VLATaskConfig) -> Iterator[str]:
    """A line for each thing that ranks which share weights cannot do."""
    if config.run.shard == 1:
        return
    if config.model.insulate:
        # Weights that are gathered for a pass do not know that it is to leave them alone.
        yield "model.insulate: needs ranks that each hold all weights, run.shard=1"
    if config.data.cache_features:
        # A rank that makes more of them would wait for weights that none sends.
        yield "data.cache_features: ranks that share weights cannot keep features, run.shard=1"


def _init_problems(init: InitConfig) -> Iterator[str]:
    yield from choice("init.normalizer", init.normalizer, (KEEP, REFIT))
    if init.vlm is None:
        yield from init_problems(replace(init, vlm=None))
    elif init.weights is not None:
        yield "init.weights: is a whole policy, leave it or init.vlm out"
    elif init.normalizer != REFIT:
        yield "init.normalizer: a vision-language model has none to keep; init.weights names a policy"
