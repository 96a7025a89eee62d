"""Recipes of policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robot_foundry.trainer.models.sizes.presets import PRESETS
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


def default_dir(asked: VLATaskConfig, mixtures: Iterable[str]) -> str:
    """The folder of a run that names none, by what its recipe asks and the ids of its mixtures.

    What a vision-language model says of the backbone names no folder: it may be gone when the run goes on.
    """
    deciding = run_identity.decisive(asked)
    if asked.init.vlm is not None:
        del deciding["model"]["backbone"]
    return run_identity.default_dir(asked, "+".join(mixtures), deciding)
