"""Folders of text files: every `.txt` is a document."""

from __future__ import annotations

import re
from typing import Any

from robot_foundry.ingest.sources import Layout, SourceFile, Unit
from robot_foundry.ingest.sources.declared import DeclaredLayout
from robot_foundry.runtime.canonical import digest_of

LINES = DeclaredLayout("lines", f"{__name__}:Lines", "text", kind="lines")


class Lines(Layout):
    """A document a file, whose id is the file's path without the suffix; a blank file holds none."""

    declared = LINES
    version = 1

    def claims(self, path: str) -> bool:
        return path.endswith(".txt")

    def list_units(self, file: SourceFile, content: Any) -> tuple[list[Unit], list[tuple[str, str]]]:
        name = file.path.removesuffix(".txt")
        with file.local() as path:
            if not path.read_bytes().strip():
                return [], []
        key = f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')[:32]}-{digest_of(file.path)[:12]}"
        return [Unit(file, name, key, file.size, alone=True, encodes=False, whole_file=True)], []
