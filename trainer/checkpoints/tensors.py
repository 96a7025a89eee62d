"""Reading the tensors of a checkpoint, by torch.distributed.checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints.safe_reader import SafeReader

MODEL, EMA, OPTIM, SPIKES = "model/", "ema/", "optim/", "spikes/"  # what names of tensors begin with


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint that are used, by parameter.

    averaged  whether they are averages, where they have any: what is frozen is its own average, and kept once
    places    what each is called in the checkpoint
    """

    averaged: bool
    places: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a checkpoint."""
    stored = SafeReader(checkpoint).read_metadata().state_dict_metadata
    return {name: tuple(item.size) for name, item in stored.items() if hasattr(item, "size")}


def weights(checkpoint: Path) -> Weights:
    """Those that are used: averages where there are any, else the weights themselves."""
    stored = shapes(checkpoint)
    here, averages = (
        {name.removeprefix(kind): name for name in stored if name.startswith(kind)} for kind in (MODEL, EMA)
    )
    places = {**here, **averages}
    return Weights(bool(averages), places, {name: stored[place] for name, place in places.items()})


def load(checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors` in place from the checkpoint; a missing or misshapen one raises FoundryError."""
    reader, stored = SafeReader(checkpoint), shapes(checkpoint)
    for name, tensor in tensors.items():
        size = stored.get(name)
        if size != tensor.shape:
            have = "has no" if size is None else f"has {size} for"
            raise FoundryError(f"{checkpoint} {have} {name}, the model needs {tuple(tensor.shape)}")
    with _one_sentence(checkpoint):
        load_distributed(dict(tensors), storage_reader=reader, no_dist=True)


def fill(checkpoint: Path, parameters: Mapping[str, Tensor]) -> None:
    """Fill parameters, given by name, in place from the weights that are used of the checkpoint."""
    places = weights(checkpoint).places
    load(checkpoint, {places.get(name, f"{MODEL}{name}"): tensor for name, tensor in parameters.items()})


@contextmanager
def _one_sentence(checkpoint: Path) -> Iterator[None]:
    """Around what DCP does with a checkpoint: its failures are FoundryErrors of one sentence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            yield
        except CheckpointException as error:
            rank, (cause, _) = next(iter(error.failures.items()))
            raise FoundryError(f"{checkpoint}: rank {rank} failed: {cause}") from error
