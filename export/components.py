"""A mixture as a folder for each component, beside a file that says their weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_foundry.catalog.opened import Part
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest, Selected
from robot_foundry.runtime.errors import UsageError

MIXTURE_FILE = "mixture.json"


def each_component(
    request: ExportRequest, data: Selected, export_one: Callable[[Part, Path], ExportReport]
) -> ExportReport:
    """Export a version into the folder of the request, of a mixture each component into one of its name.

    mixture.json, with exact weights, is written when all of them are whole. UsageError for a folder with
    other files.
    """
    parts = data.mixture.parts
    if not data.is_mixture:
        return export_one(parts[0], request.out)
    _refuse_others(request.out, {part.name for part in parts})
    mixture = {
        "mixture": data.mixture.mixture.id,
        "components": [
            {
                "folder": part.name,
                "version": part.component.version,
                "weight": part.component.weight,
                "selection": dict(part.component.selection),
                "samples": part.component.num_samples,
            }
            for part in parts
        ],
    }
    place = request.out / MIXTURE_FILE
    if place.exists() and place.read_bytes() != _content(mixture):
        raise UsageError(
            f"{request.out} holds another mixture, as its {MIXTURE_FILE} says",
            hint="choose another --out, or delete this one",
        )
    reports = {part.name: export_one(part, request.out / part.name) for part in parts}
    if not request.dry_run:
        _write(place, mixture)
    return _joined(request, reports, mixture)


def _refuse_others(out: Path, names: set[str]) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="choose a new folder for --out")
    known = {*names, MIXTURE_FILE, f".{MIXTURE_FILE}.partial"}
    others = sorted(entry.name for entry in out.iterdir() if entry.name not in known) if out.exists() else []
    if others:
        raise UsageError(
            f"{out} holds '{others[0]}', which this export does not write",
            hint="choose a new folder for --out",
        )


def _content(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _write(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(_content(values))
    os.replace(partial, path)


def _joined(
    request: ExportRequest, reports: dict[str, ExportReport], mixture: dict[str, Any]
) -> ExportReport:
    counts: dict[str, int] = {}
    for report in reports.values():
        for noun, count in report.counts.items():
            counts[noun] = counts.get(noun, 0) + count
    weights = {entry["folder"]: entry["weight"] for entry in mixture["components"]}
    return ExportReport(
        out=request.out,
        dry_run=request.dry_run,
        counts=counts,
        files=sum(report.files for report in reports.values()) + 1,
        num_bytes=sum(report.num_bytes for report in reports.values()),
        reused=sum(report.reused for report in reports.values()),
        versions={k: v for report in reports.values() for k, v in report.versions.items()},
        details={"mixture": mixture, "components": {n: r.to_json() for n, r in reports.items()}},
        lines=tuple(
            f"  {name}: weight {weights[name]}, {_listed(report.counts)}" for name, report in reports.items()
        ),
        warnings=tuple(f"{name}: {text}" for name, report in reports.items() for text in report.warnings),
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {noun}" for noun, count in counts.items())
