"""Vision towers of others as ours: a folder of `transformers` or timm to a config and parameters by name.

Every tensor there becomes one of ours or is known to say nothing more, and every one of ours is there.
Shapes: P patches, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.runtime.files import content_hash
from robot_foundry.trainer.models.sizes.sizes import vit_problems
from robot_foundry.trainer.models.vit import ViT, ViTConfig, grid_of, resized_positions
from robot_foundry.trainer.pretrained.families import CONFIG
from robot_foundry.trainer.pretrained.names import kind_of, name_in
from robot_foundry.trainer.pretrained.tensor_files import Safetensors, Shape
from robot_foundry.trainer.pretrained.values import read_values
from robot_foundry.trainer.pretrained.vision_families import PREPROCESSOR, Tower, tower_of

POSITION, BEFORE = "position", "before_embedding"
_THIRDS = ("query", "key", "value")  # of one tensor, where they are joined there


@dataclass(frozen=True)
class PretrainedVision:
    """A vision tower that others trained, of which no weights are in memory.

    config  our config that it is, or that of its first layers
    grid    rows and columns of its positions
    unused  tensors there that become none of ours, and why none is needed
    """

    path: Path
    config: ViTConfig
    grid: tuple[int, int]
    unused: Mapping[str, str]
    _tower: Tower
    _prefix: str
    _tensors: Safetensors

    def cut(self, depth: int) -> PretrainedVision:
        """Its first `depth` layers, and the norm behind the last: so DINOv2 reads layers before the last.

        UsageError if it has fewer.
        """
        if not 1 <= depth <= self.config.depth:
            raise UsageError(f"{self.path} has {self.config.depth} layers, of which {depth} cannot be taken")
        kept = replace(self._tower, config=replace(self._tower.config, depth=depth))
        return _mapped(self.path, kept, self._tensors, self._prefix)

    def shapes(self, image: tuple[int, int]) -> dict[str, Shape]:
        """The shape of each parameter of our ViT for pictures of (height, width) pixels."""
        return parameter_shapes(self.config, image)

    @cached_property
    def id(self) -> str:
        """32 hex digits of all the bytes that its config and weights are in, and of its depth."""
        beside = (self.path / name for name in (CONFIG, PREPROCESSOR))
        files = [*(file for file in beside if file.is_file()), *self._tensors.files]
        hashes = {file.name: content_hash(str(file.parent), file.name) for file in files}
        return digest_of({"files": hashes, "depth": self.config.depth})

    @torch.no_grad()
    def fill(self, parameters: Mapping[str, Tensor], image: tuple[int, int]) -> None:
        """Fill parameters of our ViT for such pictures, given by their names in it, in place."""
        for name, parameter in parameters.items():
            parameter.copy_(self.tensor(name, grid_of(self.config, image)))

    def tensor(self, name: str, grid: tuple[int, int]) -> Tensor:
        """One parameter of our ViT for pictures of this grid of patches, in float32."""
        layout = self._tower.layout
        if name == POSITION:
            position_PD = self._positions()[-self.grid[0] * self.grid[1] :]
            return resized_positions(position_PD, self.grid, grid, layout.antialias)
        if name == BEFORE:
            return self._before()
        tensor = self._tensors.tensor(self._prefix + name_in(layout.names, name))
        third = name.split(".")[-2]
        return tensor.chunk(3)[_THIRDS.index(third)] if layout.joined and third in _THIRDS else tensor

    def told(self) -> list[str]:
        """What became of every tensor there: a line a kind, of how many layers, and one for each unused."""
        times: dict[tuple[str, str], int] = {}
        for name in self.shapes((self.config.patch, self.config.patch)):
            for there in _sources(self._tower, name):
                kind = kind_of(there)[0], kind_of(name)[0]
                times[kind] = times.get(kind, 0) + 1
        lines = [
            f"{self._prefix}{there} → {ours}{f' × {n}' if '{}' in ours else ''}".replace("{}", "N")
            for (there, ours), n in times.items()
        ]
        lines.append(f"{self.grid[0]} × {self.grid[1]} positions, resized to the pictures' grid")
        return [*lines, *(f"{name}: {why}" for name, why in self.unused.items())]

    def _positions(self) -> Tensor:
        return _flat(self._tensors.tensor(self._prefix + self._tower.layout.position))

    def _before(self) -> Tensor:
        """The tokens before the patches, [R, D], with their positions, where they have any."""
        tokens = (self._tensors.tensor(self._prefix + name) for name in _tokens(self._tower))
        before_RD = torch.cat([_flat(token) for token in tokens])
        placed = self._tower.positions - self.grid[0] * self.grid[1]
        before_RD[:placed] += self._positions()[:placed]
        return before_RD


def read_vision(path: Path) -> PretrainedVision:
    """The vision tower in a folder with config.json and safetensors.

    FoundryError if our ViT is no such tower, if the files are damaged, or if tensors are missing or left
    over, which lists those of both sides.
    """
    if not (path / CONFIG).is_file():
        raise FoundryError(
            f"{path} has no {CONFIG}" if path.is_dir() else f"{path} is no folder",
            hint=f"give a folder with {CONFIG} and safetensors, as transformers or timm writes it",
        )
    tensors = Safetensors(path)
    tower = tower_of(path, read_values(path / CONFIG), tensors.shapes)
    stem = tower.layout.names["stem.weight"]
    prefix = next((p for p in tower.layout.prefixes if p + stem in tensors.shapes), "")
    return _mapped(path, tower, tensors, prefix)


def parameter_shapes(config: ViTConfig, image: tuple[int, int]) -> dict[str, Shape]:
    """The shape of every parameter that a ViT of this config has."""
    with torch.device("meta"):
        model = ViT(config, image)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def _mapped(path: Path, tower: Tower, tensors: Safetensors, prefix: str) -> PretrainedVision:
    """With every parameter of ours mapped; FoundryError that lists what is missing and what is left over."""
    if wrong := list(vit_problems(str(path), tower.config)):
        raise FoundryError(f"the tower is none: {'; '.join(wrong)}")
    if tower.layers > len(tensors.shapes):
        raise FoundryError(
            f"{path} says it has {tower.layers} layers, and holds {len(tensors.shapes)} tensors"
        )
    try:
        expected = {prefix + name: shape for name, shape in _expected(tower).items()}
    except (RuntimeError, TypeError, OverflowError) as error:  # a size that PyTorch cannot count
        raise FoundryError(f"{path} describes a tower that is too large: {error}") from error
    unused = {
        name: why
        for name in tensors.shapes
        if name not in expected and (why := _why_unused(name.removeprefix(prefix), tower)) is not None
    }
    there = {name: shape for name, shape in tensors.shapes.items() if name not in unused}
    problems = [f"{name} {shape} is not there" for name, shape in expected.items() if name not in there]
    problems += [f"{n} {s} is there and becomes nothing" for n, s in there.items() if n not in expected]
    problems += [
        f"{name} is {shape} there, and {expected[name]} is expected"
        for name, shape in there.items()
        if name in expected and _bare(shape) != _bare(expected[name])
    ]
    if problems:
        shown = "".join(f"\n  {line}" for line in problems[:40])
        more = f"\n  and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise FoundryError(f"the tensors of {path} are not those of the tower:{shown}{more}")
    return PretrainedVision(path, tower.config, tower.grid, unused, tower, prefix, tensors)


def _expected(tower: Tower) -> dict[str, Shape]:
    """The shape of every tensor there that becomes something."""
    config, layout = tower.config, tower.layout
    shapes: dict[str, Shape] = {}
    for name, shape in parameter_shapes(config, (config.patch, config.patch)).items():
        if name == POSITION:
            shapes[layout.position] = (tower.positions, config.width)
        elif name == BEFORE:
            shapes |= {there: (number, config.width) for there, number in _tokens(tower).items()}
        else:
            joined = layout.joined and name.split(".")[-2] in _THIRDS
            shapes[name_in(layout.names, name)] = (3 * shape[0], *shape[1:]) if joined else shape
    return shapes


def _sources(tower: Tower, name: str) -> list[str]:
    """What there becomes a parameter of ours."""
    if name == POSITION:
        return [tower.layout.position]
    return [*_tokens(tower)] if name == BEFORE else [name_in(tower.layout.names, name)]


def _tokens(tower: Tower) -> dict[str, int]:
    """The tensors there of tokens before the patches, in their order, and how many each has."""
    layout, config = tower.layout, tower.config
    every = (layout.class_token, int(config.class_token)), (layout.registers, config.registers)
    return {there: number for there, number in every if there is not None and number}


def _why_unused(name: str, tower: Tower) -> str | None:
    """Why a tensor there becomes nothing; None where nothing says why."""
    layout, (kind, layer) = tower.layout, kind_of(name)
    if kind in layout.names.values() and layer and tower.config.depth <= int(layer) < tower.layers:
        return f"is of layer {layer}, and the first {tower.config.depth} are taken"
    return next((why for start, why in layout.unused.items() if name.startswith(start)), None)


def _bare(shape: Shape) -> Shape:
    """A shape without leading axes of 1."""
    return _bare(shape[1:]) if shape[:1] == (1,) else shape


def _flat(tensor: Tensor) -> Tensor:
    """Vectors [N, D] of a tensor whose last axis is D."""
    return tensor.reshape(-1, tensor.shape[-1])
