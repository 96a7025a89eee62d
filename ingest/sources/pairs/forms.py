"""What a file is, by its name and by its first bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from robot_foundry.ingest.sources.base import GIT_LFS, Refused
from robot_foundry.ingest.sources.formats.streams import compression_of, peeked
from robot_foundry.ingest.sources.pairs.asked import COCO, CSV, JSON, JSON_LINES, PARQUET, PICTURES, TAR, TSV

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
HEAD_BYTES = 1 << 16
_BLANK = b"\xef\xbb\xbf \t\r\n"
_USTAR = slice(257, 262)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_COMPRESSED = (".gz", ".zst", ".zstd")
_BY_SUFFIX = {
    "tar": TAR, "tgz": TAR, "parquet": PARQUET, "jsonl": JSON_LINES, "ndjson": JSON_LINES, "json": JSON,
    "csv": CSV, "tsv": TSV, **dict.fromkeys(PICTURE_SUFFIXES, PICTURES),
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """One of `asked.FORMATS`, in a compression or None."""

    container: str
    compression: str | None


def by_name(path: str) -> str | None:
    """The format that the ending of a name says; None where it says none, or the file is hidden."""
    if path.startswith(".") or "/." in path:
        return None
    name = path.lower()
    if name.endswith(_COMPRESSED):
        name = name.rpartition(".")[0]
    return _BY_SUFFIX.get(name.rpartition(".")[2])


def form_of(path: str, head: bytes, stated: str | None) -> Form:
    """By the spec's word, else by `head`, the first bytes of the file, and the name. Refused for none."""
    if head.startswith(GIT_LFS):
        raise Refused("the file is a Git LFS pointer and not the data, which `git lfs pull` would fetch")
    compression = compression_of(head)
    first = peeked(_once(head), compression)[0] if compression else head
    container = stated or _container(first, by_name(path))
    if container is None:
        raise Refused("neither its name nor its first bytes tell a format of pairs: content.format can")
    if container in (JSON, JSON_LINES, CSV, TSV) and first.startswith(_UTF16):
        raise Refused("it is UTF-16, and text is read as UTF-8, which `iconv -f UTF-16 -t UTF-8` makes")
    return Form(container, compression)


def _container(first: bytes, named: str | None) -> str | None:
    if first.startswith(b"PAR1"):
        return PARQUET
    if first[_USTAR] == b"ustar":
        return TAR
    if named in (JSON, JSON_LINES, None):
        return _json(first.lstrip(_BLANK), named)
    return named


def _json(first: bytes, named: str | None) -> str | None:
    """Lines are told from one value by whether an object ends in the first line."""
    if not first.startswith(b"{"):
        return JSON if first.startswith(b"[") else named
    line, ended, rest = first.partition(b"\n")
    try:
        json.loads(line)
    except ValueError:
        return JSON_LINES if named == JSON_LINES else COCO
    return JSON_LINES if named == JSON_LINES or (ended and rest.strip()) else COCO


def _once(block: bytes) -> Iterator[bytes]:
    yield block
