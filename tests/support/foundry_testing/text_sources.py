"""Files of text for tests, and what the layout `text` reads of them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from robot_foundry.ingest.sources import SourceFile, Unit
from robot_foundry.ingest.sources.text.text import Text, documents
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.ingest.text.spec import TextContent
from robot_foundry.runtime import files
from robot_foundry.shards.text.blocks import Document

CONTENT = TextContent()


def units_of(path: Path, content: TextContent = CONTENT) -> list[Unit]:
    """The units of a file."""
    status = files.status(str(path.parent), path.name)
    file = SourceFile(str(path.parent), path.name, status.size, status.stamp, "0")
    units, refused = Text().list_units(file, content)
    assert not refused
    return units


def found_in(path: Path, content: TextContent = CONTENT) -> list[Document | Unusable]:
    """All that is read of a file, unit by unit."""
    return [found for unit in units_of(path, content) for found in documents(unit, content)]


def texts_of(found: Iterable[Document | Unusable]) -> list[str]:
    return [each.text for each in found if isinstance(each, Document)]


def reasons_of(found: Iterable[Document | Unusable]) -> list[tuple[str, str]]:
    return [(each.id, each.reason) for each in found if isinstance(each, Unusable)]


def tar_of(members: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these files in order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
