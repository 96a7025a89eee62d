"""Tensors of files that others wrote, by name, one at a time: safetensors, whole or in parts, and GGUF.

Both hold numbers alone; nothing in them is run. Their readers check what a header promises against the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.tokens.gguf import metadata, open_gguf, reading
from robot_foundry.trainer.pretrained.values import Values, read_values

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
Shape = tuple[int, ...]


class TensorFiles(Protocol):
    """Tensors by name, and the files that hold them."""

    @property
    def files(self) -> tuple[Path, ...]: ...
    @property
    def shapes(self) -> Mapping[str, Shape]: ...

    def tensor(self, name: str) -> Tensor:
        """A tensor in float32."""
        ...


class Safetensors:
    """`model.safetensors` of a folder, or the parts that its index names.

    FoundryError if there is none, if one is damaged, or if the index and the parts do not hold the same.
    """

    def __init__(self, folder: Path) -> None:
        index = folder / INDEX
        listed = _weight_map(index) if index.exists() else None
        self.files = _files(folder, listed)
        self._file_of: dict[str, Path] = {}
        shapes: dict[str, Shape] = {}
        for file in self.files:
            for name, shape in _header(file).items():
                if name in shapes:
                    raise FoundryError(f"{name} is in {self._file_of[name].name} and in {file}")
                shapes[name], self._file_of[name] = shape, file
        self.shapes: Mapping[str, Shape] = shapes
        held = {name: path.name for name, path in self._file_of.items()}
        if listed is not None and (odd := sorted({*listed.items()} ^ {*held.items()})):
            raise FoundryError(
                f"{index} and its parts do not hold the same tensors: {some([name for name, _ in odd])}",
                hint="copy the whole folder again",
            )

    def tensor(self, name: str) -> Tensor:
        file = self._file_of[name]
        with _reading(file), safetensors(file).safe_open(file, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
        return tensor.float()


class Gguf:
    """A GGUF file: `metadata`, and tensors, which are dequantised when they are asked for.

    FoundryError if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        reader = open_gguf(path)
        self.files = (path,)
        self.metadata = Values(str(path), metadata(reader, path))
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        # Dimensions are stored innermost first.
        self.shapes: Mapping[str, Shape] = {
            name: tuple(int(size) for size in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
        }

    def tensor(self, name: str) -> Tensor:
        from gguf.quants import dequantize

        stored = self._tensors[name]
        with reading(self.files[0]):
            values = dequantize(stored.data, stored.tensor_type)
            return torch.tensor(values, dtype=torch.float32).reshape(self.shapes[name])


def safetensors(path: Path) -> ModuleType:
    """The package that reads and writes `path`. FoundryError if it is not installed."""
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise FoundryError(
            f"{path} needs the package safetensors, which is not installed",
            hint="pip install 'robot-foundry[hf]'",
        ) from error
    return safetensors


def some(names: list[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _files(folder: Path, listed: Mapping[str, str] | None) -> tuple[Path, ...]:
    if listed is not None:
        files = tuple(folder / name for name in sorted(set(listed.values())))
        if missing := [file.name for file in files if not file.is_file()]:
            raise FoundryError(f"{folder} lacks {some(missing)}, which {INDEX} names")
        return files
    if (folder / WHOLE).is_file():
        return (folder / WHOLE,)
    pickled = sorted(file.name for file in folder.glob("*.bin"))
    but = f", but {some(pickled)}, which is pickled and never read" if pickled else ""
    raise FoundryError(
        f"{folder} has neither {WHOLE} nor {INDEX}{but}",
        hint="save the model with save_pretrained of transformers, which writes safetensors",
    )


def _weight_map(index: Path) -> Mapping[str, str]:
    """The part that holds each tensor."""
    part_of = read_values(index).section("weight_map").stated
    if not part_of:
        raise FoundryError(f"{index} has no weight_map")
    for name, part in part_of.items():
        if not isinstance(part, str) or not _PART.fullmatch(part):
            raise FoundryError(f"{index}: {name} is in {part!r}, which names no safetensors of its folder")
    return part_of


def _header(file: Path) -> dict[str, Shape]:
    with _reading(file), safetensors(file).safe_open(file, framework="pt") as opened:
        parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
        types = {name: part.get_dtype() for name, part in parts.items()}
        shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
    for name, kind in types.items():
        if kind not in FLOATS:
            raise FoundryError(
                f"{file}: {name} is stored as {kind}, which is none of {', '.join(FLOATS)}",
                hint="use the weights as they were before they were quantised, or a GGUF",
            )
    return shapes


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Around what reads a file from anywhere: a damaged one may raise anything."""
    try:
        yield
    except FoundryError:
        raise
    except Exception as error:
        raise FoundryError(f"{file} cannot be read: {error}", hint="copy it again") from error
