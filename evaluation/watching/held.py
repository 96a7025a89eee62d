"""Checkpoints that stay where their run removes them: links to their files, which take no room of their own.

<folder>/step-00000050/…     whole; while it is being made its name begins with a dot

Of the watches that would hold and release the same ones, one runs at a time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from robot_foundry.runtime.errors import FoundryError

LOCK = ".lock"


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """While this lasts no other process gets here; FoundryError where one has."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FoundryError(
                f"another watch of the same scenes writes to {folder}",
                hint="wait for it, or watch with another --seed, --episodes or --task",
            ) from error
        yield


def hold(checkpoint: Path, folder: Path) -> Path | None:
    """The checkpoint as a folder of its own in `folder`; None where it went away meanwhile.

    Its files are linked, as none is ever written again, or copied where the disk has no links.
    """
    held = folder / checkpoint.name
    if held.is_dir():
        return held
    begun = folder / f".{checkpoint.name}"
    shutil.rmtree(begun, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(checkpoint, begun, copy_function=_link)
    except (FileNotFoundError, shutil.Error):
        shutil.rmtree(begun, ignore_errors=True)
        if checkpoint.is_dir():
            raise
        return None
    begun.rename(held)
    return held


def release(folder: Path, names: Collection[str]) -> None:
    """Remove the checkpoints of these names that `hold` made, and what it left that was not whole."""
    for path in [*folder.glob(".step-*"), *(folder / name for name in names)]:
        shutil.rmtree(path, ignore_errors=True)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
    return target
