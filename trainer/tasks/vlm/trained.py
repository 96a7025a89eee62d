"""Vision-language models that were trained here: what their checkpoints say, and the models themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from robot_foundry.catalog.components import Mixture
from robot_foundry.loader.pairs.spec import PairSpec
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.models.vision_language import VisionLanguage
from robot_foundry.trainer.tasks.described import read_tokenizer, read_values
from robot_foundry.trainer.tasks.origin import RunOrigin
from robot_foundry.trainer.tasks.vlm.config import VLMTaskConfig
from robot_foundry.trainer.tasks.vlm.recipe import from_resolved

_WHAT = "a vision-language model"


@dataclass(frozen=True)
class TrainedFiles:
    """A checkpoint of a vision-language model, of which no weights are in memory.

    `learnt` are the versions of the datasets of pairs that it learnt from.
    """

    origin: RunOrigin
    config: VLMTaskConfig
    tokenizer: Tokenizer
    learnt: frozenset[str]

    @classmethod
    def find(cls, path: Path) -> TrainedFiles:
        """The checkpoint meant by `path`: a run, a checkpoint folder or a pointer file, which is proven.

        FoundryError where it is none, is not whole, or is of something else than a vision-language model.
        """
        folder = checkpoint.find(path)
        config, tokenizer = read_config(folder), read_tokenizer(folder)
        mixture = Mixture.from_json(checkpoint.read_json(folder, "lineage.json")["mixture"])
        learnt = frozenset(component.version_id for component in mixture.components)
        return cls(RunOrigin.at(folder), config, tokenizer, learnt)

    def load(self, device: torch.device | str = "cpu") -> Trained:
        """The model, to be used."""
        config = self.config
        model = allocated(lambda: VisionLanguage(config.model, config.data.rows.image), device)
        self.origin.fill({name: parameter.detach() for name, parameter in model.named_parameters()})
        return Trained(self.origin.folder, config, self.tokenizer, model.eval().requires_grad_(False))


@dataclass(frozen=True)
class Trained:
    """A vision-language model with its weights, averaged where the run has averages."""

    folder: Path
    config: VLMTaskConfig
    tokenizer: Tokenizer
    model: VisionLanguage

    @property
    def settings(self) -> PairSpec:
        """What the rows were that it learnt from."""
        return PairSpec(self.config.data.rows, self.tokenizer, self.config.image_tokens)


def is_vision_language(folder: Path) -> bool:
    """Whether a checkpoint is of a vision-language model: it has a backbone, and rows of tokens."""
    values = read_values(folder)
    model, data = values.get("model"), values.get("data")
    return isinstance(model, dict) and "backbone" in model and isinstance(data, dict) and "rows" in data


def read_config(folder: Path) -> VLMTaskConfig:
    """The configuration of a checkpoint of a vision-language model."""
    if not is_vision_language(folder):
        raise FoundryError(f"{folder} is no checkpoint of {_WHAT}", hint="give a run of foundry-train vlm")
    try:
        return from_resolved(read_values(folder))
    except UsageError as error:
        raise FoundryError(f"{folder} is no checkpoint of {_WHAT}: {error.message}") from error


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained:
    """The model of a run, checkpoint folder or pointer file, to be used; see `TrainedFiles.find`."""
    return TrainedFiles.find(path).load(device)
