"""Tables as parquet: `foundry-data export REF --to parquet`. Each kind has tables of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from robot_foundry.catalog.opened import Part
from robot_foundry.export.components import each_component
from robot_foundry.export.parquet.pairs import export_pairs
from robot_foundry.export.parquet.robot import export_robot
from robot_foundry.export.parquet.text import export_text
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest, Selected
from robot_foundry.runtime.errors import UsageError

_KINDS: Mapping[str, Callable[[Part, Path, ExportRequest], ExportReport]] = {
    "robot": export_robot,
    "pairs": export_pairs,
    "text": export_text,
}


def export(request: ExportRequest, data: Selected) -> ExportReport:
    """The tables of a version, or of each component of a mixture."""
    if request.options["file_bytes"] < 1:
        raise UsageError(f"--file-bytes {request.options['file_bytes']} is below 1")
    export_one = _KINDS[data.mixture.kind.name]
    return each_component(request, data, lambda part, out: export_one(part, out, request))
