"""Tars of text files and of JSON: a folder in one file, or samples of WebDataset.

Members that follow each other and differ in the ending alone belong together: of `a.txt` and `a.json` the
latter is the metadata of the former. JSON without a text beside it holds documents itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.streams import compression_of, peeked, whole
from robot_foundry.ingest.sources.formats.tar_members import BrokenTar, Member, members
from robot_foundry.ingest.sources.text.forms import Name, looks_like_json
from robot_foundry.ingest.sources.text.json_document import document_of_json, metadata_of_json
from robot_foundry.ingest.sources.text.json_lines import documents_of_lines
from robot_foundry.ingest.sources.text.plain import document_of_text
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.ingest.text.spec import JSON_LINES, PLAIN, TextContent
from robot_foundry.shards.text.blocks import Document

Found = Iterator[Document | Unusable]


def documents_of_tar(blocks: Iterator[bytes], content: TextContent) -> Found:
    """The documents of the tar's members, and what is none; ids are their names, of lines with the number.

    Where the tar breaks off, what is lost is one entry under the last member's name.
    """
    sample, place = _Sample(""), "the first member"
    try:
        for member in members(blocks):
            place, name = member.name, Name.of(member.name)
            reason = member.reason or _why_unread(name)
            if reason is not None:
                yield Unusable(place, reason)
                continue
            if name.stem != sample.stem or place in sample.names:
                yield from sample.documents(content)
                sample = _Sample(name.stem)
            sample.names.add(place)
            yield from _read(member, name, sample, content)
        yield from sample.documents(content)
    except BrokenTar as error:
        yield from sample.documents(content)
        yield Unusable(place, f"{error}, and what follows is lost")


@dataclass
class _Sample:
    """The texts of one stem, as far as they were read, and the JSON that tells of them."""

    stem: str
    names: set[str] = field(default_factory=set)
    texts: list[Document | Unusable] = field(default_factory=list)
    told: tuple[str, bytes] | None = None

    def documents(self, content: TextContent) -> Found:
        if self.told is None:
            yield from self.texts
            return
        place, data = self.told
        if not self.texts:
            yield from _documents_of_json(place, data, content)
            return
        metadata = metadata_of_json(data, place, content)
        if isinstance(metadata, Unusable):
            yield metadata
            metadata = {}
        for text in self.texts:
            yield text if isinstance(text, Unusable) else replace(text, metadata=metadata)


def _why_unread(name: Name) -> str | None:
    if name.is_hidden:
        return "its name, or that of a folder around it, begins with a dot"
    if name.container in (PLAIN, JSON_LINES) or (name.is_compressed and not name.suffix):
        return None
    return f"no text is read of a .{name.suffix}" if name.suffix else "its name has no ending"


def _read(member: Member, name: Name, sample: _Sample, content: TextContent) -> Found:
    """Documents that nothing else tells of; others wait in the sample."""
    place, limit = member.name, content.max_document_bytes
    if name.suffix == "json" and not name.is_compressed and member.size <= limit and sample.told is None:
        sample.told = (place, whole(member.blocks, limit) or b"")
        return
    head, stored = peeked(member.blocks, None)
    compression = compression_of(head)
    try:
        first, blocks = peeked(stored, compression)
        if name.container == JSON_LINES or (name.container is None and looks_like_json(first)):
            yield from documents_of_lines(blocks, content, before=f"{place}:")
        else:
            sample.texts.append(document_of_text(blocks, place, content))
    except Refused as error:
        if name.container == PLAIN:
            sample.texts.append(Unusable(place, error.message))
            return
        raise Refused(f"{place} in it: {error.message}") from error


def _documents_of_json(place: str, data: bytes, content: TextContent) -> Found:
    """A member is one JSON object, or lines of them."""
    lines = [line for line in data.split(b"\n") if line.strip()]
    document = document_of_json(data, place, content)
    if len(lines) > 1 and isinstance(document, Unusable) and lines[0].strip() != b"{":
        yield from documents_of_lines([data], content, before=f"{place}:")
    elif document is not None:
        yield document
