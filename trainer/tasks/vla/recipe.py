"""Recipes of policies, and which of their keys decide the weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robot_foundry.trainer.models.presets import PRESETS
from robot_foundry.trainer.recipes import form
from robot_foundry.trainer.recipes.form import RecipeForm
from robot_foundry.trainer.tasks import run_identity
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig, problems

DEFAULT = "vla_tiny"
FORM = RecipeForm(VLATaskConfig, problems, DEFAULT, PRESETS)


def read_recipe(recipe: str | Path | None, overrides: Iterable[str] = ()) -> VLATaskConfig:
    """The configuration of a recipe of a policy, see `trainer.recipes.form`; None is the default recipe."""
    return form.read_recipe(FORM, recipe, overrides)


def from_resolved(values: Mapping[str, Any]) -> VLATaskConfig:
    """The configuration that a config.yaml holds; UsageError where it fits this version no longer."""
    return form.from_resolved(FORM, values)


def completed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a checkpoint's run as it would be now: keys newer than it have their defaults."""
    return run_identity.completed(identity, run_identity.decisive(VLATaskConfig()))


def default_dir(config: VLATaskConfig, mixture_id: str) -> str:
    """The folder of a run that names none: runs of equal weights share it."""
    return run_identity.default_dir(config, run_identity.decisive(config), mixture_id)
