"""Recipes of vision-language models, and which of their keys name the folder of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robot_foundry.trainer.models.sizes.presets import PRESETS
from robot_foundry.trainer.recipes import form
from robot_foundry.trainer.recipes.form import RecipeForm
from robot_foundry.trainer.tasks import run_identity
from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig, problems

DEFAULT = "vlm_tiny"
FORM = RecipeForm(VLMTaskConfig, problems, DEFAULT, PRESETS)


def read_recipe(recipe: str | Path | None, overrides: Iterable[str] = ()) -> VLMTaskConfig:
    """The configuration of a recipe of a vision-language model, see `trainer.recipes.form`."""
    return form.read_recipe(FORM, recipe, overrides)


def from_resolved(values: Mapping[str, Any]) -> VLMTaskConfig:
    """The configuration that a config.yaml holds; UsageError where it fits this version no longer."""
    return form.from_resolved(FORM, values)


def default_dir(asked: VLMTaskConfig, mixtures: Iterable[str]) -> str:
    """The folder of a run that names none, by what its recipe asks and the ids of its mixtures.

    What weights say of the model names no folder: they may be gone when the run goes on.
    """
    deciding = run_identity.decisive(asked)
    init, backbone = asked.init, deciding["model"]["backbone"]
    if init.llm is not None:
        del backbone["decoder"], deciding["model"]["tied"]
    if init.vision is not None:
        del backbone["vision"]
    if init.weights is not None and not init.only:
        del deciding["model"]
    return run_identity.default_dir(asked, "+".join(mixtures), deciding)
