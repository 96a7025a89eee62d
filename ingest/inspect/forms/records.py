"""Files of records and no episodes: what the first of them hold, by which they are text, pairs or a table."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from robot_foundry.ingest.inspect.forms import sniff
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.formats.streams import blocks_of, compression_of, decompressed
from robot_foundry.ingest.sources.formats.tar_members import BrokenTar, members
from robot_foundry.ingest.sources.pairs.asked import CSV, TSV
from robot_foundry.ingest.sources.pairs.forms import by_name
from robot_foundry.ingest.sources.text.forms import Name
from robot_foundry.ingest.sources.unusable import Broken, shown
from robot_foundry.shards.errors import CorruptImage
from robot_foundry.shards.images import starts_as_image

FEW_RECORDS, FEW_MEMBERS, LONGEST_VALUE = 32, 64, 80
MOST_LINE_BYTES = 1 << 22
# What pairs are known by: fields that name or hold pictures, and endings of members that are pictures.
PICTURE_FIELDS = ("image", "images", "jpg", "png", "image_path", "image_url", "conversations")
PICTURE_ENDINGS = ("jpg", "jpeg", "png", "webp")
TEXT_FIELDS = ("text", "content", "raw_content", "document", "body")
PLAIN_SUFFIXES = ("txt", "md", "rst")
OWN_SHARD = "shard of robot_foundry"
_MEMBER = re.compile(r'\s*"(?P<name>[^"\\]{1,80})"\s*:\s*')


class NoJson(ValueError):
    """What begins as JSON does is none; the message says where."""


@dataclass(frozen=True)
class Records:
    """What the first records hold: `fields` are (name, type, an example), `number` is None if unknown.

    `problem` says after the name of the file what is wrong with it.
    """

    fields: tuple[tuple[str, str, str], ...]
    number: int | None = None
    problem: str | None = None


def record_form(path: Path, form: str, of: Records) -> tuple[str, str | None]:
    """The form in words, and the layout `text` or `pairs` if one reads the file of these records."""
    held = _container(path, form)
    names = {name for name, _, _ in of.fields}
    if held == sniff.TAR:
        if any(name.endswith(("episode.json", "source.npz")) for name in names):
            return OWN_SHARD, None
        if names & set(PICTURE_ENDINGS):
            return "WebDataset tar with pictures", "pairs"
        return ("tar of text", "text") if names & {"txt", "jsonl", "md", "json"} else (sniff.TAR, None)
    if names & set(PICTURE_FIELDS):
        return f"{held} of pictures and texts", "pairs"
    if names & set(TEXT_FIELDS):
        return f"{held} of texts", "text"
    if held == sniff.TEXT and by_name(path.name) in (CSV, TSV):
        return "table of text", "pairs"
    if held == sniff.TEXT and Name.of(path.name).suffix in PLAIN_SUFFIXES:
        return held, "text"
    return held, None


def records(path: Path, form: str) -> Records:
    """What the first records of the file hold; what cannot be read is told and no error."""
    held = _container(path, form)
    try:
        if held == sniff.PARQUET:
            return _of_parquet(path)
        if held == sniff.TAR:
            return _of_tar(path)
        if held in (sniff.JSON_LINES, sniff.JSON):
            return _of_json(path, held)
    except NoJson as error:
        return Records((), problem=f"begins as JSON does, and is none: {error}")
    except (Broken, BrokenTar, Refused, OSError, ValueError, RecursionError, CorruptImage) as error:
        return Records((), problem=f"cannot be read: {shown(' '.join(str(error).split()), 200)}")
    return Records(())


def unpacking_problem(path: Path) -> str | None:
    """What is wrong with the compression of the first bytes, in words that follow the name of the file."""
    _, problem = _unpacked(path, sniff.HEAD_BYTES)
    return None if problem is None else f"cannot be unpacked: {problem}"


def _head(path: Path, size: int = sniff.HEAD_BYTES) -> bytes:
    """The first bytes, without their compression; fewer of what is damaged."""
    return _unpacked(path, size)[0]


def _unpacked(path: Path, size: int) -> tuple[bytes, str | None]:
    """The first bytes as far as they can be unpacked, and why no more can."""
    taken = b""
    try:
        with path.open("rb") as file:
            compression = compression_of(file.read(16))
            file.seek(0)
            for block in decompressed(blocks_of(file), compression):
                taken += block
                if len(taken) >= size:
                    break
    except (Broken, Refused, OSError) as error:
        return taken[:size], shown(" ".join(str(error).split()), 200)
    return taken[:size], None


def _container(path: Path, form: str) -> str:
    """The form beneath a compression."""
    return sniff.form_of(_head(path)) if form in (sniff.GZIP, sniff.ZSTD) else form


def _of_parquet(path: Path) -> Records:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, number = file.schema_arrow, file.metadata.num_rows
            rows = next(file.iter_batches(1), None)
            first = rows.to_pylist()[0] if rows is not None and rows.num_rows else {}
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from error
    fields = ((field.name, str(field.type), _example(first.get(field.name))) for field in schema)
    return Records(tuple((shown(name, 80), shown(kind, 80), value) for name, kind, value in fields), number)


def _of_tar(path: Path) -> Records:
    """Endings of the members, the first dots of their names being where samples of WebDataset end."""
    endings, examples, problem = Counter[str](), dict[str, str](), None
    with path.open("rb") as file:
        compression = compression_of(file.read(16))
        file.seek(0)
        try:
            for member in islice(members(decompressed(blocks_of(file), compression)), FEW_MEMBERS):
                name = member.name.rpartition("/")[2]
                ending = name.partition(".")[2].lower() or "(none)"
                endings[ending] += 1
                examples.setdefault(ending, shown(member.name, LONGEST_VALUE))
        except (BrokenTar, Broken, Refused) as error:
            problem = f"is damaged: {error}"
    fields = (
        (shown(name, 40), f"{count} of the first members", examples[name]) for name, count in endings.items()
    )
    return Records(tuple(fields), problem=problem)


def _of_json(path: Path, form: str) -> Records:
    fields: dict[str, tuple[str, str]] = {}
    for record in islice(_json_records(path, form), FEW_RECORDS):
        for name, value in record.items():
            fields.setdefault(str(name), (type(value).__name__, _example(value)))
    return Records(tuple((shown(name, 80), *rest) for name, rest in fields.items()))


def _json_records(path: Path, form: str) -> Iterator[Mapping[str, Any]]:
    head = _head(path, MOST_LINE_BYTES)
    if form == sniff.JSON:
        value = _first_value(head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n"), len(head))
        values = value if isinstance(value, list) else [value]
        yield from (item for item in values if isinstance(item, dict))
        return
    for line in head.decode("utf-8", "replace").lstrip("\ufeff").split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _first_value(text: str, num_bytes: int) -> Any:
    """The value that the text begins with; of one that is cut off, its beginning. NoJson if it is none."""
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError as error:
        if num_bytes < MOST_LINE_BYTES:
            raise NoJson(str(error)) from error
    return _begun(text, 0)


def _begun(text: str, at: int) -> Any:
    """What there is of a value that is cut off: of an object the members, of a list the first item."""
    if text[at : at + 1] == "[":
        at = _behind_space(text, at + 1)
        try:
            return [json.JSONDecoder().raw_decode(text, at)[0]]
        except ValueError:
            return [_begun(text, at)]
    if text[at : at + 1] != "{":
        return text[at : at + LONGEST_VALUE].strip('"')
    members: dict[str, Any] = {}
    while match := _MEMBER.match(text, at + 1):
        try:
            members[match["name"]], at = json.JSONDecoder().raw_decode(text, match.end())
        except ValueError:
            members[match["name"]] = _begun(text, match.end())
            break
        at = _behind_space(text, at)
    return members


def _behind_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at


def _example(value: Any) -> str:
    """A value as a line shows it, bytes by what they are."""
    if isinstance(value, dict):
        return shown(", ".join(f"{name}: {_example(item)}" for name, item in list(value.items())[:4]), 200)
    if isinstance(value, bytes):
        return "a picture" if starts_as_image(value[:16]) else f"{len(value)} bytes"
    return shown(" ".join(str(value).split()), LONGEST_VALUE)
