"""What a vision-language model starts from: a run of one, or a decoder and a vision tower from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.presets import PRESETS
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.models.vit import ViTConfig
from robot_foundry.trainer.recipes import form
from robot_foundry.trainer.recipes.form import RecipeForm
from robot_foundry.trainer.tasks.described import read_values
from robot_foundry.trainer.tasks.llm import origin as llm_origin
from robot_foundry.trainer.tasks.origin import RunOrigin, Shape, check_fits, chosen, misfits, unknown
from robot_foundry.trainer.tasks.vlm.config import InitConfig
from robot_foundry.trainer.tasks.vlm.trained import TrainedFiles

VISION, DECODER, OUTPUT = "backbone.vision.", "backbone.decoder.", "output."
_OF_IDS = {"backbone.decoder.embedding.weight", "output.weight"}  # have a row for each id
_VIT = RecipeForm(ViTConfig, lambda _: iter(()), "", PRESETS)


@dataclass(frozen=True)
class Part:
    """Weights of some of the parameters, which are given by our names.

    key     of the recipe: init.llm
    id      equal for equal weights
    takes   whether a parameter comes from here
    shapes  of those that are there
    fill    fills parameters, given by name, in place
    told    what a run says about where it came from
    model   the recipe's model with the shapes that these weights have
    """

    key: str
    where: str
    id: str
    takes: Callable[[str], bool]
    shapes: Mapping[str, Shape]
    fill: Callable[[Mapping[str, Tensor]], None]
    told: Mapping[str, Any]
    model: Callable[[VisionLanguageConfig], VisionLanguageConfig]


@dataclass(frozen=True)
class Origin:
    """All that a run starts from; `tokenizer` is which text the ids of its weights stand for, if known."""

    parts: tuple[Part, ...]
    tokenizer: Tokenizer | None
    only: tuple[str, ...]

    @property
    def id(self) -> str:
        return digest_of({part.key: part.id for part in self.parts})

    @property
    def has_ids(self) -> bool:
        """Whether what is taken has a row for each id."""
        return any(part.takes(name) for part in self.parts for name in _OF_IDS)

    def model(self, asked: VisionLanguageConfig) -> VisionLanguageConfig:
        """The model that is trained where a recipe asks for this one."""
        for part in self.parts:
            asked = part.model(asked)
        return asked

    def check(self, model: nn.Module) -> None:
        """FoundryError that lists all that keeps the weights from filling `model` (meta tensors will do)."""
        for part in self.parts:
            parameters = _taken(part, model)
            lines = [*unknown(model, self.only), *misfits(parameters, part.shapes)]
            check_fits(lines, part.where, "set model and data.rows.image as there, or say less in init.only")

    def take(self, model: nn.Module) -> tuple[str, ...]:
        """Fill what begins with weights; returns a note on the parts of the model that begin without."""
        self.check(model)
        for part in self.parts:
            part.fill(_taken(part, model))
        fresh = list(dict.fromkeys(_fresh(self.parts, model)))
        return (f"random weights begin {', '.join(fresh)}",) if fresh else ()

    def to_json(self) -> dict[str, Any]:
        return {part.key: dict(part.told) for part in self.parts}


def find_origin(init: InitConfig) -> Origin:
    """What `init` names; FoundryError where something is not there, or is something else."""
    parts: list[Part] = []
    tokenizer: Tokenizer | None = None
    if init.weights is not None:
        files = TrainedFiles.find(_existing("init.weights", init.weights, "a run of foundry-train vlm"))
        parts, tokenizer = [_whole(files, init.only)], files.tokenizer
    if init.llm is not None:
        decoder = llm_origin.find_origin(init.llm, "init.llm")
        parts, tokenizer = [*parts, _decoder(decoder)], decoder.tokenizer
    if init.vision is not None:
        parts.append(_vision(Path(init.vision)))
    return Origin(tuple(parts), tokenizer, init.only)


def _whole(files: TrainedFiles, only: Sequence[str]) -> Part:
    """A run of this task; its model is that which is trained where all of it is taken."""
    run = files.origin

    def takes(name: str) -> bool:
        return chosen(name, only)

    def model(asked: VisionLanguageConfig) -> VisionLanguageConfig:
        return asked if only else files.config.model

    shapes = {name: shape for name, shape in run.stored()[1].items() if takes(name)}
    return Part("init.weights", str(run.folder), run.id, takes, shapes, run.fill, run.to_json(), model)


def _decoder(found: llm_origin.Origin) -> Part:
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
    return Part("init.llm", found.where, found.id, takes, shapes, fill, found.to_json(), model)


def _vision(path: Path) -> Part:
    """The tower of a run that has one, whatever its task."""
    run = RunOrigin.at(checkpoint.find(_existing("init.vision", str(path), "a run with a vision tower")))
    values = read_values(run.folder)
    try:
        config = form.from_resolved(_VIT, values["model"]["backbone"]["vision"])
    except (KeyError, TypeError):
        raise FoundryError(f"init.vision: the model of {path} has no vision tower") from None

    def takes(name: str) -> bool:
        return name.startswith(VISION)

    def model(asked: VisionLanguageConfig) -> VisionLanguageConfig:
        return replace(asked, backbone=replace(asked.backbone, vision=config))

    shapes = {name: shape for name, shape in run.stored()[1].items() if takes(name)}
    return Part("init.vision", str(run.folder), run.id, takes, shapes, run.fill, run.to_json(), model)


def _existing(key: str, where: str, what: str) -> Path:
    if not Path(where).exists():
        raise FoundryError(f"{key}: there is no {where}", hint=what)
    return Path(where)


def _taken(part: Part, model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters() if part.takes(name)}


def _fresh(parts: Sequence[Part], model: nn.Module) -> Iterator[str]:
    """How the parameters begin that no part has."""
    for name, _ in model.named_parameters():
        if not any(part.takes(name) for part in parts):
            words = name.split(".")
            yield ".".join(words[:2]) if words[0] == "backbone" else words[0]
