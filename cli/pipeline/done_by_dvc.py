"""What dvc did of a pipeline: stages whose command, files and product its dvc.lock knows as they are here.

dvc.lock has the MD5 of each file that a stage reads or makes, and of a folder that of a JSON list of its
files with theirs (`dvc_data.hashfile.tree.Tree.as_bytes`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.files import read_utf8
from robot_foundry.trainer.recipes.yaml_text import parse_yaml

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class DvcLock:
    """The stages of a dvc.lock by name; its paths are those of the folder that it lies in."""

    stages: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path = LOCK) -> DvcLock:
        """Without any stage where there is no such file, or it cannot be read: then nothing is proven."""
        try:
            return cls(parse_yaml(read_utf8(path), str(path))["stages"])
        except (OSError, FoundryError, KeyError, TypeError):
            return cls({})

    def proves(self, name: str, command: Sequence[str], reads: Iterable[str], out: str) -> bool:
        """Whether dvc ran this command, and all that it read and its product are what they were then.

        `reads` are places that dvc must have known as read.
        """
        try:
            locked = self.stages[name]
            asked = shlex.split(locked["cmd"])
            read, made = (
                {os.path.normpath(one["path"]): one["md5"] for one in locked.get(key, ())}
                for key in ("deps", "outs")
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return False
        return (
            asked == list(command)
            and made.keys() == {os.path.normpath(out)}
            and {os.path.normpath(path) for path in reads} <= read.keys()
            and all(_md5_of(Path(path)) == known for path, known in {**read, **made}.items())
        )


def _md5_of(path: Path) -> str | None:
    """As dvc has it; None where nothing is."""
    if path.is_dir():
        files = sorted(
            (file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()
        )
        listed = [{"md5": _md5_of_file(file), "relpath": name} for name, file in files]
        return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()}.dir"
    return _md5_of_file(path) if path.is_file() else None


def _md5_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
