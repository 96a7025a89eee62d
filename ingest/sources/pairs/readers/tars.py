"""Tars of pictures with texts beside them: WebDataset, as img2dataset, DataComp and others write it.

Members that follow each other with the same name up to the first dot of the file name are one sample:
`3.jpg`, `3.txt` and `3.json`; of several pictures `3.0.jpg`, `3.1.jpg`. A `.txt` is a caption, a `.json`
holds captions, a conversation and metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from robot_foundry.ingest.sources.formats.json_values import UnusableJson
from robot_foundry.ingest.sources.formats.streams import whole
from robot_foundry.ingest.sources.formats.tar_members import BrokenTar, Member, members
from robot_foundry.ingest.sources.pairs.asked import Asked
from robot_foundry.ingest.sources.pairs.beside import JSON, MOST_TEXT_BYTES, TEXT, record_beside
from robot_foundry.ingest.sources.pairs.files_named import too_large
from robot_foundry.ingest.sources.pairs.forms import PICTURE_SUFFIXES
from robot_foundry.ingest.sources.pairs.raw import RawPair, RawPicture
from robot_foundry.ingest.sources.pairs.record import pair_of
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.shards.pairs.pair import MOST_PICTURES

Found = Iterator[RawPair | Unusable]
# Pictures that others write and that nothing here decodes for training.
OTHER_PICTURES = ("gif", "bmp", "tif", "tiff", "svg", "avif", "heic", "jxl", "jp2", "ppm")
# Of a sample, which memory holds whole.
MOST_MEMBERS = 64
_NUMBER = re.compile("[0-9]{1,9}")


def pairs_of_tar(blocks: Iterator[bytes], content: Asked, seen: set[str]) -> Found:
    """The pairs of the tar's samples, and what is none; ids are the names that its members share.

    Their names are added to `seen`. Where the tar breaks off, its last sample and what follows are one entry.
    """
    sample, place = _Sample(""), "the first member"
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
    texts: dict[str, bytes] = field(default_factory=dict)
    reason: str | None = None
    suffixes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def take(self, member: Member, suffix: str, content: Asked) -> None:
        if suffix in self.suffixes:
            self.reason = f"it has two members .{suffix}"
        elif len(self.suffixes) == MOST_MEMBERS:
            self.reason = f"it has more than {MOST_MEMBERS} members"
        elif len(self.pictures) > MOST_PICTURES:
            self.reason = f"it has more than {MOST_PICTURES} pictures"
        if self.reason is not None:
            self.pictures, self.texts = [], {}  # nobody asks for them any more
            return
        self.suffixes.append(suffix)
        last = suffix.rpartition(".")[2]
        if last in PICTURE_SUFFIXES:
            self.pictures.append((suffix, _picture(member, content)))
        elif last in OTHER_PICTURES:
            self.reason = f"its picture is .{last}, and .jpg, .png and .webp are taken"
        elif last == TEXT or suffix == JSON:
            data = whole(member.blocks, MOST_TEXT_BYTES)
            if data is None:
                self.reason = f"its .{suffix} has more than {MOST_TEXT_BYTES} bytes"
            else:
                self.texts[suffix] = data
        else:
            self.unread.append(suffix)

    def pair(self, content: Asked) -> Found:
        """None where there was no member."""
        if not self.suffixes:
            return
        try:
            self._check()
            record = record_beside(self.texts, content)
            pictures = [picture for _, picture in sorted(self.pictures, key=_order)]
            pair = pair_of(self.stem, record, pictures, content)
            yield pair if isinstance(pair, Unusable) else replace(pair, unread=tuple(self.unread))
        except UnusableJson as error:
            yield Unusable(self.stem, str(error))

    def _check(self) -> None:
        """UnusableJson if it is no pair, whatever its texts say."""
        members = ", ".join(sorted(self.suffixes))
        if self.is_again:
            raise UnusableJson("its name is that of an earlier sample, which others stand between")
        if self.reason is not None:
            raise UnusableJson(self.reason)
        if not self.pictures:
            raise UnusableJson(f"it has no picture (members: {members})")
        if not self.texts:
            raise UnusableJson(f"it has a picture and nothing said of it (members: {members})")


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


def _why_unread(stem: str, suffix: str) -> str | None:
    if not stem or stem.endswith("/") or stem.startswith(".") or "/." in stem:
        return "its name, or that of a folder around it, begins with a dot"
    return None if suffix else "its name has no ending"
