"""Checkpoints out: weights as safetensors, and language models as folders that `transformers` reads.

A folder is written beside its place and renamed, so one that is there is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robot_foundry.runtime.durable import sync
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import read_utf8
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.shards.tokens import tokenizers
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import proof, tensors
from robot_foundry.trainer.models.layers.lora import is_adapter, merge_values
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.pretrained import families, names
from robot_foundry.trainer.pretrained.tensor_files import WHOLE, Shape, safetensors
from robot_foundry.trainer.recipes.yaml_text import read_yaml, write_yaml

LINEAGE, CONFIG = "lineage.json", "config.yaml"


@dataclass(frozen=True)
class Export:
    """What of a checkpoint goes out: texts by file name, and tensors by the names that they get.

    checkpoint    the folder that it comes from, proven
    averaged      whether the weights are averages, as they are where the run has them
    architecture  the class of `transformers`; None where it is of none
    names         what each tensor is called in the checkpoint
    shapes        of those that are written
    adapters      shapes of low-rank factors, which are put into the weights; `scale` is their factor
    """

    checkpoint: Path
    averaged: bool
    architecture: str | None
    names: Mapping[str, str]
    shapes: Mapping[str, Shape]
    files: Mapping[str, str]
    adapters: Mapping[str, Shape] = field(default_factory=dict)
    scale: float = 1.0

    @property
    def num_parameters(self) -> int:
        return sum(torch.Size(shape).numel() for shape in self.shapes.values())

    def write(self, out: Path) -> None:
        """Write all of it to the folder `out`. UsageError if something is there."""
        check_free(out)
        save_file = safetensors(out / WHOLE).torch.save_file
        partial = out.with_name(f".{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        read = {name: torch.empty(shape) for name, shape in {**self.shapes, **self.adapters}.items()}
        tensors.load(self.checkpoint, {there: read[name] for name, there in self.names.items()})
        values = merge_values(read, self.scale)
        save_file(values, partial / WHOLE, metadata={"format": "pt"})
        for name, text in self.files.items():
            (partial / name).write_text(text, encoding="utf-8")
        # safetensors lets the owner alone read what it writes.
        (partial / WHOLE).chmod((partial / LINEAGE).stat().st_mode)
        for name in (WHOLE, *self.files, "."):
            sync(partial / name)
        kill_point("export-written-not-renamed")
        partial.rename(out)
        sync(out.parent)


def as_safetensors(folder: Path) -> Export:
    """The weights of a checkpoint of any task by the names that they have here, with its readable files.

    Of a model with adapters it is the model without them that does the same.
    """
    weights = tensors.weights(folder)
    readable = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".yaml"))
    texts = {name: read_utf8(folder / name) for name in readable if name != proof.MANIFEST}
    adapters = {name: shape for name, shape in weights.shapes.items() if is_adapter(name)}
    scale = 1.0
    if adapters:
        values = read_yaml(texts[CONFIG], str(folder / CONFIG))
        lora = values["model"].pop("lora")  # what is left out has its default, which is none
        scale, texts[CONFIG] = lora["alpha"] / lora["rank"], write_yaml(values)
    shapes = {name: shape for name, shape in weights.shapes.items() if name not in adapters}
    return Export(folder, weights.averaged, None, weights.places, shapes, texts, adapters, scale)


def as_transformers(folder: Path, config: LLMConfig, tokenizer: Tokenizer, max_length: int) -> Export:
    """The checkpoint of a language model, trained on rows of `max_length` tokens, as `transformers` has it.

    FoundryError says why, where it has no such model.
    """
    architecture = families.family_of(config).architecture
    weights = tensors.weights(folder)
    theirs = {names.name_in(names.TRANSFORMERS, name): name for name in weights.shapes}
    return Export(
        folder,
        weights.averaged,
        architecture,
        {name: weights.places[ours] for name, ours in theirs.items()},
        {name: weights.shapes[ours] for name, ours in theirs.items()},
        {**transformers_files(config, tokenizer, max_length), LINEAGE: read_utf8(folder / LINEAGE)},
    )


def transformers_files(config: LLMConfig, tokenizer: Tokenizer, max_length: int) -> dict[str, str]:
    """The texts of a `transformers` folder by file name, of a model trained on rows of `max_length` tokens.

    A prompt gets the token before it that documents began with, and ids that the tokenizer has not are never
    generated: vocabularies of models are rounded up. FoundryError if `transformers` has no such model.
    """
    ids = {"bos_token_id": tokenizer.start, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.pad}
    spelt = {number: name for name, number in tokenizer.specials.items()}
    start = spelt[tokenizer.start]
    unused = list(range(tokenizer.size, config.decoder.vocabulary))
    values = {
        families.CONFIG: {**families.values_of(config, max_length), **ids},
        "generation_config.json": {**ids, **({"suppress_tokens": unused} if unused else {})},
        tokenizers.FILE: {
            **tokenizer.transformers_json(),
            "post_processor": _begun_by(start, tokenizer.start),
        },
        tokenizers.CONFIG: {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{key.removesuffix("_id"): spelt[number] for key, number in ids.items()},
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
        },
    }
    return {name: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for name, value in values.items()}


def _begun_by(name: str, number: int) -> dict[str, Any]:
    """What tokenizer.json says for a token to stand before each text."""
    first, text = {"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, second],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]}},
    }


def check_free(out: Path) -> None:
    """UsageError if something is at `out`."""
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} is there already", hint="name a folder that is not, or remove it")
