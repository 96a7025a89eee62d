"""Pictures in files of their own, with texts beside them that have the same name and another ending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from robot_foundry.ingest.sources.base import SourceFile
from robot_foundry.ingest.sources.formats.json_values import UnusableJson
from robot_foundry.ingest.sources.pairs.asked import PICTURES, Asked
from robot_foundry.ingest.sources.pairs.beside import MOST_TEXT_BYTES, record_beside
from robot_foundry.ingest.sources.pairs.files_named import FoundPart, too_large
from robot_foundry.ingest.sources.pairs.forms import by_name
from robot_foundry.ingest.sources.pairs.gathered import BESIDE
from robot_foundry.ingest.sources.pairs.raw import RawPair, RawPicture
from robot_foundry.ingest.sources.pairs.record import pair_of
from robot_foundry.ingest.sources.unusable import Unusable


def part(file: SourceFile) -> FoundPart:
    """The picture and its companions, whole."""
    files = {companion.path: companion for companion in file.companions}
    return FoundPart("all", num_bytes=file.num_bytes, files=files)


def pairs_of_files(file: SourceFile, content: Asked) -> Iterator[RawPair | Unusable]:
    """A pair for each picture among the file and its companions, in order; ids are their paths."""
    files = {each.path: each for each in (file, *file.companions)}
    for path in sorted(files):
        if by_name(path) == PICTURES or path == file.path:
            yield _pair(files[path], files, content)


def _pair(picture: SourceFile, files: dict[str, SourceFile], content: Asked) -> RawPair | Unusable:
    stem = picture.path.rpartition(".")[0]
    beside = {ending.lower(): files[f"{stem}.{ending}"] for ending in BESIDE if f"{stem}.{ending}" in files}
    try:
        if not beside:
            raise UnusableJson("it has no .txt or .json beside it, and no table names it")
        if any(text.size > MOST_TEXT_BYTES for text in beside.values()):
            raise UnusableJson(f"its text has more than {MOST_TEXT_BYTES} bytes")
        record = record_beside({ending: _bytes(text) for ending, text in beside.items()}, content)
    except UnusableJson as error:
        return Unusable(picture.path, str(error))
    if picture.size > content.max_picture_bytes:
        return Unusable(picture.path, too_large(content))
    return pair_of(picture.path, record, [RawPicture(picture.path, _bytes(picture))], content)


def _bytes(file: SourceFile) -> bytes:
    return Path(file.root, file.path).read_bytes()
