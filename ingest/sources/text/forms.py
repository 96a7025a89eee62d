"""What a file is, by its name and by its first bytes: its container, and how it is compressed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robot_foundry.ingest.sources.formats.streams import BLOCK_BYTES, compression_of, peeked
from robot_foundry.ingest.text.spec import JSON_LINES, PARQUET, PLAIN, TAR

# What may stand before JSON, a byte order mark among it.
BLANK = b"\xef\xbb\xbf \t\r\n"
# Beyond the name of a member of a tar, and its checksum, stands this.
_USTAR = slice(257, 262)
_BY_SUFFIX = {
    "jsonl": JSON_LINES, "ndjson": JSON_LINES, "json": JSON_LINES, "parquet": PARQUET,
    "txt": PLAIN, "md": PLAIN, "rst": PLAIN, "tar": TAR, "tgz": TAR,
}  # fmt: skip
_COMPRESSED = (".gz", ".zst", ".zstd")


@dataclass(frozen=True)
class Name:
    """The parts of a path: `suffix` in lower case and without the dot, not that of a compression.

    It is hidden if the name of the file, or of a folder on the way to it, begins with a dot.
    """

    stem: str
    suffix: str
    is_compressed: bool
    is_hidden: bool

    @classmethod
    def of(cls, path: str) -> Name:
        folder, slash, name = path.rpartition("/")
        ending = next((ending for ending in _COMPRESSED if name.lower().endswith(ending)), "")
        inner = name[: len(name) - len(ending)]
        is_hidden = any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))
        stem, _, suffix = inner.rpartition(".") if "." in inner else (inner, "", "")
        return cls(f"{folder}{slash}{stem}", suffix.lower(), bool(ending), is_hidden)

    @property
    def container(self) -> str | None:
        """What the suffix says; None where it says nothing."""
        return _BY_SUFFIX.get(self.suffix)


@dataclass(frozen=True)
class Form:
    """One of the containers of the spec, in a compression or None."""

    container: str
    compression: str | None


def form_of(path: str, head: bytes, stated: str | None) -> Form:
    """By the spec's word, else by the name, else by `head`, the first bytes of the file."""
    compression = compression_of(head)
    return Form(stated or Name.of(path).container or _container(head, compression), compression)


def _container(head: bytes, compression: str | None) -> str:
    first = peeked(_once(head), compression)[0] if compression else head
    if first.startswith(b"PAR1"):
        return PARQUET
    if first[_USTAR] == b"ustar":
        return TAR
    return JSON_LINES if looks_like_json(first) else PLAIN


def looks_like_json(first: bytes) -> bool:
    return first[:BLOCK_BYTES].lstrip(BLANK).startswith(b"{")


def _once(block: bytes) -> Iterator[bytes]:
    yield block
