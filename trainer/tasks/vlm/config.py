"""The configuration of a run that trains a vision-language model, and what must hold between its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from robot_foundry.loader.pairs.spec import PairRows
from robot_foundry.loader.tokens.rows import RowSpec
from robot_foundry.trainer.models.sizes.sizes import vision_language_problems
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.optim.optimizers import OptimConfig, optim_problems
from robot_foundry.trainer.recipes.ranges import at_least, multiple
from robot_foundry.trainer.settings import RunConfig, run_problems
from robot_foundry.trainer.tasks.mixtures import (
    BatchSettings,
    MixtureSettings,
    OfTokenRows,
    mixture_problems,
    whole_problems,
)
from robot_foundry.trainer.tasks.origin import InitSettings

TEXT_SECTION = "data.text"


@dataclass(frozen=True)
class TextRows:
    """How much text is taken beside the pairs of a step, and what it weighs."""

    length: int = 1024  # tokens a row
    global_batch: int = 8  # rows an optimiser step, over all ranks and microbatches
    weight: float = 1.0  # of its loss; that of answers, or of actions, has 1


@dataclass(frozen=True)
class TextConfig(TextRows, MixtureSettings):
    """Tokens that are learnt beside pairs, if `mix` names any. Its default store is that of the pairs."""

    @property
    def rows(self) -> RowSpec:
        """What a row of it is."""
        return RowSpec(self.length)


@dataclass(frozen=True)
class RowSettings:
    """What a sample is."""

    rows: PairRows = field(default_factory=PairRows)
    tokenizer: str | None = None  # its name or id in the store, or byte; default: that of init's weights


# A dataclass has the fields of its last base first: read upwards, this is the order of a saved config.yaml.
@dataclass(frozen=True)
class DataConfig(BatchSettings, RowSettings, MixtureSettings):
    """What is trained on."""

    text: TextConfig = field(default_factory=TextConfig)


@dataclass(frozen=True)
class InitConfig(InitSettings):
    """Where the first weights come from.

    `weights` is a whole run of this task, the others fill a part. What is filled has the shape that it has
    there; the recipe says what the rest is.
    """

    llm: str | None = None  # of the decoder: a language model's run, a `transformers` folder or a GGUF file
    vision: str | None = None  # of the vision tower: a run with one, or a folder of `transformers` or timm
    vision_depth: int | None = None  # its first layers alone

    @property
    def begins(self) -> bool:
        return not (self.weights is self.llm is self.vision is None)


@dataclass(frozen=True)
class VLMTaskConfig(OfTokenRows):
    """A whole run that trains a vision-language model."""

    name: str = "vlm"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: VisionLanguageConfig = field(default_factory=VisionLanguageConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def image_tokens(self) -> int:
        """Tokens of a picture."""
        return self.model.backbone.tokens_of(self.data.rows.image)


def problems(config: VLMTaskConfig) -> Iterator[str]:
    """One line for every value that is out of range or does not fit another."""
    data = config.data
    yield from mixture_problems(data, data)
    yield from whole_problems(data, "pairs")
    yield from text_problems(data.text, config.run.accumulate)
    yield from vision_language_problems(config.model, data.rows.image)
    if config.image_tokens > data.rows.length:
        needed = f"the {config.image_tokens} of a picture"
        yield f"data.rows.length: {data.rows.length} tokens have no room for {needed}"
    yield from _init_problems(config.init)
    yield from optim_problems(config.optim)
    yield from run_problems(config.run, config.global_batch, data.rows.length)


def text_problems(text: TextConfig, accumulate: int) -> Iterator[str]:
    """One line for every value of `data.text` that is out of range or does not fit another."""
    if text.mix is None and text != TextConfig():
        yield f"{TEXT_SECTION}.mix: is missing; the other keys of {TEXT_SECTION} say how much is taken of it"
    yield from at_least(1, TEXT_SECTION, text, "length")
    yield from whole_problems(text, "documents", TEXT_SECTION)
    yield from share_problems(TEXT_SECTION, text.global_batch, text.weight, accumulate)


def share_problems(section: str, global_batch: int, weight: float, accumulate: int) -> Iterator[str]:
    """The same of how much is taken of a stream that is learnt beside, and of what its loss weighs."""
    if global_batch < 1:
        yield f"{section}.global_batch: must be at least 1, not {global_batch}"
    yield from multiple(f"{section}.global_batch", global_batch, accumulate, "run.accumulate")
    if not 0 < weight < inf:
        yield f"{section}.weight: must be positive and finite, not {weight}"


def _init_problems(init: InitConfig) -> Iterator[str]:
    if init.weights is None and init.only:
        yield "init.weights: is missing; init.only says what to take of it"
    parts = [f"init.{name}" for name in ("llm", "vision") if getattr(init, name) is not None]
    if init.weights is not None and parts:
        yield f"init.weights: is a whole model, leave it or {' and '.join(parts)} out"
    if init.vision is None and init.vision_depth is not None:
        yield "init.vision: is missing; init.vision_depth says how many of its layers are taken"
