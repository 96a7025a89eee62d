"""Damage and doubts of a version of lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from robot_foundry.catalog.manifest import Manifest
from robot_foundry.catalog.validation.table_findings import Fault
from robot_foundry.catalog.validation.tasks import Conclusion, ShardCheck, Tables
from robot_foundry.catalog.version import Version
from robot_foundry.checks.finding import Finding
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.reader import ShardReader

MOST_BLANK = 0.5


@dataclass(frozen=True)
class Texts:
    """The lines of the documents of a tar, in the order of their keys; None where they were not decoded."""

    of_documents: Sequence[list[str] | None]


@dataclass(frozen=True)
class ShardOutcome:
    """How many texts were decoded, and of the lines how many there are and are blank."""

    num_texts: int
    num_lines: int
    num_blank: int


def count(tables: Tables) -> tuple[int, int] | None:
    documents = tables["documents"]
    return None if documents is None else (documents.num_rows, pc.sum(documents["num_lines"]).as_py())


def check_tables(manifest: Manifest, tables: Tables, fault: Fault) -> None:
    documents = tables["documents"]
    keys = [] if documents is None else documents["key"].to_pylist()
    for key, times in Counter(keys).items():
        if times > 1:
            fault.manifest("documents", f"document {key} is there {times} times")


def check_members(task: ShardCheck, reader: ShardReader, is_intact: bool, fault: Fault) -> Texts:
    names = set(reader.index["name"].to_pylist())
    keys = sorted(name.removesuffix(".document.json") for name in names if name.endswith(".json"))
    if len(keys) != task.entry.num_groups:
        held = f"shard {task.entry.key} holds {len(keys)} documents"
        fault.manifest("counts", f"{held}, the manifest says {task.entry.num_groups}")
    texts: list[list[str] | None] = []
    for key in keys:
        texts.append(None)
        if f"{key}.txt" not in names:
            fault.shard("documents", task.tar, f"has no text of {key}")
        elif task.deep and is_intact:
            try:
                texts[-1] = reader.read_name(f"{key}.txt").decode().split("\n")
            except (FoundryError, UnicodeDecodeError) as error:
                fault.shard("documents", task.tar, f"has a text that cannot be decoded, of {key}: {error}")
    return Texts(texts)


def check_rows(task: ShardCheck, tables: Tables, members: Texts | None, fault: Fault) -> ShardOutcome:
    texts = () if members is None else members.of_documents
    num_texts = sum(text is not None for text in texts)
    lines = tables.get("lines")
    if lines is None:
        return ShardOutcome(num_texts, 0, 0)
    if lines.num_rows != task.entry.num_samples:
        fault.table(f"lines/{task.entry.key}", f"has {lines.num_rows} rows, not {task.entry.num_samples}")
    rows = lines.to_pylist()
    for document in task.rows["documents"] or ():
        _check_document(document, rows, fault)
    for ordinal, text in enumerate(texts):
        if text is not None and text != [row["text"] for row in rows if row["document"] == ordinal]:
            fault.table(
                f"lines/{task.entry.key}", f"does not hold the lines of document {ordinal} of the tar"
            )
    return ShardOutcome(num_texts, len(rows), sum(not row["text"] for row in rows))


def _check_document(document: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], fault: Fault) -> None:
    start, length = document["row_start"], document["num_lines"]
    numbers = [row["line"] for row in rows[start : start + length]]
    if numbers != list(range(length)):
        fault.manifest("lines", f"document {document['key']} is not where the table of documents says")


def conclude(
    version: Version, manifest: Manifest, tables: Tables, shards: Sequence[ShardOutcome]
) -> Conclusion:
    num_lines, num_blank = (sum(getattr(s, name) for s in shards) for name in ("num_lines", "num_blank"))
    doubts: tuple[Finding, ...] = ()
    if num_blank > MOST_BLANK * num_lines:
        said = f"{version}: {num_blank} of {num_lines} lines are blank"
        doubts = (Finding("blank", "lines", said, num_blank / num_lines, "leave blank lines out"),)
    return Conclusion(
        checked={"texts_decoded": sum(shard.num_texts for shard in shards)},
        doubts=doubts,
        lines=(f"{num_blank} of {num_lines} lines are blank",),
    )
