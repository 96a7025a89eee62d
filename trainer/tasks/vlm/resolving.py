"""From the configuration of a vision-language model to what it is trained on, found in the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.catalog.store import as_store
from robot_foundry.catalog.tokens import tokenizers
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.sizes.sizes import vision_language_problems
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.tasks.described import read_tokenizer
from robot_foundry.trainer.tasks.origin import found_origin
from robot_foundry.trainer.tasks.vlm.beside import check_text, doubts, find_pairs, find_text
from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig
from robot_foundry.trainer.tasks.vlm.origin import Origin, find_origin
from robot_foundry.trainer.tasks.vlm.recipe import default_dir
from robot_foundry.trainer.tasks.vlm.trained import read_config
from robot_foundry.trainer.tasks.vlm.vlm_task import VLMTask
from robot_foundry.trainer.tasks.vocabulary import check_room, with_room


def resolve_vlm(asked: VLMTaskConfig) -> VLMTask:
    """Find the mixtures, the tokenizer and what the run starts from; reads the store, writes nothing."""
    opened = find_pairs(asked.data, asked.data.rows, "data.mix")
    text = find_text(asked.data.text, asked.data.store)
    mixtures = [opened] if text is None else [opened, text]
    folder = default_dir(asked, [one.mixture.id for one in mixtures])
    run_dir = Path(asked.run.dir or folder)
    origin: Origin | None = None
    if asked.init.begins:
        origin = found_origin(partial(find_origin, asked.init, asked.data.rows.image), run_dir)
    if asked.init.begins and origin is None:
        model, tokenizer = _of_run(run_dir)
    else:
        tokenizer = _tokenizer(asked, origin)
        model = _model(asked, tokenizer, origin)
    if text is not None:
        check_text(text, tokenizer)
    notes = list(_doubts(asked, mixtures))
    if origin is not None and origin.has_ids and origin.tokenizer is None:
        notes.append(f"{asked.init.llm} has no tokenizer: nothing shows that its ids mean those of the data")
    config = replace(asked, model=model, data=replace(asked.data, tokenizer=tokenizer.id))
    return VLMTask(config, opened, tuple(notes), tokenizer, text, folder, origin=origin)


def _doubts(config: VLMTaskConfig, mixtures: Iterable[OpenMixture]) -> Iterable[str]:
    for opened, settings in zip(mixtures, (config.data, config.data.text), strict=False):
        yield from doubts(opened, settings)


def _of_run(run_dir: Path) -> tuple[VisionLanguageConfig, Tokenizer]:
    """The model and tokenizer of a run that has checkpoints, whose origin is gone."""
    newest = checkpoint.latest(run_dir)
    assert newest is not None
    return read_config(newest).model, read_tokenizer(newest)


def _tokenizer(config: VLMTaskConfig, origin: Origin | None) -> Tokenizer:
    """That which the recipe names, else that of the weights, else that of bytes."""
    theirs = None if origin is None else origin.tokenizer
    if config.data.tokenizer is None:
        if theirs is None and origin is not None and origin.has_ids:
            raise UsageError(
                f"{config.init.llm} has no tokenizer", hint="data.tokenizer=NAME says which its ids are of"
            )
        return tokenizers.find(as_store(config.data.store), tokenizers.BYTE) if theirs is None else theirs
    tokenizer = tokenizers.find(as_store(config.data.store), config.data.tokenizer)
    if origin is not None and origin.has_ids and theirs is not None and theirs.id != tokenizer.id:
        raise FoundryError(
            f"the weights know the tokenizer {theirs.id[:12]}, data.tokenizer is {tokenizer.id[:12]}",
            hint="leave data.tokenizer out",
        )
    return tokenizer


def _model(config: VLMTaskConfig, tokenizer: Tokenizer, origin: Origin | None) -> VisionLanguageConfig:
    """The recipe's model with what the tokenizer and the weights say of it."""
    model = config.model if origin is None else origin.model(config.model)
    if origin is not None and origin.has_ids:
        where = config.init.llm or config.init.weights
        check_room(model.backbone.decoder, tokenizer, where, hint="leave data.tokenizer out")
    else:
        decoder = with_room(model.backbone.decoder, tokenizer)
        model = replace(model, backbone=replace(model.backbone, decoder=decoder))
    if problems := list(vision_language_problems(model, config.data.rows.image)):
        raise UsageError(f"the weights do not fit the recipe: {'; '.join(problems)}")
    return model
