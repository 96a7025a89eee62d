"""Copies of a run's checkpoints in an object store: each whole, or not there.

    <url>/step-00001200-<nonce>/…     its files, as in the folder of the checkpoint
    <url>/step-00001200.json          {"folder", "manifest"}: which they are, and the hash of their manifest
    <url>/best.json                   {"step", "held_out"} of the best, in runs that keep it

The last is created when all others are there. Files that none names are those of a copy that was cut off,
and are removed before the next one. A URL is that of one run.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

import filelock

from robot_foundry.runtime import files
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.storage.storage import OBJECT_STORES, open_storage
from robot_foundry.trainer.checkpoints import proof
from robot_foundry.trainer.checkpoints.proof import MANIFEST, TornCheckpoint, step_name

CACHED = 4  # checkpoints that the cache keeps, those that were used last
_BEST = "best.json"
_COMMIT = re.compile(r"step-(\d{8,})\.json")
_URL = re.compile(rf"({'|'.join(OBJECT_STORES)}):/{{1,2}}([^/].*)")


def url_of(place: Path | str) -> str | None:
    """The URL that `place` is, None where it is a local path. A `Path` of a URL has lost one slash."""
    url = _URL.fullmatch(str(place))
    return None if url is None else f"{url[1]}://{url[2].rstrip('/')}"


class Replica:
    """The copies at one URL."""

    def __init__(self, url: str) -> None:
        self.url, self._storage = url, open_storage(url)

    def steps(self) -> dict[int, str]:
        """The object that names the copy, by step. FoundryError where the store does not answer."""
        named = {status.path: _COMMIT.fullmatch(status.path) for status in files.walk(self.url)}
        return {int(match[1]): path for path, match in named.items() if match}

    def begin(self, step: int) -> str:
        """The folder for a copy of this step, in place of one that is there and of what was cut off."""
        self.remove(step)
        named = {step_name(other) for other in self.steps()}
        for path in self._storage.list():
            folder, inside, _ = path.partition("/")
            if inside and folder.rpartition("-")[0] not in named:
                self._storage.delete(path)
        return f"{step_name(step)}-{secrets.token_hex(8)}"

    def put(self, folder: str, checkpoint: Path, names: Iterable[str]) -> None:
        """Copy files of a checkpoint."""
        for name in names:
            self._storage.put(f"{folder}/{name}", checkpoint / name)
            kill_point("checkpoint-file-copied")

    def finish(self, folder: str, checkpoint: Path) -> None:
        """Name the copy, of which all files are there."""
        manifest = proof.digest(proof.read_manifest(checkpoint))
        commit = json.dumps({"folder": folder, "manifest": manifest}) + "\n"
        kill_point("checkpoint-copied-not-named")
        if not self._storage.create(f"{checkpoint.name}.json", commit.encode()):
            raise FoundryError(
                f"another run wrote {self.url}/{checkpoint.name} just now",
                hint="give each run its own run.checkpoints=URL",
            )

    def remove(self, step: int) -> None:
        """Delete the copy of a step, if there is one; first what names it."""
        path = self.steps().get(step)
        if path is None:
            return
        folder = self._folder(step)
        self._storage.delete(path)
        for file in () if folder is None else self._storage.list(folder):
            self._storage.delete(file)

    def best(self) -> dict[int, float]:
        """The step that was named the best and its held-out loss; empty where none was."""
        try:
            named = json.loads(files.read_bytes(self.url, _BEST))
            return {int(named["step"]): float(named["held_out"])}
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return {}

    def name_best(self, step: int, held_out: float) -> None:
        """Name the best, for a run that goes on where none of its records are."""
        self._storage.write(_BEST, (json.dumps({"step": step, "held_out": held_out}) + "\n").encode())

    def fetch(self, step: int, into: Path) -> Path:
        """The copy of a step as a folder in `into`, in place of one that is there. All that was read is what
        was written, else TornCheckpoint."""
        final, commit = into / step_name(step), self._read(step)
        partial = final.with_name(f"{final.name}-{secrets.token_hex(4)}.tmp")
        root = f"{self.url}/{commit['folder']}"
        try:
            files.download(root, MANIFEST, partial / MANIFEST)
            listed = proof.read_manifest(partial)
            changed = [] if proof.digest(listed) == commit["manifest"] else [MANIFEST]
            for name, entry in listed.items():
                if files.download(root, name, partial / name) != entry["blake3"]:
                    changed.append(name)
            if changed:
                raise self._torn(step, f"the bytes of {changed[0]} have changed")
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
        except FileNotFoundError as error:
            raise self._torn(step, f"{error} is missing") from error
        except TornCheckpoint as error:
            raise self._torn(step, error.message.rpartition(": ")[2]) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return final

    def cached(self, step: int) -> Path:
        """The copy of a step in the user's cache, which keeps those that were used last."""
        cache = (
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robot_foundry" / "checkpoints"
        )
        folder = cache / digest_of(self.url)
        found = folder / step_name(step)
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(cache / ".lock"):  # ranks want the same at once
            if not self._is_whole(found, step):
                self.fetch(step, folder)
            os.utime(found)
            used = sorted(cache.glob("*/step-*"), key=lambda path: path.stat().st_mtime_ns)
            for old in used[:-CACHED]:
                shutil.rmtree(old)
        return found

    def _is_whole(self, found: Path, step: int) -> bool:
        try:
            return found.is_dir() and proof.prove(found) == self._read(step)["manifest"]
        except TornCheckpoint:
            return False

    def _folder(self, step: int) -> str | None:
        """Where the files of a copy are; None where what names them is damaged."""
        try:
            return self._read(step)["folder"]
        except TornCheckpoint:
            return None

    def _read(self, step: int) -> dict[str, str]:
        try:
            commit = json.loads(files.read_bytes(self.url, f"{step_name(step)}.json"))
            return {"folder": str(commit["folder"]), "manifest": str(commit["manifest"])}
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise self._torn(step, f"{step_name(step)}.json names no files") from error

    def _torn(self, step: int, what: str) -> TornCheckpoint:
        return proof.torn(f"{self.url}/{step_name(step)}", what)
