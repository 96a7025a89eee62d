"""Models of others as ours: a folder of `transformers` or a GGUF file to a config and parameters by name.

Every tensor there becomes one of ours or is known to say nothing more, and every one of ours is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.files import content_hash
from robot_foundry.shards.tokens import tokenizers
from robot_foundry.shards.tokens.gguf import GGUF_SUFFIX
from robot_foundry.trainer.models.llm import LLM, LLMConfig
from robot_foundry.trainer.models.sizes.sizes import llm_problems
from robot_foundry.trainer.pretrained import families, gguf_models, names
from robot_foundry.trainer.pretrained.tensor_files import Gguf, Safetensors, Shape, TensorFiles
from robot_foundry.trainer.pretrained.values import read_values

_FREQUENCIES = re.compile(r".*\.rotary_emb\.inv_freq")


@dataclass(frozen=True)
class Pretrained:
    """A model that others trained, of which no weights are in memory.

    config      our config that it is
    source_of   what each of our parameters is called there
    unused      tensors there that become none of ours, and why none is needed
    tokenizer   the folder or file that holds its tokenizer; None where there is none
    """

    path: Path
    config: LLMConfig
    source_of: Mapping[str, str]
    unused: Mapping[str, str]
    tokenizer: Path | None
    _tensors: TensorFiles
    _heads: Mapping[str, int]  # of matrices whose rows are in another order there, by the ends of their names

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of each of our parameters."""
        return {name: self._tensors.shapes[there] for name, there in self.source_of.items()}

    @cached_property
    def id(self) -> str:
        """32 hex digits of all the bytes that its config and weights are in."""
        files = self._tensors.files
        if self.path.is_dir():
            files = (self.path / families.CONFIG, *files)
        return digest_of({file.name: content_hash(str(file.parent), file.name) for file in files})

    def tensor(self, name: str) -> Tensor:
        """One of our parameters, in float32."""
        there = self.source_of[name]
        tensor = self._tensors.tensor(there)
        for end, heads in self._heads.items():
            if there.endswith(end):
                return gguf_models.in_halves(tensor, heads)
        return tensor

    @torch.no_grad()
    def load(self, model: nn.Module) -> None:
        """Fill the parameters of an LLM of this config, one at a time, on whatever device.

        FoundryError that lists every name and shape that differs, before anything is filled.
        """
        wanted = dict(model.named_parameters())
        _check_fit(self.path, {name: tuple(p.shape) for name, p in wanted.items()}, self.shapes)
        for name, parameter in wanted.items():
            parameter.copy_(self.tensor(name))

    def told(self) -> list[str]:
        """What became of every tensor there: a line a kind, of how many layers, and one for each unused."""
        found: dict[tuple[str, str], list[str]] = {}
        for ours, there in self.source_of.items():
            found.setdefault((names.kind_of(there)[0], names.kind_of(ours)[0]), []).append(ours)
        lines = []
        for (there, kind), layers in found.items():
            times = f" × {len(layers)}" if "{}" in kind else ""
            size = "×".join(str(n) for n in self.shapes[layers[0]])
            lines.append(f"{there} → {kind} ({size}){times}".replace("{}", "N"))
        return [*lines, *(f"{name}: {why}" for name, why in self.unused.items())]


def read_pretrained(path: Path) -> Pretrained:
    """The model in a folder with config.json and safetensors, or in a .gguf file.

    FoundryError if our decoder is no such model, if the files are damaged, or if tensors are missing or left
    over, which lists those of both sides.
    """
    if path.suffix == GGUF_SUFFIX:
        file = Gguf(path)
        config = gguf_models.config_of(file)
        heads = gguf_models.heads_of(file, config.decoder)
        unused = {gguf_models.ROPE_FACTORS: "is in rope_scaling"}
        has_tokenizer = "tokenizer.ggml.model" in file.metadata.stated
        return _mapped(path, config, file, names.GGUF, unused, heads, path if has_tokenizer else None)
    if not (path / families.CONFIG).is_file():
        what = f"has no {families.CONFIG}" if path.is_dir() else "is neither a folder nor a .gguf file"
        raise FoundryError(
            f"{path} {what}",
            hint=f"give a folder with {families.CONFIG} and safetensors, as transformers writes it, "
            "or a .gguf file",
        )
    config = families.config_of(read_values(path / families.CONFIG))
    tensors = Safetensors(path)
    unused = {
        name: "follows from rope_theta" for name in tensors.shapes if _FREQUENCIES.fullmatch(name)
    } | _repeated_output(path, config, tensors)
    has_tokenizer = (path / tokenizers.FILE).is_file()
    return _mapped(path, config, tensors, names.TRANSFORMERS, unused, {}, path if has_tokenizer else None)


def _mapped(
    path: Path,
    config: LLMConfig,
    tensors: TensorFiles,
    dialect: Mapping[str, str],
    unused: Mapping[str, str],
    heads: Mapping[str, int],
    tokenizer: Path | None,
) -> Pretrained:
    """With every parameter of ours mapped; FoundryError that lists what is missing and what is left over."""
    # A layer has tensors: a config that claims more layers than there are tensors makes no model.
    if config.decoder.depth > len(tensors.shapes):
        raise FoundryError(
            f"{path} says it has {config.decoder.depth} layers, and holds {len(tensors.shapes)} tensors"
        )
    if problems := list(llm_problems(config)):
        raise FoundryError(f"{path} describes no model: {'; '.join(problems)}")
    ours = parameter_shapes(config)
    source_of = {name: names.name_in(dialect, name) for name in ours}
    back = {there: name for name, there in source_of.items()}
    there = {back.get(name, name): shape for name, shape in tensors.shapes.items() if name not in unused}
    _check_fit(path, ours, there, spell=lambda name: source_of.get(name, name))
    used = {name: why for name, why in unused.items() if name in tensors.shapes}
    return Pretrained(path, config, source_of, used, tokenizer, tensors, heads)


def parameter_shapes(config: LLMConfig) -> dict[str, Shape]:
    """The shape of every parameter that an LLM of this config has."""
    with torch.device("meta"):
        model = LLM(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _check_fit(
    path: Path,
    wanted: Mapping[str, Shape],
    there: Mapping[str, Shape],
    spell: Callable[[str], str] = str,
) -> None:
    """FoundryError that lists every parameter of one side alone and every one of two shapes."""
    problems = [f"{spell(n)} is not there, for {n} {wanted[n]}" for n in wanted if n not in there]
    problems += [f"{n} {there[n]} is there and becomes nothing" for n in there if n not in wanted]
    problems += [
        f"{spell(n)} is {there[n]} there, and {wanted[n]} for {n}"
        for n in wanted
        if n in there and there[n] != wanted[n]
    ]
    if problems:
        shown = "".join(f"\n  {line}" for line in problems[:40])
        more = f"\n  and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise FoundryError(f"the tensors of {path} are not those of the model:{shown}{more}")


def _repeated_output(path: Path, config: LLMConfig, tensors: TensorFiles) -> dict[str, str]:
    """The output matrix that a tied model has beside its embedding; FoundryError if it is another."""
    embedding, output = (names.TRANSFORMERS[n] for n in ("decoder.embedding.weight", "output.weight"))
    if not config.tied or not {embedding, output} <= tensors.shapes.keys():
        return {}
    if not torch.equal(tensors.tensor(embedding), tensors.tensor(output)):
        raise FoundryError(
            f"{path} says tie_word_embeddings, and its {output} is not its {embedding}",
            hint=f'"tie_word_embeddings": false in {path / families.CONFIG}, if both are meant',
        )
    return {output: f"is {embedding}"}
