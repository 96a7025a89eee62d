"""Writing a checkpoint, proven and whole, and reading its tensors, by torch.distributed.checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from robot_foundry.runtime.durable import sync
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.trainer.checkpoints import proof
from robot_foundry.trainer.checkpoints.checkpoint import FORMAT, STATE, remove
from robot_foundry.trainer.checkpoints.safe_reader import SafeReader
from robot_foundry.trainer.ranks.ranks import Ranks

MODEL, EMA, OPTIM = "model/", "ema/", "optim/"  # what names of tensors begin with


@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint that are used, by parameter.

    averaged  whether they are averages, where they have any: what is frozen is its own average, and kept once
    places    what each is called in the checkpoint
    """

    averaged: bool
    places: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def save(
    run_dir: Path,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    files: Mapping[str, str],
    ranks: Ranks,
) -> Path:
    """Write the checkpoint of `state["step"]`, in place of one that is there.

    All ranks call this, and all see it when it returns. Each rank hashes the files that it wrote itself; the
    readable `files` are those of the main rank.
    """
    final = run_dir / "checkpoints" / f"step-{state['step']:08d}"
    partial = final.with_name(final.name + ".tmp")
    if ranks.is_main:
        for stale in (*final.parent.glob("*.tmp"), *final.parent.glob(".trash-*")):
            shutil.rmtree(stale)
        partial.mkdir(parents=True)
    ranks.barrier()
    with _one_sentence(partial):
        save_distributed(dict(tensors), storage_writer=FileSystemWriter(partial), no_dist=ranks.size == 1)
    written = [path.name for path in partial.glob(f"__{ranks.rank}_*.distcp")]
    parts: list[proof.Entries] = ranks.gather(proof.entries(partial, written))
    if ranks.is_main:
        texts = {**files, STATE: json.dumps({"format": FORMAT, **state}, indent=1)}
        for name, text in texts.items():
            _write_synced(partial / name, text)
        listed = {name: entry for part in parts for name, entry in part.items()}
        listed |= proof.entries(partial, [".metadata", *texts])
        proof.check_present(partial, listed)
        _write_synced(partial / proof.MANIFEST, proof.manifest_text(listed))
        sync(partial)
        kill_point("checkpoint-written-not-renamed")
        if final.exists():  # one that was passed over, as it is not whole
            remove(final)
        partial.rename(final)
        sync(final.parent)
    ranks.barrier()
    return final


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


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
