"""The formats in which demonstrations can be written, by name, and where each may be written.

A format is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robot_foundry.runtime.errors import UsageError, nearest

if TYPE_CHECKING:
    from robot_foundry.evaluation.recorders.recorder import Common, Recorder


@dataclass(frozen=True)
class Format:
    """`recorder` is module:class, whose `options` may be given.

    `is_folder` says that it is many files, in a folder of their own.
    """

    name: str
    recorder: str
    is_folder: bool
    options: tuple[str, ...] = ()


_HERE = "robot_foundry.evaluation.recorders"
FORMATS = {
    entry.name: entry
    for entry in (
        Format("hdf5", f"{_HERE}.hdf5:Hdf5Recorder", is_folder=False),
        Format("mcap", f"{_HERE}.mcap:McapRecorder", is_folder=True),
        Format("rlds", f"{_HERE}.rlds:RldsRecorder", is_folder=True),
        Format("lerobot", f"{_HERE}.lerobot:LeRobotRecorder", is_folder=True, options=("images",)),
    )
}


def get_format(name: str) -> Format:
    """UsageError with the nearest name if there is none of that name."""
    if name not in FORMATS:
        raise UsageError(
            f"demonstrations are not written as {name!r}{nearest(name, FORMATS)}",
            hint=f"formats: {', '.join(FORMATS)}",
        )
    return FORMATS[name]


def recorder(format: Format, place: Path, common: Common, options: Mapping[str, Any]) -> Recorder:
    """What writes to that place."""
    module, _, attribute = format.recorder.partition(":")
    made: Recorder = getattr(import_module(module), attribute)(place, common, **options)
    return made


def check_options(format: Format, options: Iterable[str]) -> None:
    """UsageError for an option that is of another format, or of none."""
    for option in options:
        if option not in format.options:
            owners = [f"--to {entry.name}" for entry in FORMATS.values() if option in entry.options]
            raise UsageError(
                f"--{option} is of {' and '.join(owners) or 'no format'}, not of --to {format.name}"
            )


def check_place(out: Path, format: Format) -> None:
    """UsageError where `out` cannot become what the format makes: a file takes the place of one that was
    recorded as well, and a folder that of nothing, for a folder may hold what is of no recorder."""
    if not format.is_folder and out.is_dir():
        raise UsageError(
            f"{out} is a folder, and {format.name} is one file",
            hint=f"give a file: --out {out / f'episodes.{format.name}'}",
        )
    if not format.is_folder and out.exists() and not _is_recorded(out, format):
        raise UsageError(
            f"{out} is there already, and is no recording of this command",
            hint="give another --out, or remove it",
        )
    if format.is_folder and out.is_file():
        raise UsageError(f"{out} is a file, and {format.name} is a folder", hint="give another --out")
    if format.is_folder and out.exists() and (any(out.iterdir()) or out.samefile(".")):
        raise UsageError(f"the folder {out} is there already", hint="give another --out, or remove it")


def _is_recorded(out: Path, format: Format) -> bool:
    """Whether a file is one that its recorder wrote; the module of a format that is one file says so."""
    module, _, _ = format.recorder.partition(":")
    return bool(import_module(module).is_recorded(out))


def size_of(place: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    if place.is_file():
        return place.stat().st_size
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
