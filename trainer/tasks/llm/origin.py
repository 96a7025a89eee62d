"""What a language model starts from: another run, or a model that others trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens import tokenizers
from robot_foundry.shards.tokens.gguf import GGUF_SUFFIX
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints.replica import url_of
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.pretrained import families
from robot_foundry.trainer.pretrained.reading import Pretrained, read_pretrained
from robot_foundry.trainer.tasks.llm.trained import TrainedFiles
from robot_foundry.trainer.tasks.origin import Shape, check_fits, chosen, misfits, unknown, wanted

HINT = "init.model=weights trains the model that they are of; init.only says which parameters to take"


class Origin(Protocol):
    """Weights that a run starts from, by our names.

    id         equal for equal weights
    model      what they are of
    tokenizer  which text their ids stand for; None where nothing says it
    """

    @property
    def id(self) -> str: ...
    @property
    def where(self) -> str: ...
    @property
    def model(self) -> LLMConfig: ...
    @property
    def tokenizer(self) -> Tokenizer | None: ...
    @property
    def shapes(self) -> Mapping[str, Shape]: ...

    def fill(self, parameters: Mapping[str, Tensor]) -> None:
        """Fill parameters, given by name, in place."""

    def to_json(self) -> dict[str, Any]:
        """What a run says about where it came from."""


@dataclass(frozen=True)
class RunWeights:
    """Those of a run of ours, averaged where it has averages."""

    files: TrainedFiles

    @property
    def id(self) -> str:
        return self.files.origin.id

    @property
    def where(self) -> str:
        return str(self.files.origin.folder)

    @property
    def model(self) -> LLMConfig:
        return self.files.config.model

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self.files.tokenizer

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self.files.origin.stored()

    def fill(self, parameters: Mapping[str, Tensor]) -> None:
        self.files.origin.fill(parameters)

    def to_json(self) -> dict[str, Any]:
        return self.files.origin.to_json()


@dataclass(frozen=True)
class PretrainedWeights:
    """Those of a folder of `transformers` or a GGUF file."""

    source: Pretrained

    @property
    def id(self) -> str:
        return self.source.id

    @property
    def where(self) -> str:
        return str(self.source.path)

    @property
    def model(self) -> LLMConfig:
        return self.source.config

    @property
    def tokenizer(self) -> Tokenizer | None:
        return None if self.source.tokenizer is None else tokenizers.read(self.source.tokenizer)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self.source.shapes

    @torch.no_grad()
    def fill(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            parameter.copy_(self.source.tensor(name))

    def to_json(self) -> dict[str, Any]:
        return {"pretrained": self.source.path.as_posix(), "id": self.id, "map": self.source.told()}


def find_origin(where: str, key: str = "init.weights") -> Origin:
    """What the value of a key names: a run, checkpoint folder, pointer file or URL of checkpoints of ours, or
    others' model."""
    path = Path(where)
    if url_of(where) is None and not path.exists():
        raise FoundryError(
            f"{key}: there is no {where}",
            hint="a run of foundry-train llm, a folder with config.json and safetensors, or a .gguf file",
        )
    if path.suffix == GGUF_SUFFIX or (path / families.CONFIG).is_file():
        return PretrainedWeights(read_pretrained(path))
    return RunWeights(TrainedFiles.find(path))


def check_origin(origin: Origin, model: nn.Module, tokenizer: Tokenizer, only: Sequence[str]) -> None:
    """FoundryError that lists all that keeps the weights from filling `model` (meta tensors will do)."""
    parameters = wanted(model, only)
    taken = {name: shape for name, shape in origin.shapes.items() if chosen(name, only)}
    check_fits([*unknown(model, only), *misfits(parameters, taken)], origin.where, HINT)
    theirs = origin.tokenizer if _of_ids(parameters) else None
    if theirs is not None and theirs.id != tokenizer.id:
        raise FoundryError(
            f"the weights of {origin.where} know the tokenizer {theirs.id[:12]}, "
            f"the data was made with {tokenizer.id[:12]}",
            hint="tokenize the text with theirs (foundry-data tokenize --tokenizer), or leave the embedding "
            "and the output out in init.only",
        )


def take_origin(
    origin: Origin, model: nn.Module, tokenizer: Tokenizer, only: Sequence[str]
) -> tuple[str, ...]:
    """Fill the parameters that `only` names, all where it is empty; returns notes on what is not known."""
    check_origin(origin, model, tokenizer, only)
    parameters = wanted(model, only)
    origin.fill(parameters)
    if _of_ids(parameters) and origin.tokenizer is None:
        return (f"{origin.where} has no tokenizer: nothing shows that its ids mean those of the data",)
    return ()


def _of_ids(parameters: Mapping[str, Tensor]) -> bool:
    """Whether some of the parameters have a row for each id."""
    return not {"decoder.embedding.weight", "output.weight"}.isdisjoint(parameters)
