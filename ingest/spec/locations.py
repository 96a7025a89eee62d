"""Where a spec says that its dataset lies."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from robot_foundry.ingest.files.scan import SourceFiles, choose
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.files import is_remote

ELSE = "give SOURCE, or set the variable"
VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")


def locate(spec: SourceSpec, environment: Mapping[str, str] = os.environ) -> tuple[str, SourceFiles]:
    """The first of the spec's locations where there is something, and the files that would be read.

    A location whose environment variables are not set is passed over. UsageError if there is none.
    """
    if not spec.locations:
        raise UsageError(f"the spec {spec.name} names no place to look", hint="give SOURCE")
    tried = []
    for location in spec.locations:
        place = _expanded(location, environment)
        if place is None:
            tried.append(f"{location} (not set)")
        elif is_remote(place) or Path(place).exists():
            return place, _chosen(place, spec, tried)
        else:
            tried.append(place)
    raise UsageError(f"{spec.name} is not at {', '.join(tried)}", hint=f"put it there, or {ELSE}")


def _chosen(place: str, spec: SourceSpec, tried: list[str]) -> SourceFiles:
    """The files at a place; where they cannot be read, the error tells of the places before it too."""
    try:
        return choose(place, spec)[1]
    except UsageError as error:
        before = f"{spec.name} is not at {', '.join(tried)}, and " if tried else ""
        after = "" if error.hint is None else f"{error.hint}, or "
        raise UsageError(f"{before}{error.message}", hint=f"{after}{ELSE}") from error


def _expanded(location: str, environment: Mapping[str, str]) -> str | None:
    names = [first or second for first, second in VARIABLE.findall(location)]
    if not all(environment.get(name) for name in names):
        return None
    place = VARIABLE.sub(lambda match: environment[match[1] or match[2]], location)
    return place if is_remote(place) else os.path.expanduser(place)
