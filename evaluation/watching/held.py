"""Checkpoints that stay where their run removes them: links to their files, which take no room of their own.

<folder>/step-00000050/…     whole; while it is being made its name begins with a dot
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path


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


def release(folder: Path, but: str | None) -> None:
    """Remove all that `hold` made, but the checkpoint of that name."""
    for path in sorted(folder.glob("*step-*")):
        if path.name != but:
            shutil.rmtree(path)


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
    return target
