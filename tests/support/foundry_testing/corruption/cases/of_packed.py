"""Damage to texts that are packed by gzip and zstd, three files of a document each."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import zstandard

from foundry_testing.corruption.bytes_damaged import cut, flip, rewrite
from foundry_testing.corruption.cases.of_text import (
    MOST_BYTES,
    NAMES,
    NO_CAMERA,
    SETTINGS,
    of_file,
    put,
    rows_of,
)
from foundry_testing.corruption.declared import Case, Damage, Form, Outcome, Spoil

Q, E, T, UNSEEN = Outcome.QUARANTINED, Outcome.EQUAL, Outcome.TOLD, Outcome.UNSEEN
Pack = Callable[[bytes], bytes]
PACKS: Mapping[str, Pack] = {
    "gz": partial(gzip.compress, mtime=0),
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def write_packed(ending: str, folder: Path) -> None:
    for number, name in enumerate(NAMES):
        text = "\n".join(row["text"] for row in rows_of(number))
        (folder / f"{name}.txt.{ending}").write_bytes(PACKS[ending](text.encode()))


def packed_cases(ending: str) -> tuple[Case, ...]:
    """Of texts that are one document each."""
    name, packed = f"b.txt.{ending}", PACKS[ending]
    head, end = {"gz": (10, 8), "zst": (6, 4)}[ending]

    def holding(data: bytes) -> Spoil:
        return of_file(name, put(packed(data)))

    def between(path: Path) -> tuple[int, int]:
        return head, path.stat().st_size - end

    def flip_checksum(path: Path, rng: random.Random) -> None:
        size = path.stat().st_size
        flip(path, rng, [(size - end, size - end + 4)])

    return (
        Case(Damage.TRUNCATION, "a file is cut off", of_file(name, cut), Q, 3),
        Case(
            Damage.HEADER_FLIPS,
            "a bit of the header",
            of_file(name, lambda p, rng: flip(p, rng, [(0, head)])),
            Q | E,
            6,
        ),
        Case(
            Damage.PAYLOAD_FLIPS,
            "a bit of what is packed",
            of_file(name, lambda p, rng: flip(p, rng, [between(p)])),
            Q,
            4,
        ),
        Case(Damage.DTYPE, "what is packed is no UTF-8", holding(b"\xff\xfe\x00\x80" * 9), Q),
        Case(Damage.DTYPE, "what is packed is UTF-16", holding("a text of some length".encode("utf-16")), Q),
        Case(
            Damage.SHAPE,
            "other bytes behind the end",
            of_file(name, lambda p, rng: rewrite(p, lambda d: d + b"more")),
            Q,
        ),
        Case(Damage.EMPTY, "a file of 0 bytes", of_file(name, put(b"")), Q),
        Case(Damage.EMPTY, "nothing is packed", holding(b""), Q),
        Case(
            Damage.DUPLICATES,
            "a file copied",
            lambda folder, rng: (shutil.copy(folder / name, folder / f"d.txt.{ending}"), f"d.txt.{ending}#*")[
                1
            ],
            T,
        ),
        Case(Damage.ABSURD, "a document larger than allowed", holding(b"x" * (MOST_BYTES + 1)), Q),
        Case(Damage.ABSURD, "512 MiB of zeros", holding(bytes(1 << 29)), Q),
        Case(Damage.CHECKSUM, "the checksum of a file", of_file(name, flip_checksum), Q, 3),
        Case(
            Damage.MIXED,
            "a file that is not packed",
            of_file(name, put(b"plain words")),
            UNSEEN,
            why="how a file is packed is told by its first bytes",
        ),
        Case(
            Damage.MIXED,
            "a Git LFS pointer",
            of_file(name, put(b"version https://git-lfs.github.com/spec/v1\n")),
            Q,
        ),
    )


OF_TEXTS = {
    Damage.NOT_FINITE: "a text has no numbers",
    Damage.STEP: "a text has no parts that are counted",
}
FORMS = tuple(
    Form(
        f"text, .txt.{ending}",
        partial(write_packed, ending),
        packed_cases(ending),
        "text",
        SETTINGS,
        NO_CAMERA | OF_TEXTS,
    )
    for ending in PACKS
)
