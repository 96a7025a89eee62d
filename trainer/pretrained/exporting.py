"""Checkpoints out: weights as safetensors, and language models as folders that `transformers` reads.

A folder is written beside its place and renamed, so one that is there is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.shards.tokens import tokenizers
from robot_foundry.shards.tokens.tokenizer import Tokenizer
from robot_foundry.trainer.checkpoints import checkpoint, tensors
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.presets import PRESETS
from robot_foundry.trainer.models.sizes import llm_problems
from robot_foundry.trainer.pretrained import families, names
from robot_foundry.trainer.pretrained.tensor_files import WHOLE, Shape, safetensors
from robot_foundry.trainer.recipes import form
from robot_foundry.trainer.recipes.form import RecipeForm
from robot_foundry.trainer.recipes.yaml_text import read_yaml

TRANSFORMERS, SAFETENSORS = "transformers", "safetensors"
FORMATS = (TRANSFORMERS, SAFETENSORS)
LINEAGE = "lineage.json"
FORM = RecipeForm(LLMConfig, llm_problems, "", PRESETS)


@dataclass(frozen=True)
class Export:
    """What of a checkpoint goes out: texts by file name, and tensors by the names that they get.

    checkpoint    the folder that it comes from, proven
    weights       "ema" for averaged weights, where the run has them, else "model"
    architecture  the class of `transformers`; None where it is of none
    names         what each tensor that is written is called in the checkpoint
    """

    checkpoint: Path
    weights: str
    architecture: str | None
    names: Mapping[str, str]
    shapes: Mapping[str, Shape]
    files: Mapping[str, str]

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
        values = {name: torch.empty(shape) for name, shape in self.shapes.items()}
        tensors.load(self.checkpoint, {there: values[name] for name, there in self.names.items()})
        save_file(values, partial / WHOLE, metadata={"format": "pt"})
        for name, text in self.files.items():
            (partial / name).write_text(text, encoding="utf-8")
        for name in (WHOLE, *self.files, "."):
            _sync(partial / name)
        kill_point("export-written-not-renamed")
        partial.rename(out)


def planned_export(where: Path, kind: str) -> Export:
    """The export of a run, a checkpoint folder or a pointer file, as one of `FORMATS`.

    FoundryError says why, where `transformers` has no such model.
    """
    folder = checkpoint.find(where)
    weights, shapes = _stored(folder)
    if kind == SAFETENSORS:
        readable = sorted(path.name for path in folder.glob("*.json") if path.name != "manifest.json")
        texts = {name: (folder / name).read_text(encoding="utf-8") for name in (*readable, "config.yaml")}
        return Export(folder, weights, None, {n: f"{weights}/{n}" for n in shapes}, shapes, texts)
    config, max_length = _language_model(folder, shapes)
    tokenizer = tokenizers.from_json(
        checkpoint.read_json(folder, tokenizers.FILE), str(folder / tokenizers.FILE)
    )
    theirs = {names.name_in(names.TRANSFORMERS, name): name for name in shapes}
    return Export(
        folder,
        weights,
        families.family_of(config).architecture,
        {name: f"{weights}/{ours}" for name, ours in theirs.items()},
        {name: shapes[ours] for name, ours in theirs.items()},
        {
            **transformers_files(config, tokenizer, max_length),
            LINEAGE: (folder / LINEAGE).read_text(encoding="utf-8"),
        },
    )


def transformers_files(config: LLMConfig, tokenizer: Tokenizer, max_length: int) -> dict[str, str]:
    """The texts of a `transformers` folder by file name, of a model trained on rows of `max_length` tokens.

    A prompt gets the token before it that documents began with, and ids that the tokenizer has not are never
    generated: vocabularies of models are rounded up. FoundryError if `transformers` has no such model.
    """
    ids = {"bos_token_id": tokenizer.start, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.pad}
    spelt = {number: name for name, number in tokenizer.specials.items()}
    unused = list(range(tokenizer.size, config.decoder.vocabulary))
    values = {
        "config.json": {**families.values_of(config, max_length), **ids},
        "generation_config.json": {**ids, **({"suppress_tokens": unused} if unused else {})},
        tokenizers.FILE: tokenizer.transformers_json(),
        tokenizers.CONFIG: {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "add_bos_token": True,
            **{key.removesuffix("_id"): spelt[number] for key, number in ids.items()},
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
        },
    }
    return {name: json.dumps(value, indent=1, ensure_ascii=False) + "\n" for name, value in values.items()}


def check_free(out: Path) -> None:
    """UsageError if something is at `out`."""
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} is there already", hint="name a folder that is not, or remove it")


def _stored(folder: Path) -> tuple[str, dict[str, Shape]]:
    """Which weights to take, averaged ones where there are, and their shapes by parameter."""
    shapes = tensors.shapes(folder)
    kind = "ema" if any(name.startswith("ema/") for name in shapes) else "model"
    return kind, {n.removeprefix(f"{kind}/"): s for n, s in shapes.items() if n.startswith(f"{kind}/")}


def _language_model(folder: Path, shapes: Mapping[str, Shape]) -> tuple[LLMConfig, int]:
    """The model of a checkpoint, and how many tokens the rows had that it was trained on.

    Its vocabulary is that of its weights: a recipe may leave it to the tokenizer.
    """
    file = folder / "config.yaml"
    values: Any = read_yaml(file.read_text(encoding="utf-8"), str(file))
    if "decoder" not in values["model"]:
        raise FoundryError(
            f"{folder} holds no language model, which is all that transformers has an architecture for here",
            hint="--format safetensors writes the weights of any model",
        )
    config = form.from_resolved(FORM, values["model"])
    decoder = replace(config.decoder, vocabulary=shapes["decoder.embedding.weight"][0])
    return replace(config, decoder=decoder), int(values["data"]["rows"]["length"])


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
