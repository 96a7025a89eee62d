"""Backbones of others: a folder of `transformers` to a config, a tokenizer and tensors by our names.

Parts go by the names that ours have (see `models.foreign.families`). Every tensor there becomes a parameter
or is known to say nothing more, and every parameter is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.files import content_hash
from robot_foundry.shards.tokens import tokenizers
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.models.foreign.config import Channels
from robot_foundry.trainer.models.foreign.families import FAMILIES
from robot_foundry.trainer.models.foreign.package import made_config, transformers
from robot_foundry.trainer.pretrained.families import CONFIG
from robot_foundry.trainer.pretrained.names import kind_of
from robot_foundry.trainer.pretrained.tensor_files import Safetensors, Shape
from robot_foundry.trainer.pretrained.values import Values, read_values
from robot_foundry.trainer.pretrained.vision_families import PREPROCESSOR, channels

PROCESSOR = "processor_config.json"  # where releases from 5 on say what an image processor does
OUTPUT, EMBEDDING = "output.weight", "decoder.embed_tokens.weight"
HALF: Channels = (0.5, 0.5, 0.5)  # what the families' processors have where no file says it
_BYTE = 1 / 255  # from pixels to [0, 1]
# By our names: what becomes no parameter, and why.
_UNUSED = (
    (re.compile(r".*rotary_emb\.inv_freq"), "follows from rope_theta"),
    (re.compile(r".*\.position_ids"), "counts the positions"),
    (re.compile(r"vision\.head\..*"), "pools a picture to one vector"),
    (re.compile(r"output\..*"), "writes text, which a policy does not"),
)


@dataclass(frozen=True)
class PretrainedBackbone:
    """A backbone that others trained, of which no weights are in memory.

    values     what its config.json says
    sees       whether it is a vision-language model; otherwise it only reads
    source_of  what each of our parameters is called there
    unused     tensors there that become none of ours, and why none is needed
    """

    path: Path
    values: Mapping[str, object]
    sees: bool
    pixel_mean: Channels
    pixel_std: Channels
    tokenizer: Tokenizer
    source_of: Mapping[str, str]
    unused: Mapping[str, str]
    _tensors: Safetensors

    @property
    def model_type(self) -> str:
        return str(self.values["model_type"])

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each of our parameters, by its name in the backbone."""
        return {name: self._tensors.shapes[there] for name, there in self.source_of.items()}

    @cached_property
    def id(self) -> str:
        """32 hex digits of all the bytes that its config, its weights and its tokenizer are in."""
        beside = (CONFIG, PREPROCESSOR, PROCESSOR, tokenizers.FILE, tokenizers.CONFIG)
        files = [*(path for name in beside if (path := self.path / name).is_file()), *self._tensors.files]
        return digest_of({file.name: content_hash(str(file.parent), file.name) for file in files})

    @torch.no_grad()
    def fill(self, parameters: Mapping[str, Tensor]) -> None:
        """Fill parameters, given by their names in the backbone, in place, one at a time."""
        for name, parameter in parameters.items():
            parameter.copy_(self._tensors.tensor(self.source_of[name]))

    def told(self) -> list[str]:
        """What became of every tensor there: a line a kind, of how many layers, and one for each unused."""
        times: dict[tuple[str, str], int] = {}
        for ours, there in self.source_of.items():
            kind = kind_of(there)[0], kind_of(ours)[0]
            times[kind] = times.get(kind, 0) + 1
        lines = [
            f"{there} → {ours}{f' × {number}' if '{}' in ours else ''}".replace("{}", "N")
            for (there, ours), number in times.items()
        ]
        return [*lines, *(f"{name}: {why}" for name, why in self.unused.items())]


def read_backbone(path: Path) -> PretrainedBackbone:
    """The backbone in a folder with config.json, safetensors and tokenizer.json.

    FoundryError if `transformers` has no such model, or if the files are damaged.
    """
    stated = read_values(path / CONFIG)
    made = made_config(stated.stated)
    family = next((one for one in FAMILIES if one.model_type == stated.text("model_type")), None)
    if family is None:
        _check_reads(stated, made)
        inner = transformers().MODEL_MAPPING[type(made)].base_model_prefix
        renamed: tuple[tuple[str, str], ...] = (
            (f"{inner}.", "decoder."), ("lm_head.", "output."), ("", "decoder."),
        )  # fmt: skip
    else:
        renamed = family.renamed
    tensors = Safetensors(path)
    ours = {there: _renamed(there, renamed) for there in tensors.shapes}
    unused = {there: why for there, name in ours.items() if (why := _why_unused(name))}
    _check_tied(path, made, {name: there for there, name in ours.items()}, tensors)
    mean, std = _pixel_scale(path)
    kept = {name: there for there, name in ours.items() if there not in unused}
    tokenizer = tokenizers.read(path)
    return PretrainedBackbone(
        path, stated.stated, family is not None, mean, std, tokenizer, kept, unused, tensors
    )


def _check_reads(stated: Values, made: object) -> None:
    """FoundryError for a model that is no causal language model."""
    if type(made) not in transformers().MODEL_FOR_CAUSAL_LM_MAPPING:
        seeing = ", ".join(family.model_type for family in FAMILIES)
        raise FoundryError(
            f"{stated.where}: model_type {stated.text('model_type')!r} is neither of {seeing} "
            "nor a causal language model of transformers"
        )


def _renamed(name: str, renamed: tuple[tuple[str, str], ...]) -> str:
    """Our name of a tensor; its own, where no beginning is known."""
    for beginning, part in renamed:
        if name.startswith(beginning):
            return part + name.removeprefix(beginning)
    return name


def _why_unused(name: str) -> str | None:
    return next((why for pattern, why in _UNUSED if pattern.fullmatch(name)), None)


def _check_tied(path: Path, made: object, source_of: Mapping[str, str], tensors: Safetensors) -> None:
    """FoundryError where an output that should be the embedding is another."""
    is_tied = bool(getattr(made, "tie_word_embeddings", True))
    if not is_tied or not {OUTPUT, EMBEDDING} <= source_of.keys():
        return
    output, embedding = source_of[OUTPUT], source_of[EMBEDDING]
    if not torch.equal(tensors.tensor(output), tensors.tensor(embedding)):
        raise FoundryError(
            f"{path} says tie_word_embeddings, and its {output} is not its {embedding}",
            hint=f'"tie_word_embeddings": false in {path / CONFIG}, if both are meant',
        )


def _pixel_scale(path: Path) -> tuple[Channels, Channels]:
    """Mean and standard deviation by which pixels are scaled, as the image processor has it."""
    stated = Values(str(path), {})
    if (path / PREPROCESSOR).is_file():
        stated = read_values(path / PREPROCESSOR)
    elif (path / PROCESSOR).is_file():
        stated = read_values(path / PROCESSOR).section("image_processor")
    factor = stated.number("rescale_factor", _BYTE)
    if abs(factor - _BYTE) > 1e-6:
        raise FoundryError(f"{stated.where}: rescale_factor is {factor}, pictures here are bytes (1/255)")
    return channels(stated, "image_mean", HALF), channels(stated, "image_std", HALF)
