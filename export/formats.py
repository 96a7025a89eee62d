"""The formats that data can be exported to. Each is a function that is imported when it runs.

`export(request, selected)` of a format does all the work; its options are told here, so that the command
reads them without knowing any format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from robot_foundry.catalog.mixture import weights_of
from robot_foundry.catalog.opened import OpenVersions
from robot_foundry.catalog.store import Store
from robot_foundry.export.lerobot.options import OPTIONS as LEROBOT
from robot_foundry.export.options import Option
from robot_foundry.export.parquet.options import OPTIONS as PARQUET
from robot_foundry.export.report import ExportReport
from robot_foundry.export.request import ExportRequest, Selected, selected
from robot_foundry.export.windows.options import OPTIONS as WINDOWS
from robot_foundry.runtime.errors import UsageError, nearest


class Export(Protocol):
    """What a format's function is."""

    def __call__(self, request: ExportRequest, data: Selected) -> ExportReport: ...


@dataclass(frozen=True)
class Format:
    """`target` is `module:function`, `help` one line, `kinds` what it can hold, by the names of kinds.

    `then` says what one does with it, its folder written as OUT.
    """

    target: str
    help: str
    kinds: tuple[str, ...]
    then: str
    options: tuple[Option, ...] = ()

    def load(self) -> Export:
        module, _, name = self.target.partition(":")
        function: Export = getattr(import_module(module), name)
        return function


FORMATS: Mapping[str, Format] = {
    "lerobot": Format(
        "robot_foundry.export.lerobot.export:export",
        "a LeRobot dataset, v3.0 or v2.1: parquet with videos or images",
        ("robot",),
        "`foundry-data ingest lerobot OUT --as NAME` reads it again",
        LEROBOT,
    ),
    "windows": Format(
        "robot_foundry.export.windows.export:export",
        "training windows as WebDataset tars, plain or in the layout of VLA Foundry",
        ("robot",),
        "a trainer reads the tars of OUT with webdataset: docs/export.md, Windows",
        WINDOWS,
    ),
    "parquet": Format(
        "robot_foundry.export.parquet.export:export",
        "tables as parquet for pandas, DuckDB, polars and datasets: of a robot, pairs or text",
        ("robot", "pairs", "text"),
        "pandas, polars and DuckDB read OUT: docs/export.md, Parquet",
        PARQUET,
    ),
}


def format_named(name: str) -> Format:
    """UsageError for a name that is none."""
    if name not in FORMATS:
        raise UsageError(
            f"there is no format '{name}'{nearest(name, FORMATS)} (formats: {', '.join(FORMATS)})"
        )
    return FORMATS[name]


def options_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a format, with those that are given; UsageError for one that is of another format."""
    known = {option.name: option for option in format_named(name).options}
    for key in given:
        if key not in known:
            owners = [other for other, entry in FORMATS.items() if key in {o.name for o in entry.options}]
            whose = f"is of --to {' and --to '.join(owners)}" if owners else "is of no format"
            raise UsageError(f"--{key.replace('_', '-')} {whose}, not of --to {name}{nearest(key, known)}")
    for key, value in given.items():
        choices = known[key].choices
        if choices and value not in choices:
            raise UsageError(
                f"--{key.replace('_', '-')} '{value}' is none of --to {name}{nearest(str(value), choices)} "
                f"(there are {', '.join(choices)})"
            )
    return {key: given.get(key, option.default) for key, option in known.items()}


def export(name: str, request: ExportRequest, store: Store) -> ExportReport:
    """Write what the request asks for in the format `name`."""
    chosen, versions = format_named(name), OpenVersions(store)
    for ref in weights_of(request.ref):
        kind = versions.open(ref).kind
        if kind.name not in chosen.kinds:
            able = [other for other, entry in FORMATS.items() if kind.name in entry.kinds]
            hint = f"formats of {kind.samples}: --to {', --to '.join(able)}" if able else None
            raise UsageError(
                f"export --to {name} takes {' and '.join(chosen.kinds)} datasets, "
                f"and '{ref}' holds {kind.samples}",
                hint=hint,
            )
    return chosen.load()(request, selected(request, versions))
