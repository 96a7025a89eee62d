"""What proves a checkpoint: a manifest of the size and the BLAKE3 of each of its files.

It is written before the rename that makes the checkpoint visible and holds a hash of itself, so any bit that
changed afterwards, in any file that it names, is found.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.files import content_hash

MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{8,})")  # what a checkpoint is called; `step_name` gives it
Entries = Mapping[str, Mapping[str, Any]]  # by file name: {"blake3", "size"}


class TornCheckpoint(FoundryError):
    """Files of a checkpoint are not those that were written: changed, cut off, missing or of another one."""


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def entries(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What a manifest says of these files. Each is read once, in blocks."""
    return {name: {"blake3": content_hash(str(folder), name), "size": _size(folder, name)} for name in names}


def manifest_text(files: Entries) -> str:
    """The manifest of files, with the hash of itself."""
    listed = {name: dict(files[name]) for name in sorted(files)}
    return json.dumps({"blake3": digest(listed), "files": listed}, indent=1) + "\n"


def check_present(folder: Path, files: Entries) -> None:
    """FoundryError unless each file lies in `folder` with its size, as they do if all ranks share it."""
    for name, entry in files.items():
        if not (folder / name).is_file() or _size(folder, name) != entry["size"]:
            raise FoundryError(
                f"{folder / name} was written by a rank, but the main rank does not see it so",
                hint="run.dir must be one folder that all ranks share",
            )


def prove(folder: Path) -> str:
    """The manifest's hash, which is equal for equal checkpoints, once every file is what was written.

    TornCheckpoint says which file is not. FoundryError where one cannot be read, which proves nothing.
    """
    files = read_manifest(folder)
    for name, entry in files.items():
        try:
            size, hashed = _size(folder, name), None
            if size == entry["size"]:
                hashed = content_hash(str(folder), name)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise torn(folder, f"{name} is missing") from error
        except OSError as error:
            raise unreadable(folder / name, error) from error
        if size != entry["size"]:
            raise torn(folder, f"{name} has {size} bytes in place of {entry['size']}")
        if hashed != entry["blake3"]:
            raise torn(folder, f"the bytes of {name} have changed")
    return digest(files)


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """What it says of each file. TornCheckpoint where it is missing, or not as it was written."""
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise torn(folder, f"{MANIFEST} is missing") from error
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        files = json.loads(data)["files"]
        # Written again it must give the very bytes, so no changed bit passes as white space.
        as_written = manifest_text(files).encode() == data
        as_written &= all(set(entry) == {"blake3", "size"} for entry in files.values())
        as_written &= all(os.path.basename(name) == name for name in files)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FoundryError):
        as_written = False
    if not as_written:
        raise torn(folder, f"the bytes of {MANIFEST} have changed")
    return files


def digest(files: Entries) -> str:
    """The hash of a manifest."""
    return blake3(canonical_json(files)).hexdigest()


def _size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


def torn(folder: Path | str, what: str) -> TornCheckpoint:
    return TornCheckpoint(f"the checkpoint {folder} is damaged: {what}")


def unreadable(path: Path, error: OSError) -> FoundryError:
    return FoundryError(
        f"{path} cannot be read: {error.strerror or error}",
        hint="mend the access to it; nothing shows that the checkpoint itself is damaged",
    )
