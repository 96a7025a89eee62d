"""From the configuration of a language model to what it is trained on, found in the store."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from robot_foundry.catalog.mixture import weight_doubts
from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.tokens.schema import schema_of
from robot_foundry.catalog.tokens.tokenizers import read_id
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.sizes.presets import LLMS
from robot_foundry.trainer.tasks.llm.config import OF_RECIPE, LLMTaskConfig
from robot_foundry.trainer.tasks.llm.llm_task import LLMTask
from robot_foundry.trainer.tasks.llm.origin import Origin, find_origin
from robot_foundry.trainer.tasks.llm.recipe import default_dir
from robot_foundry.trainer.tasks.llm.trained import read_config
from robot_foundry.trainer.tasks.mixtures import find_mixture, mix_weights
from robot_foundry.trainer.tasks.origin import found_origin
from robot_foundry.trainer.tasks.vocabulary import check_room, with_room


def resolve_llm(config: LLMTaskConfig) -> LLMTask:
    """Find the mixture, its tokenizer and what the run starts from; reads the store, writes nothing."""
    opened = find_mixture(
        config.data, config.data.rows, kind="tokens",
        source="foundry-data tokenize makes tokens of a dataset of text",
    )  # fmt: skip
    tokenizer = mixture_tokenizer(opened)
    if config.init.model == OF_RECIPE:
        decoder = with_room(config.model.decoder, tokenizer)
        config = replace(config, model=replace(config.model, decoder=decoder))
    run_dir = Path(config.run.dir or default_dir(config, opened.mixture.id))
    origin: Origin | None = None
    if config.init.weights is not None:
        origin = found_origin(partial(find_origin, config.init.weights), run_dir)
    doubts = weight_doubts(opened.mixture, mix_weights(config.data)) + opened.kind.doubts_of_mixture(opened)
    if config.init.model != OF_RECIPE:
        model = _model_in(run_dir) if origin is None else origin.model
        doubts += _unused(config.model, model, config.init.weights)
        config = replace(config, model=model)
    check_room(
        config.model.decoder, tokenizer, config.init.weights,
        hint="tokenize the text with the tokenizer of the model: foundry-data tokenize --tokenizer",
    )  # fmt: skip
    return LLMTask(config, opened, tuple(doubts), tokenizer, origin=origin)


def mixture_tokenizer(opened: OpenMixture) -> Tokenizer:
    """The tokenizer of all components of a mixture of tokens, from its store."""
    return read_id(opened.store, schema_of(opened.parts[0].manifest).tokenizer)


def _unused(asked: LLMConfig, model: LLMConfig, weights: str | None) -> list[str]:
    """A sentence where the model of a recipe is more than a preset, and another one is trained."""
    if asked in (model, LLMConfig(), *LLMS.values()):
        return []
    return [f"init.model=weights trains the model of {weights} as it is: the recipe's model is not used"]


def _model_in(run_dir: Path) -> LLMConfig:
    """The model of a run that has checkpoints, whose origin is gone."""
    newest = checkpoint.latest(run_dir)
    assert newest is not None
    return read_config(newest).model
