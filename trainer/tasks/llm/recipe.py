"""Recipes of language models, and which of their keys decide the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robot_foundry.trainer.models.sizes.presets import PRESETS
from robot_foundry.trainer.recipes import form
from robot_foundry.trainer.recipes.form import RecipeForm
from robot_foundry.trainer.tasks import run_identity
from robot_foundry.trainer.tasks.llm.config import OF_WEIGHTS, LLMTaskConfig, problems

DEFAULT = "llm_tiny"
FORM = RecipeForm(LLMTaskConfig, problems, DEFAULT, PRESETS)


def read_recipe(recipe: str | Path | None, overrides: Iterable[str] = ()) -> LLMTaskConfig:
    """The configuration of a recipe of a language model, see `trainer.recipes.form`; None is the default."""
    return form.read_recipe(FORM, recipe, overrides)


def from_resolved(values: Mapping[str, Any]) -> LLMTaskConfig:
    """The configuration that a config.yaml holds; UsageError where it fits this version no longer."""
    return form.from_resolved(FORM, values)


def default_dir(config: LLMTaskConfig, mixture_id: str) -> str:
    """The folder of a run that names none: runs of equal weights share it."""
    deciding = run_identity.decisive(config)
    if config.init.model == OF_WEIGHTS:
        del deciding["model"]  # the weights say it, and may be gone when the run goes on
    return run_identity.default_dir(config, mixture_id, deciding)
