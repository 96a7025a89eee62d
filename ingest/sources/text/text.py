"""Documents of text in files of any of the usual formats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from robot_foundry.ingest.sources.base import GIT_LFS, Layout, Refused, SourceFile, Unit
from robot_foundry.ingest.sources.formats.byte_ranges import Range, ranges
from robot_foundry.ingest.sources.formats.streams import blocks_of, decompressed
from robot_foundry.ingest.sources.formats.tar_members import EMPTY_TAR
from robot_foundry.ingest.sources.text import json_lines
from robot_foundry.ingest.sources.text.forms import BLANK, Form, Name, form_of
from robot_foundry.ingest.sources.text.layouts import TEXT
from robot_foundry.ingest.sources.text.plain import UTF16, document_of_text
from robot_foundry.ingest.sources.text.tars import documents_of_tar
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.ingest.text.spec import JSON_LINES, PARQUET, PLAIN, TAR, TextContent
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.shards.text.blocks import Document

WHOLE = "all"
HEAD_BYTES = 1 << 16
# Text takes a third of its size in a shard, by experience; what is compressed already stays as large.
SHRINKS = 3
_KEY_CHARACTERS, _HASH_CHARACTERS = 32, 12


class Text(Layout):
    """See `Layout`. Plain JSON lines and parquet are cut into units; any other file is the one `all`."""

    declared = TEXT
    version = 1

    def claims(self, path: str) -> bool:
        name = Name.of(path)
        return name.container is not None and not name.is_hidden

    def list_units(self, file: SourceFile, content: TextContent) -> tuple[list[Unit], list[tuple[str, str]]]:
        with file.local() as path:
            with path.open("rb") as opened:
                head = opened.read(HEAD_BYTES)
            form = form_of(file.path, head, content.format)
            _check_head(head, form)
            sizes = _sizes(path, form, content)
        units = [
            Unit(file, name, _key(file.path, name), num_bytes, alone=len(sizes) == 1)
            for name, num_bytes in sizes.items()
        ]
        return units, []


def documents(unit: Unit, content: TextContent) -> Iterator[Document | Unusable]:
    """The documents of a unit in the order of the source, and what is none, each with its place in the file.

    Places are numbers of lines or rows, names of members of a tar, or the path. No more than a document is
    held at once. Refused, at any document, if the file is damaged: then nothing of the unit can be trusted.
    """
    with unit.file.local() as path, path.open("rb") as file:
        form = form_of(unit.file.path, file.read(HEAD_BYTES), content.format)
        file.seek(0)
        if form.container == JSON_LINES:
            part = Range.of_id(unit.id)
            blocks = decompressed(blocks_of(file), form.compression) if part is None else part.blocks(file)
            yield from json_lines.documents_of_lines(blocks, content, line=part.line if part else 1)
        elif form.container == PLAIN:
            blocks = decompressed(blocks_of(file), form.compression)
            yield document_of_text(blocks, unit.file.path, content)
        elif form.container == PARQUET:
            from robot_foundry.ingest.sources.text import parquet

            yield from parquet.documents_of_groups(path, unit.id, content)
        else:
            yield from documents_of_tar(decompressed(blocks_of(file), form.compression), content)


def _sizes(path: Path, form: Form, content: TextContent) -> dict[str, int]:
    """What the file is cut into, each part with the bytes that it will take."""
    size = path.stat().st_size
    if form.container == JSON_LINES and form.compression is None:
        parts = ranges(path, content.unit_bytes)
        return {part.id: (part.end - part.start) // SHRINKS + 1 for part in parts}
    if form.container == PARQUET:
        from robot_foundry.ingest.sources.text import parquet

        return parquet.sizes(path, content)
    if size == 0 and form.container == TAR:
        raise Refused(EMPTY_TAR)
    return {WHOLE: size if form.compression else size // SHRINKS + 1}


def _check_head(head: bytes, form: Form) -> None:
    """Refused for a file that is evidently something else as a whole."""
    if head.startswith(GIT_LFS):
        raise Refused("the file is a Git LFS pointer and not the data, which `git lfs pull` would fetch")
    if form == Form(JSON_LINES, None):
        if head.lstrip(BLANK).split(b"\n", 1)[0].strip() in (b"[", b"{"):
            raise Refused("it is one JSON value over many lines, not JSON lines, which `jq -c` makes")
        if head.startswith(UTF16):
            raise Refused("it is UTF-16, and text is read as UTF-8, which `iconv -f UTF-16 -t UTF-8` makes")


def _key(path: str, name: str) -> str:
    """Unique, short and readable; blocks add five characters to it."""
    stem = Name.of(path).stem.rpartition("/")[2]
    readable = re.sub("[^a-z0-9_]+", "-", stem.lower())[:_KEY_CHARACTERS].strip("-") or "text"
    return f"{readable}-{digest_of([path, name])[:_HASH_CHARACTERS]}"
