"""Recipes: YAML and `key=value` overrides to a configuration; every problem is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import draccus

from robot_foundry.runtime.errors import UsageError, nearest
from robot_foundry.runtime.files import read_utf8
from robot_foundry.trainer.recipes.decoding import Decoding, Presets
from robot_foundry.trainer.recipes.layers import overlay, override_layer
from robot_foundry.trainer.recipes.yaml_text import parse_yaml

PACKAGED = Path(__file__).parents[2] / "recipes"
C = TypeVar("C")


@dataclass(frozen=True)
class RecipeForm(Generic[C]):
    """What the recipes of a task may say: the class of its configuration, and what must hold in one."""

    config: type[C]
    problems: Callable[[C], Iterator[str]]  # a line for each value that is out of range or does not fit
    default: str  # the packaged recipe that is read where none is named
    presets: Presets = field(default_factory=dict)


def read_recipe(form: RecipeForm[C], recipe: str | Path | None, overrides: Iterable[str] = ()) -> C:
    """The configuration of a recipe (a file, or the name of a packaged one) under `key.path=value` overrides.

    Values are parsed as YAML 1.2. Raises UsageError that lists every unknown key with the nearest valid one,
    every value of a wrong type or out of range, and every missing value.
    """
    path = recipe_path(form.default if recipe is None else recipe, chain(*form.presets.values()))
    layer = parse_yaml(read_utf8(path), str(path))
    if not isinstance(layer, dict):
        raise UsageError(f"{path} holds no keys")
    for override in overrides:
        layer = overlay(layer, override_layer(override))
    decoding = Decoding(form.presets)
    decoding.check_names(form.config, layer)
    config = decoding.decode(form.config, decoding.expand(form.config, layer))
    reported = tuple(line.split(":")[0] for line in decoding.problems)
    lines = [*decoding.problems, *(p for p in form.problems(config) if not p.startswith(reported))]
    if lines:
        listed = "".join(f"\n  {line}" for line in dict.fromkeys(lines))
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise UsageError(f"the recipe {path} has {count}:{listed}", hint="docs/training.md lists every key")
    return config


def recipe_path(recipe: str | Path, presets: Iterable[str] = ()) -> Path:
    """The file of a recipe given by path or packaged name; `presets` are names of models and their parts."""
    path = Path(recipe)
    packaged = PACKAGED / f"{path}.yaml"
    if path.is_file():
        return path
    if packaged.parent == PACKAGED and packaged.is_file():
        return packaged
    names = sorted(file.stem for file in PACKAGED.glob("*.yaml"))
    if str(recipe) in presets:
        raise UsageError(
            f"there is no recipe '{recipe}': that is a preset of a model, or of a part of one",
            hint=f"give a recipe and say it there, as model={recipe}; recipes are {', '.join(names)}",
        )
    wrong = f"the recipe '{recipe}' is a folder" if path.is_dir() else f"there is no recipe '{recipe}'"
    raise UsageError(
        f"{wrong}{nearest(str(recipe), names)}",
        hint=f"give a YAML file or one of {', '.join(names)}",
    )


def from_resolved(form: RecipeForm[C], values: Mapping[str, Any]) -> C:
    """The configuration that `resolved` wrote; UsageError where it fits this version no longer."""
    decoding = Decoding(form.presets)
    decoding.check_names(form.config, values)
    config = decoding.decode(form.config, values)
    lines = [*decoding.problems, *form.problems(config)]
    if lines:
        raise UsageError(f"config.yaml does not fit this version: {'; '.join(lines)}")
    return config


def resolved(config: object) -> dict[str, Any]:
    """The configuration as plain nested values; reading them back gives an equal one."""
    return draccus.encode(config)
