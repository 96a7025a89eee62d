"""Checkpoints: a folder a step, complete or absent, with all that resuming and a policy need.

    <run>/checkpoints/step-00001200/
        .metadata  __0_0.distcp …    tensors (torch.distributed.checkpoint): model/…, ema/…, optim/…
        state.json                   step, identity of the run, skipped steps, what its bits depend on
        config.yaml  normalizer.json  tokenizer.json  spaces.json  lineage.json  robots.json
        manifest.json                size and hash of every other file, and of itself

It is written as step-….tmp and renamed, so a folder without that suffix was whole; `prove` says if it is.
There may be copies in an object store (see `replica`).
Here is what finds and reads one without its tensors, and without PyTorch.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.trainer.checkpoints import proof
from robot_foundry.trainer.checkpoints.proof import NAME, TornCheckpoint
from robot_foundry.trainer.checkpoints.replica import Replica, url_of

STATE = "state.json"
FOLDER = "checkpoints"  # in that of a run
FORMAT = 2  # from 2 on there is a manifest


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
    steps = complete(run_dir)
    return steps[max(steps)] if steps else None


def complete(run_dir: Path) -> dict[int, Path]:
    """Checkpoints by step that were written to their end. FoundryError if the folder cannot be listed."""
    folder = run_dir / FOLDER
    try:
        named = {name: NAME.fullmatch(name) for name in os.listdir(folder)}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise proof.unreadable(folder, error) from error
    return {int(match[1]): folder / name for name, match in named.items() if match}


def newest_whole(run_dir: Path, replica: Replica | None = None) -> Whole | None:
    """The proven checkpoint of the highest step, or None if there is none at all.

    Where `replica` has a newer one, or that step whole, it is fetched into the run's folder. FoundryError
    where there are some and none is whole, or where one cannot be read.
    """
    here, there = complete(run_dir), {} if replica is None else replica.steps()
    passed_over: list[str] = []
    for step in sorted({*here, *there}, reverse=True):
        if step in here:
            try:
                return Whole(here[step], prove(here[step]), tuple(passed_over))
            except TornCheckpoint as error:
                if here[step].exists():  # else its run has deleted it just now
                    passed_over.append(error.message)
        if replica is not None and step in there:
            try:
                fetched = replica.fetch(step, run_dir / FOLDER)
                return Whole(fetched, prove(fetched), tuple(passed_over))
            except TornCheckpoint as error:
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
    named, state = NAME.fullmatch(folder.name), read_json(folder, STATE)
    if state["format"] > FORMAT:
        raise FoundryError(
            f"the checkpoint {folder} has the format {state['format']}, this version reads up to {FORMAT}",
            hint="use the version of robot-foundry that wrote it, or a newer one",
        )
    if named and int(named[1]) != state["step"]:
        raise proof.torn(folder, f"it is the checkpoint of step {state['step']}")
    return manifest


def find(path: Path | str) -> Path:
    """The checkpoint meant by `path`, proven: the folder itself, what a pointer names, the newest of a run.

    At the URL of a run's checkpoints in an object store, or of one of them, it is a copy in the user's cache.
    FoundryError if that folder is not whole; of a run an older one is taken then, with a FoundryWarning.
    """
    url = url_of(path)
    if url is not None:
        return _fetched(url)
    path = Path(path)
    if path.is_file():
        path = _pointed(path)
    if _is_checkpoint(path):
        try:
            prove(path)
        except TornCheckpoint as error:
            parent = path.resolve().parent
            if parent.name == FOLDER:
                error.hint = f"give the run, {parent.parent}, for its newest whole checkpoint"
            raise
        return path
    newest = newest_whole(path)
    if newest is None:
        what = "holds no complete checkpoint" if path.is_dir() else "does not exist"
        raise FoundryError(f"{path} {what}", hint="foundry-train writes one under RUN/checkpoints")
    for reason in newest.passed_over:
        warnings.warn(f"{reason}; {newest.folder.name} is used instead", FoundryWarning, stacklevel=2)
    return newest.folder


def _fetched(url: str) -> Path:
    """The newest whole checkpoint at the URL, or the one that it names, in the cache."""
    named = NAME.fullmatch(url.rpartition("/")[2])
    replica = Replica(url.rpartition("/")[0] if named else url)
    steps = [step for step in sorted(replica.steps(), reverse=True) if not named or step == int(named[1])]
    torn: list[str] = []
    for step in steps:
        try:
            fetched = replica.cached(step)
            prove(fetched)
        except TornCheckpoint as error:
            torn.append(error.message)
            continue
        for reason in torn:
            warnings.warn(f"{reason}; {fetched.name} is used instead", FoundryWarning, stacklevel=3)
        return fetched
    if torn:
        raise TornCheckpoint("; ".join(torn))
    raise FoundryError(
        f"{url} holds no complete checkpoint", hint="foundry-train … run.checkpoints=URL writes some"
    )


def run_of(folder: Path) -> Path | None:
    """The folder of the run whose checkpoint this is; None where it lies in none."""
    absolute = folder if folder.parent.name == FOLDER else folder.resolve()
    return absolute.parent.parent if absolute.parent.name == FOLDER else None


def weights_id(state: Mapping[str, Any]) -> str:
    """By its state.json, equal for checkpoints of equal weights: those of one identity at one step."""
    return digest_of({"identity": state["identity"], "step": state["step"]})


def _is_checkpoint(path: Path) -> bool:
    named = NAME.fullmatch(path.name) is not None
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


def write_pointer(path: Path, checkpoint: Path, **facts: str | float) -> None:
    """Name `checkpoint` in a few lines of JSON, for git and pipeline tools; equal runs give equal bytes.

    The file appears whole.
    """
    content = {"checkpoint": checkpoint.as_posix(), **facts}
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    open_storage(path.parent).write(path.name, text.encode())


def _pointed(pointer: Path) -> Path:
    try:
        named = Path(json.loads(pointer.read_text(encoding="utf-8"))["checkpoint"])
        beside = pointer.resolve().parent / FOLDER / named.name
        # That of a run may have moved with it, or been relative to where the run was started.
        return beside if not named.exists() and beside.is_dir() else named
    except (ValueError, KeyError, TypeError) as error:
        raise FoundryError(
            f"{pointer} is no pointer file: it names no checkpoint",
            hint="give a run's folder, a checkpoint, or what foundry-train … --pointer FILE wrote",
        ) from error


def read_json(checkpoint: Path, name: str) -> Any:
    """One of the readable files of a checkpoint."""
    try:
        return json.loads((checkpoint / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(f"{checkpoint / name} cannot be read: {error}") from error


def remove(folder: Path) -> None:
    """Delete a checkpoint. It is renamed first: one half deleted must not look whole."""
    trash = folder.with_name(f".trash-{folder.name}")
    shutil.rmtree(trash, ignore_errors=True)
    folder.rename(trash)
    kill_point("checkpoint-removing")
    shutil.rmtree(trash)
