"""Language models that were trained here: what their checkpoints say, and the models themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.models.layers.initial import allocated
from robot_foundry.trainer.models.llm import LLM
from robot_foundry.trainer.tasks.described import read_tokenizer, read_values
from robot_foundry.trainer.tasks.llm.config import LLMTaskConfig
from robot_foundry.trainer.tasks.llm.recipe import from_resolved
from robot_foundry.trainer.tasks.origin import RunOrigin


@dataclass(frozen=True)
class TrainedFiles:
    """A checkpoint of a language model, of which no weights are in memory."""

    origin: RunOrigin
    config: LLMTaskConfig
    tokenizer: Tokenizer

    @classmethod
    def find(cls, path: Path) -> TrainedFiles:
        """The checkpoint meant by `path`: a run, a checkpoint folder or a pointer file, which is proven.

        FoundryError where it is none, is not whole, or is of something else than a language model.
        """
        folder = checkpoint.find(path)
        return cls(RunOrigin.at(folder), read_config(folder), read_tokenizer(folder))


@dataclass(frozen=True)
class Trained:
    """A language model with its weights, averaged where the run has averages."""

    folder: Path
    config: LLMTaskConfig
    tokenizer: Tokenizer
    model: LLM


def read_config(folder: Path) -> LLMTaskConfig:
    """The configuration of a checkpoint of a language model."""
    values = read_values(folder)
    model = values.get("model")
    if not isinstance(model, dict) or "decoder" not in model:
        raise FoundryError(f"{folder} is no checkpoint of a language model")
    try:
        return from_resolved(values)
    except UsageError as error:
        raise FoundryError(f"{folder} is no checkpoint of a language model: {error.message}") from error


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained:
    """The model of a run, checkpoint folder or pointer file, to be used; see `TrainedFiles.find`."""
    files = TrainedFiles.find(path)
    model = allocated(lambda: LLM(files.config.model), device)
    files.origin.fill({name: parameter.detach() for name, parameter in model.named_parameters()})
    return Trained(files.origin.folder, files.config, files.tokenizer, model.eval().requires_grad_(False))
