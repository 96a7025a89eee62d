"""The configuration of a run that trains a language model, and what must hold between its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.sizes.sizes import llm_problems
from robot_foundry.trainer.optim.optimizers import OptimConfig, optim_problems
from robot_foundry.trainer.recipes.ranges import choice
from robot_foundry.trainer.settings import RunConfig, run_problems
from robot_foundry.trainer.tasks.mixtures import (
    BatchSettings,
    MixtureSettings,
    OfTokenRows,
    mixture_problems,
    whole_problems,
)
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
class LLMTaskConfig(OfTokenRows):
    """A whole run that trains a language model."""

    name: str = "llm"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: LLMConfig = field(default_factory=LLMConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


def problems(config: LLMTaskConfig) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another."""
    data = config.data
    yield from mixture_problems(data, data)
    yield from whole_problems(data, "documents")
    yield from llm_problems(config.model)
    yield from choice("init.model", config.init.model, (OF_RECIPE, OF_WEIGHTS))
    yield from init_problems(config.init)
    yield from optim_problems(config.optim)
    yield from run_problems(config.run, config.global_batch, data.rows.length)
