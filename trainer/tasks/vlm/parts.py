"""Weights of parts of a vision-language model: of all of it, of its decoder, of its vision tower.

Shapes: P patches, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.sizes.presets import PRESETS
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.models.vit import ViTConfig, grid_of, resized_positions
from robot_foundry.trainer.pretrained.vision import PretrainedVision, parameter_shapes
from robot_foundry.trainer.recipes import form
from robot_foundry.trainer.recipes.form import RecipeForm
from robot_foundry.trainer.tasks.described import read_values
from robot_foundry.trainer.tasks.llm import origin as llm_origin
from robot_foundry.trainer.tasks.origin import RunOrigin, Shape, chosen
from robot_foundry.trainer.tasks.vlm.trained import TrainedFiles

VISION, DECODER, OUTPUT = "backbone.vision.", "backbone.decoder.", "output."
POSITION = f"{VISION}position"
OF_IDS = (f"{DECODER}embedding.weight", f"{OUTPUT}weight")  # have a row for each id
_VIT = RecipeForm(ViTConfig, lambda _: iter(()), "", PRESETS)


@dataclass(frozen=True)
class Part:
    """Weights of some of the parameters, which are given by our names.

    key     of the recipe: init.llm
    where   they are; `id` is equal for equal weights, `told` what a run says about where it came from
    takes   whether a parameter comes from here
    shapes  of those that are there
    fill    fills parameters, given by name, in place
    model   the recipe's model with the shapes that these weights have
    """

    key: str
    where: str
    id: str
    told: Mapping[str, Any]
    takes: Callable[[str], bool]
    shapes: Mapping[str, Shape]
    fill: Callable[[Mapping[str, Tensor]], None]
    model: Callable[[VisionLanguageConfig], VisionLanguageConfig]


def of_whole(files: TrainedFiles, only: Sequence[str]) -> Part:
    """A run of this task: its model is trained where all of it is taken, and its vocabulary where ids are."""
    run = files.origin

    def takes(name: str) -> bool:
        return chosen(name, only)

    def model(asked: VisionLanguageConfig) -> VisionLanguageConfig:
        if not only:
            _check_objective(run.folder, files.config.model.objective, asked.objective)
            return files.config.model
        if not any(map(takes, OF_IDS)):
            return asked
        vocabulary = files.config.model.backbone.decoder.vocabulary
        decoder = replace(asked.backbone.decoder, vocabulary=vocabulary)
        return replace(asked, backbone=replace(asked.backbone, decoder=decoder))

    shapes = {name: shape for name, shape in run.stored().items() if takes(name)}
    return Part("init.weights", str(run.folder), run.id, run.to_json(), takes, shapes, run.fill, model)


def _check_objective(where: Path, theirs: str, asked: str) -> None:
    """UsageError where the run would learn something else than its recipe says."""
    if theirs != asked:
        raise UsageError(
            f"init.weights: the model of {where} learns the objective {theirs}, the recipe says {asked}",
            hint=f"init.only=[backbone] takes what both have, model.objective={theirs} goes on with theirs",
        )


def of_decoder(found: llm_origin.Origin) -> Part:
    """A language model: its decoder, and its output where that is not the embedding."""

    def takes(name: str) -> bool:
        return name.startswith((DECODER, OUTPUT))

    def fill(parameters: Mapping[str, Tensor]) -> None:
        found.fill({name.removeprefix("backbone."): tensor for name, tensor in parameters.items()})

    def model(asked: VisionLanguageConfig) -> VisionLanguageConfig:
        backbone = replace(asked.backbone, decoder=found.model.decoder)
        return replace(asked, backbone=backbone, tied=found.model.tied)

    shapes = {
        name if name.startswith(OUTPUT) else f"backbone.{name}": shape for name, shape in found.shapes.items()
    }
    return Part("init.llm", found.where, found.id, found.to_json(), takes, shapes, fill, model)


def of_tower(found: PretrainedVision, image: tuple[int, int]) -> Part:
    """A vision tower that others trained, its positions for pictures of (height, width) pixels."""

    def fill(parameters: Mapping[str, Tensor]) -> None:
        found.fill({name.removeprefix(VISION): tensor for name, tensor in parameters.items()}, image)

    told = {"pretrained": found.path.as_posix(), "id": found.id, "map": found.told()}
    shapes = {f"{VISION}{name}": shape for name, shape in found.shapes(image).items()}
    return Part(
        "init.vision", str(found.path), found.id, told, _is_vision, shapes, fill, _with_tower(found.config)
    )


def of_run_with_tower(path: Path, image: tuple[int, int], depth: int | None) -> Part:
    """The tower of a run that has one, whatever its task, or its first `depth` layers."""
    run = RunOrigin.at(checkpoint.find(path))
    values = read_values(run.folder)
    try:
        config = form.from_resolved(_VIT, values["model"]["backbone"]["vision"])
        data = values["data"]
        height, width = (data["rows"] if "rows" in data else data["window"])["image"]
    except (KeyError, TypeError):
        raise FoundryError(
            f"init.vision: the model of {path} has no vision tower", hint="init.llm takes a language model"
        ) from None
    if depth is not None and not 1 <= depth <= config.depth:
        raise UsageError(f"init.vision_depth: {path} has {config.depth} layers, {depth} cannot be taken")
    config = config if depth is None else replace(config, depth=depth)
    grid, to = grid_of(config, (height, width)), grid_of(config, image)

    def fill(parameters: Mapping[str, Tensor]) -> None:
        stored = run.stored()
        read = {n: t for n, t in parameters.items() if n != POSITION or stored[n] == tuple(t.shape)}
        run.fill(read)
        if POSITION in parameters and POSITION not in read:
            position_PD = torch.empty(stored[POSITION])
            run.fill({POSITION: position_PD})
            parameters[POSITION].copy_(resized_positions(position_PD, grid, to))

    shapes = {f"{VISION}{name}": shape for name, shape in parameter_shapes(config, image).items()}
    told = run.to_json() | ({} if depth is None else {"depth": depth})
    return Part("init.vision", str(run.folder), run.id, told, _is_vision, shapes, fill, _with_tower(config))


def _is_vision(name: str) -> bool:
    return name.startswith(VISION)


def _with_tower(config: ViTConfig) -> Callable[[VisionLanguageConfig], VisionLanguageConfig]:
    def model(asked: VisionLanguageConfig) -> VisionLanguageConfig:
        return replace(asked, backbone=replace(asked.backbone, vision=config))

    return model
