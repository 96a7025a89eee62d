"""Image-text pairs in files of any of the usual layouts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from robot_foundry.ingest.sources.base import Layout, SourceFile, Unit
from robot_foundry.ingest.sources.pairs.asked import PICTURES, TAR, Asked
from robot_foundry.ingest.sources.pairs.forms import HEAD_BYTES, Form, by_name, form_of
from robot_foundry.ingest.sources.pairs.layouts import PAIRS
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.pairs.table_rows import TABLES
from robot_foundry.ingest.sources.pairs.tables import Part, pairs_of_part, parts
from robot_foundry.ingest.sources.pairs.tars import pairs_of_tar
from robot_foundry.ingest.sources.streams import blocks_of, decompressed
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.runtime.canonical import digest_of

WHOLE = "all"
_KEY_CHARACTERS, _HASH_CHARACTERS = 32, 12


class Pairs(Layout):
    """See `Layout`. Plain tables and parquet are cut into units; any other file is the one `all`."""

    declared = PAIRS
    version = 1

    def claims(self, path: str) -> bool:
        named = by_name(path)
        return named is not None and named != PICTURES

    def companions(self, path: str, listed: Collection[str]) -> tuple[str, ...]:
        if by_name(path) not in TABLES:
            return ()
        return tuple(name for name in listed if by_name(name) == PICTURES)

    def list_units(self, file: SourceFile, content: Asked) -> tuple[list[Unit], list[tuple[str, str]]]:
        with replace(file, companions=()).local() as path:
            form = _form(path, file.path, content)
            if form.container in TABLES:
                found = parts(path, form, file, content)
                units = [
                    _unit(file, part.part.id, part.num_bytes, tuple(part.files.values()), len(found) == 1)
                    for part in found
                ]
                return units, []
            size = path.stat().st_size
        return ([_unit(file, WHOLE, size, (), True)] if size else []), []


def pairs_of(unit: Unit, content: Asked) -> Iterator[RawPair | Unusable]:
    """The pairs of a unit in the order of the source, and what is none, each with its place in the file.

    Places are numbers of lines or rows, or names of samples of a tar. No more than a pair is held at once.
    Refused, at any pair, if the file is damaged: then nothing of the unit can be trusted.
    """
    with unit.file.at_hand() as file:
        path = Path(file.root, file.path)
        form = _form(path, unit.file.path, content)
        if form.container == TAR:
            with path.open("rb") as opened:
                yield from pairs_of_tar(decompressed(blocks_of(opened), form.compression), content)
        else:
            yield from pairs_of_part(file, form, Part.of_id(unit.id), content)


def _form(path: Path, name: str, content: Asked) -> Form:
    with path.open("rb") as opened:
        return form_of(name, opened.read(HEAD_BYTES), content.format)


def _unit(
    file: SourceFile, name: str, num_bytes: int, companions: tuple[SourceFile, ...], alone: bool
) -> Unit:
    return Unit(replace(file, companions=companions), name, _key(file.path, name), num_bytes, alone=alone)


def _key(path: str, name: str) -> str:
    """Unique, short and readable; numbers of pairs add to it."""
    stem = path.rpartition("/")[2].partition(".")[0]
    readable = re.sub("[^a-z0-9_]+", "-", stem.lower())[:_KEY_CHARACTERS].strip("-") or "pairs"
    return f"{readable}-{digest_of([path, name])[:_HASH_CHARACTERS]}"
