"""What a spec says to the readers of pairs."""

from __future__ import annotations

from typing import Protocol

TAR, PARQUET, JSON_LINES, JSON, COCO = "tar", "parquet", "jsonl", "json", "coco"
CSV, TSV, PICTURES = "csv", "tsv", "pictures"
FORMATS = (TAR, PARQUET, JSON_LINES, JSON, COCO, CSV, TSV, PICTURES)


class Asked(Protocol):
    """The part of the `content` of a spec that decides what is read, and how.

    captions           names to take, None for all that are usually captions (`record.CAPTION`)
    image_keys         keys of what holds or names pictures, all of which are taken; None for the first
                       of `record.IMAGE_KEYS`
    images             the folder, relative to the source, in which tables name pictures; None to find it
    metadata           other keys that are kept, None for all
    format             one of FORMATS where names and content of the files do not tell it
    max_picture_bytes  a picture has at most, in the source
    unit_bytes         of a source are read by one worker at least, pictures included
    """

    @property
    def captions(self) -> tuple[str, ...] | None: ...

    @property
    def image_keys(self) -> tuple[str, ...] | None: ...

    @property
    def images(self) -> str | None: ...

    @property
    def metadata(self) -> tuple[str, ...] | None: ...

    @property
    def format(self) -> str | None: ...

    @property
    def max_picture_bytes(self) -> int: ...

    @property
    def unit_bytes(self) -> int: ...
