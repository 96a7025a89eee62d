"""Image-text pairs in files of any of the usual layouts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from robot_foundry.ingest.sources.base import Layout, Refused, SourceFile, Unit
from robot_foundry.ingest.sources.formats.streams import blocks_of, decompressed
from robot_foundry.ingest.sources.formats.tar_members import EMPTY_TAR
from robot_foundry.ingest.sources.pairs.asked import COCO, PARQUET, PICTURES, TAR, Asked
from robot_foundry.ingest.sources.pairs.files_named import FoundPart
from robot_foundry.ingest.sources.pairs.forms import HEAD_BYTES, Form, by_name, form_of
from robot_foundry.ingest.sources.pairs.gathered import gathered
from robot_foundry.ingest.sources.pairs.layouts import PAIRS
from robot_foundry.ingest.sources.pairs.raw import RawPair
from robot_foundry.ingest.sources.pairs.readers import coco, loose, tables
from robot_foundry.ingest.sources.pairs.readers.table_rows import TABLES
from robot_foundry.ingest.sources.pairs.readers.tars import pairs_of_tar
from robot_foundry.ingest.sources.unusable import Unusable
from robot_foundry.runtime.canonical import digest_of

_KEY_CHARACTERS, _HASH_CHARACTERS = 32, 12


class Pairs(Layout):
    """See `Layout`. Plain tables and parquet are cut into units; any other file is the one `all`."""

    declared = PAIRS
    version = 1

    def claims(self, path: str) -> bool:
        return by_name(path) is not None

    def together(
        self, claimed: Sequence[str], listed: Collection[str], content: Asked
    ) -> list[tuple[str, Sequence[str]]]:
        return gathered(claimed, listed, content)

    def list_units(self, file: SourceFile, content: Asked) -> tuple[list[Unit], list[tuple[str, str]]]:
        with replace(file, companions=()).local() as path:
            form = _form(path, file.path, content)
            if form.container in TABLES:
                found, refused = tables.parts(path, form, file, content)
            else:
                found, refused = _parts(path, form, file, content), []
        return [_unit(file, part, alone=len(found) == 1) for part in found], refused


def pairs_of(unit: Unit, content: Asked) -> Iterator[RawPair | Unusable]:
    """The pairs of a unit in the order of the source, and what is none, each with its place in the file.

    Places are numbers of lines or rows, or names of samples of a tar. No more than a pair is held at once.
    Refused, at any pair, if the file is damaged: then nothing of the unit can be trusted.
    """
    with unit.file.at_hand() as file:
        path = Path(file.root, file.path)
        form = _form(path, unit.file.path, content)
        if form.container == TAR:
            keys = set[str]()
            with path.open("rb") as opened:
                yield from pairs_of_tar(decompressed(blocks_of(opened), form.compression), content, keys)
            for table in file.companions:
                from robot_foundry.ingest.sources.pairs.readers.img2dataset import not_in_tar

                yield from not_in_tar(Path(table.root, table.path), keys)
        elif form.container == PICTURES:
            yield from loose.pairs_of_files(file, content)
        elif form.container == PARQUET:
            from robot_foundry.ingest.sources.pairs.readers import parquet

            yield from parquet.pairs_of_groups(file, unit.id, content)
        elif form.container == COCO:
            yield from coco.pairs_of_images(file, form, unit.id, content)
        else:
            yield from tables.pairs_of_part(file, form, unit.id, content)


def _parts(path: Path, form: Form, file: SourceFile, content: Asked) -> list[FoundPart]:
    """What a file that is no table of text is cut into, with the pictures that each part names."""
    if form.container == COCO:
        return coco.parts(path, form, file, content)
    if form.container == PARQUET:
        from robot_foundry.ingest.sources.pairs.readers import parquet

        return parquet.parts(path, file, content)
    if form.container == PICTURES:
        return [loose.part(file)]
    size = path.stat().st_size
    if not size:
        raise Refused(EMPTY_TAR)
    files = {companion.path: companion for companion in file.companions}
    return [FoundPart(tables.WHOLE, num_bytes=size, files=files)]


def _form(path: Path, name: str, content: Asked) -> Form:
    if (content.format or by_name(name)) == PICTURES:
        return Form(PICTURES, None)
    with path.open("rb") as opened:
        return form_of(name, opened.read(HEAD_BYTES), content.format)


def _unit(file: SourceFile, part: FoundPart, *, alone: bool) -> Unit:
    named = replace(file, companions=tuple(part.files.values()))
    return Unit(named, part.id, _key(file.path, part.id), part.num_bytes, alone=alone)


def _key(path: str, name: str) -> str:
    """Unique, short and readable; numbers of pairs add to it."""
    stem = path.rpartition("/")[2].partition(".")[0]
    readable = re.sub("[^a-z0-9_]+", "-", stem.lower())[:_KEY_CHARACTERS].strip("-") or "pairs"
    return f"{readable}-{digest_of([path, name])[:_HASH_CHARACTERS]}"
