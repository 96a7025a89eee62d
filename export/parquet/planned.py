"""Parquet files of one version, planned with what makes each, and made one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robot_foundry.catalog.opened import Part
from robot_foundry.export.outputs import open_output
from robot_foundry.export.parquet import card
from robot_foundry.export.parquet.files import encoders
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest
from robot_foundry.runtime.progress import Progress

FORMAT = 1


@dataclass(frozen=True)
class PlannedFile:
    """A file of `rows`, of about `num_bytes`. `write` fills it, and says how many rows it wrote."""

    path: str
    rows: int
    num_bytes: int
    write: Callable[[Path], int]


def about(part: Part, table: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What stands in the metadata of every file of a table."""
    component = part.component
    told = {
        "format": FORMAT,
        "table": table,
        "dataset": component.dataset,
        "version_id": component.version_id,
        "selection": dict(component.selection),
    }
    return told | dict(more or {})


def export_files(
    part: Part,
    out: Path,
    request: ExportRequest,
    files: Sequence[PlannedFile],
    *,
    counts: Mapping[str, int],
    tables: Mapping[str, str],
    unit: str,
) -> ExportReport:
    """Make the files that are not whole yet, then the card, which names `tables` by their patterns.

    `counts` are of what goes out, and `unit` what rows are in the progress.
    """
    paths = [*(file.path for file in files), card.NAME]
    if request.dry_run:
        size = sum(file.num_bytes for file in files)
        return ExportReport(out, True, counts, len(paths), size, versions=encoders())
    identity = {
        "format": ["parquet", FORMAT],
        "data": about(part, "", {"rows": part.select().id}),
        "encoders": encoders(),
        **request.options,
    }
    with open_output(out, identity, paths) as output:
        done = sum(file.rows for file in files if output.finished(file.path) is not None)
        with Progress(sum(file.rows for file in files), unit, "export", done=done) as progress:
            for file in files:
                fresh = output.finished(file.path) is None
                entry = output.make(file.path, partial(_written, file))
                if fresh:
                    progress.advance(file.rows, bytes=entry.num_bytes)
        output.make(card.NAME, lambda path: _put(path, card.text(part.component, tables)))
        return ExportReport(
            out, False, counts, len(paths), output.num_bytes, output.reused, versions=encoders()
        )


def _written(file: PlannedFile, path: Path) -> dict[str, int]:
    return {"rows": file.write(path)}


def _put(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
