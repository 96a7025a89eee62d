"""The configuration of a run that trains a language model, and what must hold between its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from robot_foundry.catalog.selection import SPLIT_BY
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.sizes.sizes import llm_problems
from robot_foundry.trainer.optim.optimizers import OptimConfig, optim_problems
from robot_foundry.trainer.recipes.ranges import choice
from robot_foundry.trainer.settings import RunConfig, run_problems
from robot_foundry.trainer.tasks.mixtures import BatchSettings, MixtureSettings, mixture_problems
from robot_foundry.trainer.tasks.origin import InitSettings, init_problems

OF_RECIPE, OF_WEIGHTS = "recipe", "weights"


@dataclass(frozen=True)
class RowSettings:
    """What a sample is."""

    rows: RowSpec = field(default_factory=RowSpec)


# A dataclass has the fields of its last base first: read upwards, this is the order of a saved config.yaml.
@dataclass(frozen=True)
class DataConfig(BatchSettings, RowSettings, MixtureSettings):
    """What is trained on."""


@dataclass(frozen=True)
class InitConfig(InitSettings):
    """Where the first weights come from, which may be a folder of `transformers` or a GGUF file, too."""

    model: str = OF_RECIPE  # whose model is trained: that of the recipe | weights: that of `weights`


@dataclass(frozen=True)
class LLMTaskConfig:
    """A whole run that trains a language model."""

    name: str = "llm"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: LLMConfig = field(default_factory=LLMConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.run.num_steps(self.global_batch, self.data.rows.length)

    @property
    def global_batch(self) -> int:
        """Rows of an optimiser step."""
        return self.data.global_batch


def problems(config: LLMTaskConfig) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another."""
    data = config.data
    yield from mixture_problems(data, data)
    if data.split_by not in (None, SPLIT_BY[0]):
        yield f"data.split_by: documents are held out whole, leave it out; it is '{data.split_by}'"
    yield from llm_problems(config.model)
    yield from choice("init.model", config.init.model, (OF_RECIPE, OF_WEIGHTS))
    yield from init_problems(config.init)
    yield from optim_problems(config.optim)
    yield from run_problems(config.run, config.global_batch, data.rows.length)
