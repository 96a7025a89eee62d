"""Checkpoints: a folder a step, complete or absent, with all that resuming and a policy need.

    <run>/checkpoints/step-00001200/
        .metadata  __0_0.distcp …    tensors (torch.distributed.checkpoint): model/…, ema/…, optim/…
        state.json                   step, identity of the run, skipped steps
        config.yaml  normalizer.json  tokenizer.json  spaces.json  lineage.json  robots.json

It is written as step-….tmp and renamed, so a folder without that suffix is whole.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.trainer.parallel import World

STATE = "state.json"
_NAME = re.compile(r"step-(\d{8,})")
_PART = re.compile(r"[A-Za-z0-9_]+\.distcp")
_SAFE_GLOBALS = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
            "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
        )
    ),
}  # fmt: skip


class _MetadataUnpickler(pickle.Unpickler):
    """Builds the classes of a checkpoint's metadata and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _SAFE_GLOBALS:
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


class SafeReader(FileSystemReader):
    """Reader of checkpoints from anywhere: metadata runs no code, and data lies in the folder itself."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = Path(self.path) / ".metadata"
        try:
            with path.open("rb") as file:
                metadata = _MetadataUnpickler(file).load()
        except Exception as error:  # a damaged pickle may raise anything
            raise FoundryError(
                f"{path} is refused: {error}", hint="use a checkpoint that you trust"
            ) from error
        stored = getattr(metadata, "storage_data", None)
        if not isinstance(metadata, Metadata) or not isinstance(stored, dict):
            raise FoundryError(f"{path} is refused: it is not the metadata of a checkpoint")
        for info in stored.values():
            if not _PART.fullmatch(str(info.relative_path)) or info.transform_descriptors:
                raise FoundryError(f"{path} is refused: it points to {info.relative_path!r}")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def latest(run_dir: Path) -> Path | None:
    """The complete checkpoint of the highest step in a run's folder, or None."""
    found = complete(run_dir)
    return found[max(found)] if found else None


def complete(run_dir: Path) -> dict[int, Path]:
    """Complete checkpoints by step."""
    named = {path: _NAME.fullmatch(path.name) for path in (run_dir / "checkpoints").glob("step-*")}
    return {int(match[1]): path for path, match in named.items() if match and (path / STATE).is_file()}


def find(path: Path) -> Path:
    """The checkpoint meant by `path`: the folder itself, the latest of a run, or what a pointer names."""
    if path.is_file():
        path = _pointed(path)
    if (path / STATE).is_file():
        return path
    found = latest(path)
    if found is None:
        what = "holds no complete checkpoint" if path.is_dir() else "does not exist"
        raise FoundryError(f"{path} {what}", hint="foundry-train vla writes one under RUN/checkpoints")
    return found


def write_pointer(path: Path, checkpoint: Path, **facts: str | int) -> None:
    """Name `checkpoint` in a few lines of JSON, for git and pipeline tools; equal runs give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"checkpoint": checkpoint.as_posix(), **facts}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _pointed(pointer: Path) -> Path:
    try:
        return Path(json.loads(pointer.read_text(encoding="utf-8"))["checkpoint"])
    except (ValueError, KeyError, TypeError) as error:
        raise FoundryError(
            f"{pointer} names no checkpoint", hint="foundry-train vla --pointer FILE writes one that does"
        ) from error


def read_json(checkpoint: Path, name: str) -> Any:
    """One of the readable files of a checkpoint."""
    try:
        return json.loads((checkpoint / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(f"{checkpoint / name} cannot be read: {error}") from error


def save(
    run_dir: Path,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    files: Mapping[str, str],
    world: World,
) -> Path:
    """Write the checkpoint of `state["step"]` unless it is there.

    All ranks call this, and all see it when it returns.
    """
    final = run_dir / "checkpoints" / f"step-{state['step']:08d}"
    partial = final.with_name(final.name + ".tmp")
    if (final / STATE).is_file():
        return final
    if world.is_main:
        for stale in (*final.parent.glob("*.tmp"), *final.parent.glob(".trash-*")):
            shutil.rmtree(stale)
        partial.mkdir(parents=True)
    world.barrier()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        save_distributed(dict(tensors), storage_writer=FileSystemWriter(partial), no_dist=world.size == 1)
    if world.is_main:
        for name, text in {**files, STATE: json.dumps(state, indent=1)}.items():
            _write_synced(partial / name, text)
        kill_point("checkpoint-written-not-renamed")
        partial.rename(final)
        _sync_folder(final.parent)
    world.barrier()
    return final


def shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a checkpoint."""
    stored = SafeReader(checkpoint).read_metadata().state_dict_metadata
    return {name: tuple(item.size) for name, item in stored.items() if hasattr(item, "size")}


def load(checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors` in place from the checkpoint; a missing or misshapen one raises FoundryError."""
    reader, stored = SafeReader(checkpoint), shapes(checkpoint)
    for name, tensor in tensors.items():
        size = stored.get(name)
        if size != tensor.shape:
            have = "has no" if size is None else f"has {size} for"
            raise FoundryError(f"{checkpoint} {have} {name}, the model needs {tuple(tensor.shape)}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load_distributed(dict(tensors), storage_reader=reader, no_dist=True)


def retain(run_dir: Path, *, keep_last: int, keep_every: int | None) -> None:
    """Delete checkpoints that are neither among the last nor at a multiple of `keep_every` steps."""
    found = complete(run_dir)
    for step in sorted(found)[:-keep_last]:
        if keep_every is None or step % keep_every:
            _remove(found[step])


def _remove(folder: Path) -> None:
    # Renamed first: a checkpoint half deleted must not look whole.
    trash = folder.with_name(f".trash-{folder.name}")
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    shutil.rmtree(trash)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
