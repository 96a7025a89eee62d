"""Tars of pictures with texts beside them: WebDataset, as img2dataset, DataComp and others write it.

Members that follow each other with the same name up to the first dot of the file name are one sample: `3.jpg`,
`3.txt` and `3.json`; of several pictures `3.0.jpg`, `3.1.jpg`. A `.txt` is a caption, a `.json` holds captions,
a conversation and metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from robot_foundry.ingest.sources.json_values import BOM, UnusableJson, json_object, unicode_text
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.files_named import too_large
from robot_foundry.ingest.sources.pairs.raw import RawPair, RawPicture
from robot_foundry.ingest.sources.pairs.record import Record, pair_of, record_of
from robot_foundry.ingest.sources.streams import whole
from robot_foundry.ingest.sources.tar_members import BrokenTar, Member, members
from robot_foundry.ingest.sources.unusable import Unusable

Found = Iterator[RawPair | Unusable]
PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
# Pictures that others write and that nothing here decodes for training.
OTHER_PICTURES = ("gif", "bmp", "tif", "tiff", "svg", "avif", "heic", "jxl", "jp2", "ppm")
TEXT, JSON = "txt", "json"
# A pair's own text; longer ones are no captions.
MOST_TEXT_BYTES = 16 << 20
# Of a sample, which memory holds whole.
MOST_MEMBERS = 64
CAPTION = "caption"
_NUMBER = re.compile("[0-9]{1,9}")


def pairs_of_tar(blocks: Iterator[bytes], content: Asked) -> Found:
    """The pairs of the tar's samples, and what is none; ids are the names that its members share.

    Where the tar breaks off, its last sample and what follows are one entry.
    """
    sample, place, seen = _Sample(""), "the first member", set[str]()
    try:
        for member in members(blocks):
            place = member.name
            stem, suffix = split(member.name)
            reason = member.reason or _why_unread(stem, suffix)
            if reason is not None:
                yield Unusable(place, reason)
                continue
            if stem != sample.stem:
                yield from sample.pair(content)
                sample = _Sample(stem, is_again=stem in seen)
                seen.add(stem)
            sample.take(member, suffix, content)
        yield from sample.pair(content)
    except BrokenTar as error:
        yield Unusable(sample.stem or place, f"{error}, and this sample and those after it are lost")


def split(name: str) -> tuple[str, str]:
    """The name of the sample of a member, and what the member is in it: up to and from the first dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}".removeprefix("./"), suffix.lower()


@dataclass
class _Sample:
    """The members of one name, as far as they were read. `reason` is why it is no pair, by what was read."""

    stem: str
    is_again: bool = False
    pictures: list[tuple[str, RawPicture]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    told: Record | None = None
    reason: str | None = None
    suffixes: list[str] = field(default_factory=list)

    def take(self, member: Member, suffix: str, content: Asked) -> None:
        if suffix in self.suffixes:
            self.reason = f"it has two members .{suffix}"
        self.suffixes.append(suffix)
        last = suffix.rpartition(".")[2]
        try:
            if len(self.suffixes) > MOST_MEMBERS:
                raise UnusableJson(f"it has more than {MOST_MEMBERS} members")
            if last in PICTURE_SUFFIXES:
                self.pictures.append((suffix, _picture(member, content)))
            elif last in OTHER_PICTURES:
                raise UnusableJson(f"its picture is .{last}, and .jpg, .png and .webp are taken")
            elif last == TEXT:
                self.texts[suffix] = _text(member)
            elif suffix == JSON:
                self.told = record_of(json_object(_content(member)), content, has_images=False)
        except UnusableJson as error:
            self.reason = self.reason or str(error)

    def pair(self, content: Asked) -> Found:
        if not self.suffixes:
            return
        if self.is_again:
            self.reason = "its name is that of a sample before, which others stand between"
        if self.reason is None and not self.pictures:
            self.reason = f"it has no picture (members: {', '.join(sorted(self.suffixes))})"
        if self.reason is not None:
            yield Unusable(self.stem, self.reason)
            return
        told = self.told or Record({}, (), {})
        silent = [f"its .{suffix} is empty" for suffix, text in self.texts.items() if not text.strip()]
        record = Record(
            self._captions(told, content), told.turns, told.metadata, silent=(*told.silent, *silent)
        )
        if not (record.captions or record.turns or record.silent):
            members = ", ".join(sorted(self.suffixes))
            yield Unusable(self.stem, f"it has a picture and nothing that is said of it (members: {members})")
            return
        yield pair_of(
            self.stem, record, [picture for _, picture in sorted(self.pictures, key=_order)], content
        )

    def _captions(self, told: Record, content: Asked) -> dict[str, str]:
        """Those of the JSON, and texts that say something else, each by its name in the sample."""
        captions = dict(told.captions)
        for suffix, text in self.texts.items():
            name = suffix.removesuffix(TEXT).removesuffix(".") or (TEXT if CAPTION in captions else CAPTION)
            is_asked = content.captions is None or name in content.captions or TEXT in content.captions
            if is_asked and text.strip() and text.strip() not in map(str.strip, captions.values()):
                captions[name] = text
        return captions


def _order(named: tuple[str, RawPicture]) -> tuple[int, int, str]:
    """`jpg` before `0.jpg`, `1.jpg` … `10.jpg`, and those before `left.jpg`."""
    suffix = named[0]
    inner = suffix.rpartition(".")[0]
    if not inner:
        return 0, 0, suffix
    return (1, int(inner), suffix) if _NUMBER.fullmatch(inner) else (2, 0, suffix)


def _picture(member: Member, content: Asked) -> RawPicture:
    data = whole(member.blocks, content.max_picture_bytes)
    return RawPicture(member.name, data, None if data is not None else too_large(content), member.name)


def _text(member: Member) -> str:
    """The text without its byte order mark and the end of its last line."""
    try:
        text = _content(member).removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise UnusableJson("its text is not UTF-8") from error
    return unicode_text(text.rstrip("\r\n"), TEXT)


def _content(member: Member) -> bytes:
    data = whole(member.blocks, MOST_TEXT_BYTES)
    if data is None:
        raise UnusableJson(f"its text has more than {MOST_TEXT_BYTES} bytes")
    return data


def _why_unread(stem: str, suffix: str) -> str | None:
    if not stem or stem.endswith("/") or stem.startswith(".") or "/." in stem:
        return "its name, or that of a folder around it, begins with a dot"
    return None if suffix else "its name has no ending"
