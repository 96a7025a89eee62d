"""Checkpoints: a folder a step, complete or absent, with all that resuming and a policy need.

    <run>/checkpoints/step-00001200/
        .metadata  __0_0.distcp …    tensors (torch.distributed.checkpoint): model/…, ema/…, optim/…
        state.json                   step, identity of the run, skipped steps, what its bits depend on
        config.yaml  normalizer.json  tokenizer.json  spaces.json  lineage.json  robots.json
        manifest.json                size and hash of every other file, and of itself

It is written as step-….tmp and renamed, so a folder without that suffix was whole; `prove` says if it is.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.trainer.checkpoints import proof
from robot_foundry.trainer.checkpoints.proof import TornCheckpoint
from robot_foundry.trainer.ranks.ranks import World

STATE = "state.json"
FORMAT = 2  # from 2 on there is a manifest
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


@dataclass(frozen=True)
class Whole:
    """A checkpoint that is proven to be what was written.

    `manifest` is the hash of its manifest, None where it is older than manifests. `passed_over` says of each
    newer one of the run what is wrong with it.
    """

    folder: Path
    manifest: str | None
    passed_over: tuple[str, ...] = ()


def latest(run_dir: Path) -> Path | None:
    """The checkpoint of the highest step in a run's folder, or None; it is not proven."""
    found = complete(run_dir)
    return found[max(found)] if found else None


def complete(run_dir: Path) -> dict[int, Path]:
    """Checkpoints by step that were written to their end. FoundryError if the folder cannot be listed."""
    folder = run_dir / "checkpoints"
    try:
        named = {name: _NAME.fullmatch(name) for name in os.listdir(folder)}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise proof.unreadable(folder, error) from error
    return {int(match[1]): folder / name for name, match in named.items() if match}


def newest_whole(run_dir: Path) -> Whole | None:
    """The proven checkpoint of the highest step, or None if there is none at all.

    FoundryError where there are some and none is whole, or where one cannot be read.
    """
    passed_over: list[str] = []
    for _, folder in sorted(complete(run_dir).items(), reverse=True):
        try:
            return Whole(folder, prove(folder), tuple(passed_over))
        except TornCheckpoint as error:
            if folder.exists():  # else its run has deleted it just now
                passed_over.append(error.message)
    if passed_over:
        raise FoundryError(
            f"no checkpoint of {run_dir} is whole: {'; '.join(passed_over)}",
            hint="restore one of them from a copy, or train elsewhere with run.dir=…",
        )
    return None


def prove(folder: Path) -> str | None:
    """The hash of the manifest if all is as it was written. None, with a warning, if older than manifests.

    TornCheckpoint says what has changed; FoundryError what cannot be read, or is of a newer format.
    """
    if _lacks_manifest(folder):
        warnings.warn(
            f"{folder} was written before checkpoints had a manifest: nothing proves that it is whole",
            FoundryWarning,
            stacklevel=2,
        )
        return None
    manifest = proof.prove(folder)
    named, state = _NAME.fullmatch(folder.name), read_json(folder, STATE)
    if state["format"] > FORMAT:
        raise FoundryError(
            f"the checkpoint {folder} has the format {state['format']}, this version reads up to {FORMAT}",
            hint="use the version of robot-foundry that wrote it, or a newer one",
        )
    if named and int(named[1]) != state["step"]:
        raise proof.torn(folder, f"it is the checkpoint of step {state['step']}")
    return manifest


def find(path: Path) -> Path:
    """The checkpoint meant by `path`, proven: the folder itself, what a pointer names, the newest of a run.

    FoundryError if that folder is not whole; of a run an older one is taken then, with a FoundryWarning.
    """
    if path.is_file():
        path = _pointed(path)
    if _is_checkpoint(path):
        try:
            prove(path)
        except TornCheckpoint as error:
            parent = path.resolve().parent
            if parent.name == "checkpoints":
                error.hint = f"give the run, {parent.parent}, for its newest whole checkpoint"
            raise
        return path
    found = newest_whole(path)
    if found is None:
        what = "holds no complete checkpoint" if path.is_dir() else "does not exist"
        raise FoundryError(f"{path} {what}", hint="foundry-train vla writes one under RUN/checkpoints")
    for reason in found.passed_over:
        warnings.warn(f"{reason}; {found.folder.name} is used instead", FoundryWarning, stacklevel=2)
    return found.folder


def _is_checkpoint(path: Path) -> bool:
    named = _NAME.fullmatch(path.name) is not None
    return path.is_dir() and (named or any((path / name).is_file() for name in (STATE, proof.MANIFEST)))


def _lacks_manifest(folder: Path) -> bool:
    """Whether it is older than manifests. One that lost its manifest says in its state that it had one."""
    try:
        if (folder / proof.MANIFEST).exists():
            return False
        state = json.loads((folder / STATE).read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise proof.unreadable(folder, error) from error
    return isinstance(state, dict) and {"step", "identity"} <= state.keys() and "format" not in state


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
    """Write the checkpoint of `state["step"]`, in place of one that is there.

    All ranks call this, and all see it when it returns. Each rank hashes the files that it wrote itself; the
    readable `files` are those of the main rank.
    """
    final = run_dir / "checkpoints" / f"step-{state['step']:08d}"
    partial = final.with_name(final.name + ".tmp")
    if world.is_main:
        for stale in (*final.parent.glob("*.tmp"), *final.parent.glob(".trash-*")):
            shutil.rmtree(stale)
        partial.mkdir(parents=True)
    world.barrier()
    with _told(partial):
        save_distributed(dict(tensors), storage_writer=FileSystemWriter(partial), no_dist=world.size == 1)
    own = [path.name for path in partial.glob(f"__{world.rank}_*.distcp")]
    parts: list[proof.Entries] = world.gather(proof.entries(partial, own))
    if world.is_main:
        texts = {**files, STATE: json.dumps({"format": FORMAT, **state}, indent=1)}
        for name, text in texts.items():
            _write_synced(partial / name, text)
        listed = {name: entry for part in parts for name, entry in part.items()}
        listed |= proof.entries(partial, [".metadata", *texts])
        proof.check_present(partial, listed)
        _write_synced(partial / proof.MANIFEST, proof.manifest_text(listed))
        _sync_folder(partial)
        kill_point("checkpoint-written-not-renamed")
        if final.exists():  # one that was passed over, as it is not whole
            _remove(final)
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
    with _told(checkpoint):
        load_distributed(dict(tensors), storage_reader=reader, no_dist=True)


def retain(run_dir: Path, step: int, *, keep_last: int, keep_every: int | None) -> None:
    """Delete checkpoints that are neither among the last nor at a multiple of `keep_every` steps.

    `step` was just written: those beyond it were passed over when the run resumed, so they do not count.
    """
    found = {at: folder for at, folder in complete(run_dir).items() if at <= step}
    for at in sorted(found)[:-keep_last]:
        if keep_every is None or at % keep_every:
            _remove(found[at])


@contextmanager
def _told(checkpoint: Path) -> Iterator[None]:
    """Around what DCP does with a checkpoint: its failures are FoundryErrors of one sentence."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            yield
        except CheckpointException as error:
            rank, (cause, _) = next(iter(error.failures.items()))
            raise FoundryError(f"{checkpoint}: rank {rank} failed: {cause}") from error


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
