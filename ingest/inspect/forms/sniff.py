"""What one file is by its bytes; its name says nothing here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from robot_foundry.ingest.sources.base import GIT_LFS
from robot_foundry.ingest.sources.rlds.tfrecord import HEADER, masked_crc32c

HDF5, ROS1, MCAP, SQLITE = "HDF5", "ROS 1 bag", "MCAP", "SQLite database"
PARQUET, TAR, ZIP, GZIP, ZSTD = "parquet", "tar", "zip", "gzip", "zstd"
PICTURE, VIDEO, NUMPY, TFRECORD = "picture", "video", "NumPy array", "TFRecord"
JSON, JSON_LINES, YAML_BAG, TEXT = "JSON", "JSON lines", "metadata of a ROS 2 bag", "text"
POINTER, EMPTY, UNKNOWN = "Git LFS pointer", "empty file", "unknown bytes"

HEAD_BYTES = 1 << 14
BAGS = (ROS1, MCAP, SQLITE)
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"#ROSBAG V2.0\n", ROS1),
    (b"\x89MCAP0\r\n", MCAP),
    (b"SQLite format 3\0", SQLITE),
    (b"\x28\xb5\x2f\xfd", ZSTD),
    (b"\x1f\x8b", GZIP),
    (b"PK\x03\x04", ZIP),
    (b"\x93NUMPY", NUMPY),
    (b"\xff\xd8\xff", PICTURE),
    (b"\x89PNG\r\n\x1a\n", PICTURE),
    (b"GIF8", PICTURE),
)
_TAR_AT, _MP4_AT, _HDF5_LATER = 257, 4, (512, 1024, 2048, 4096)
# Formats that end in their own mark, which a copy that broke off lacks.
_ENDS = {PARQUET: b"PAR1", MCAP: b"\x89MCAP0\r\n"}
# An object or a list: '[' begins lines of logs and of settings as well.
_BEGINS_JSON = re.compile(r"""\{\s*(["}]|$)|\[\s*([-"{\[\]0-9]|true|false|null|$)""")
LFS_PROBLEM = "is a Git LFS pointer and not the data, which `git lfs pull` would fetch"


@dataclass(frozen=True)
class Sniffed:
    """What a file is, and what is wrong with it in words that follow its name, None if nothing shows."""

    form: str
    problem: str | None = None


def sniff(path: Path) -> Sniffed:
    """What the file is by its first bytes, and whether its end is there where the format has a mark of it."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return Sniffed(UNKNOWN, f"cannot be read: {error.strerror}")
    if not head:
        return Sniffed(EMPTY, "is empty")
    if head.startswith(GIT_LFS):
        return Sniffed(POINTER, LFS_PROBLEM)
    form = form_of(head)
    if form in _ENDS and not _ends_with(path, _ENDS[form]):
        return Sniffed(form, f"is cut off: a file of {form} ends in a mark, and this one does not")
    return Sniffed(form)


def form_of(head: bytes) -> str:
    """The form that the first bytes of a file tell."""
    for magic, form in _MAGIC:
        if head.startswith(magic):
            return form
    if head.startswith(b"PAR1"):
        return PARQUET
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return TAR
    if head[_MP4_AT : _MP4_AT + 4] == b"ftyp":
        return VIDEO
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return PICTURE
    if any(head[at : at + 8] == _MAGIC[0][0] for at in _HDF5_LATER):  # behind a block of the user's own
        return HDF5
    if _is_tfrecord(head):
        return TFRECORD
    return _of_text(head)


def _is_tfrecord(head: bytes) -> bool:
    """Whether it begins with a length and the masked CRC32C of it."""
    (_, stated) = HEADER.unpack(head[: HEADER.size]) if len(head) >= HEADER.size else (0, -1)
    return bool(masked_crc32c(head[:8]) == stated)


def _of_text(head: bytes) -> str:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A character may be cut in two at the end of what was read.
        if len(head) < HEAD_BYTES or error.start < HEAD_BYTES - 4:
            return UNKNOWN
        text = head[: error.start].decode("utf-8-sig")
    if "\0" in text:
        return UNKNOWN
    if "rosbag2_bagfile_information" in text[:200]:
        return YAML_BAG
    stripped = text.lstrip()
    if not _BEGINS_JSON.match(stripped):
        return TEXT
    first, newline, rest = stripped.partition("\n")
    if newline and rest.strip() and _is_object(first):
        return JSON_LINES
    return JSON


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _ends_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() < 2 * len(mark):
            return False
        file.seek(-len(mark), 2)
        return file.read() == mark
