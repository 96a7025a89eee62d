"""The vision-language model that a policy's backbone is: what it still answers, beside its actions."""

from __future__ import annotations

from pathlib import Path

from robot_foundry.loader.pairs.spec import PairRows
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.tasks.described import read_values
from robot_foundry.trainer.tasks.vla.cotraining.language import Language, language_in
from robot_foundry.trainer.tasks.vla.origins.policy import SPACES, Origin
from robot_foundry.trainer.tasks.vla.prompts import tokenizer_in
from robot_foundry.trainer.tasks.vla.recipe import from_resolved
from robot_foundry.trainer.tasks.vlm import config as vlm_config
from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig
from robot_foundry.trainer.tasks.vlm.trained import TrainedFiles, is_vision_language


def sees_and_answers(folder: Path) -> bool:
    """Whether a checkpoint is of a vision-language model, or of a policy whose backbone is still one."""
    if not _is_policy(folder):
        return is_vision_language(folder)
    language = language_in(folder)
    return language is not None and language.output is not None


def _is_policy(folder: Path) -> bool:
    return (folder / SPACES).is_file()


def find(path: Path) -> TrainedFiles:
    """The model in a run, checkpoint folder or pointer file, of a vision-language model or of a policy.

    FoundryError where there is none, and why.
    """
    folder = checkpoint.find(path)
    if not _is_policy(folder):
        return TrainedFiles.find(path)
    language = language_in(folder)
    if language is None:
        raise FoundryError(
            f"the policy {folder} does not say that its backbone answers questions",
            hint="that of one which begins with a vision-language model (init.vlm) or learns data.pairs does",
        )
    if language.output is None:
        raise FoundryError(
            f"{folder} did not keep the output matrix of its vision-language model, so it answers nothing",
            hint="with data.pairs or data.text a policy keeps it",
        )
    return _files(folder, language)


def _files(folder: Path, language: Language) -> TrainedFiles:
    """The checkpoint of a policy as that of a vision-language model of its backbone: parameters have the
    same names."""
    config, tokenizer = from_resolved(read_values(folder)), tokenizer_in(folder)
    image = config.data.window.image
    asked, shape = language.rows, config.model.backbone
    # As its run was held to.
    assert image is not None and tokenizer is not None and isinstance(shape, BackboneConfig)
    rows = PairRows(asked.length, asked.packed, image, asked.fit)
    data = vlm_config.DataConfig(rows=rows, tokenizer=tokenizer.id, val_fraction=language.val_fraction)
    as_vlm = VLMTaskConfig(data=data, model=VisionLanguageConfig(shape, tied=language.tied))
    return TrainedFiles(Origin.find(str(folder)), as_vlm, tokenizer, frozenset(language.versions))
