"""What a vision-language model starts from: a run of one, or a decoder and a vision tower from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints.replica import url_of
from robot_foundry.trainer.models.vision_language import VisionLanguageConfig
from robot_foundry.trainer.pretrained.families import CONFIG
from robot_foundry.trainer.pretrained.vision import read_vision
from robot_foundry.trainer.tasks.llm import origin as llm_origin
from robot_foundry.trainer.tasks.origin import check_fits, misfits, unknown
from robot_foundry.trainer.tasks.vlm.config import InitConfig
from robot_foundry.trainer.tasks.vlm.parts import (
    OF_IDS,
    Part,
    of_decoder,
    of_run_with_tower,
    of_tower,
    of_whole,
)
from robot_foundry.trainer.tasks.vlm.trained import TrainedFiles


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
        return any(part.takes(name) for part in self.parts for name in OF_IDS)

    def model(self, asked: VisionLanguageConfig) -> VisionLanguageConfig:
        """The model that is trained where a recipe asks for this one."""
        for part in self.parts:
            asked = part.model(asked)
        return asked

    def check(self, model: nn.Module) -> None:
        """FoundryError that lists all that keeps the weights from filling `model` (meta tensors will do)."""
        for part in self.parts:
            lines = [*unknown(model, self.only), *misfits(_taken(part, model), part.shapes)]
            check_fits(lines, part.where, "set model and data.rows.image as there, or say less in init.only")

    def take(self, model: nn.Module) -> tuple[str, ...]:
        """Fill what begins with weights; returns a note on the parts of the model that begin without."""
        self.check(model)
        for part in self.parts:
            part.fill(_taken(part, model))
        fresh = list(dict.fromkeys(_fresh(self.parts, model)))
        return (f"no weights are given for {', '.join(fresh)}, which begin at random",) if fresh else ()

    def to_json(self) -> dict[str, Any]:
        return {part.key: dict(part.told) for part in self.parts}


def find_origin(init: InitConfig, image: tuple[int, int]) -> Origin:
    """What `init` names, for pictures of (height, width) pixels; FoundryError where it is not there, or
    something else."""
    parts: list[Part] = []
    tokenizer: Tokenizer | None = None
    if init.weights is not None:
        files = TrainedFiles.find(_existing("init.weights", init.weights, "give a run of foundry-train vlm"))
        parts, tokenizer = [of_whole(files, init.only)], files.tokenizer
    if init.llm is not None:
        decoder = llm_origin.find_origin(init.llm, "init.llm")
        parts, tokenizer = [*parts, of_decoder(decoder)], decoder.tokenizer
    if init.vision is not None:
        parts.append(_tower(init.vision, image, init.vision_depth))
    return Origin(tuple(parts), tokenizer, init.only)


def _tower(where: str, image: tuple[int, int], depth: int | None) -> Part:
    path = _existing(
        "init.vision", where, f"give a run with a vision tower, or a folder with {CONFIG} and safetensors"
    )
    if not (path / CONFIG).is_file():
        return of_run_with_tower(path, image, depth)
    found = read_vision(path)
    return of_tower(found if depth is None else found.cut(depth), image)


def _existing(key: str, where: str, hint: str) -> Path:
    if url_of(where) is None and not Path(where).exists():
        raise FoundryError(f"{key}: there is no {where}", hint=hint)
    return Path(where)


def _taken(part: Part, model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.named_parameters() if part.takes(name)}


def _fresh(parts: Sequence[Part], model: nn.Module) -> Iterator[str]:
    """How the parameters begin that no part has."""
    for name, _ in model.named_parameters():
        if not any(part.takes(name) for part in parts):
            words = name.split(".")
            yield ".".join(words[:2]) if words[0] == "backbone" else words[0]
