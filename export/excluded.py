"""Groups that a file of names leaves out, as part of the condition of a selection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.runtime.errors import UsageError, nearest

LARGEST = 64 * 2**20


def read_names(path: Path) -> tuple[str, ...]:
    """One name a line; blank lines and what follows a # at the start of a line are not read."""
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(
                f"{path} has {path.stat().st_size} bytes: a file of names, one a line, is wanted"
            )
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no file of names, one a line: {error}") from error
    names = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    return tuple(dict.fromkeys(filter(None, names)))


def without(where: str | None, names: Sequence[str], versions: Sequence[OpenVersion]) -> str | None:
    """The condition `where` without the groups of these names, by key or id.

    UsageError for a name that no version has.
    """
    if not names:
        return where
    known = {name for opened in versions for name in _names_in(opened)}
    unknown = [name for name in names if name not in known]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise UsageError(
            f"nothing is called '{unknown[0]}', which is to be left out{nearest(unknown[0], known)}{more}"
        )
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    kept = f"key NOT IN ({listed}) AND id NOT IN ({listed})"
    return kept if where is None else f"({where}\n) AND {kept}"


def _names_in(opened: OpenVersion) -> set[str]:
    """Keys and ids of the groups of a version."""
    from robot_foundry.catalog.query.duck import query_tables

    asked, tables = opened.kind.conditions(opened, "")
    table = query_tables(f"SELECT key, id FROM ({asked})", tables, "--exclude")
    return {name for column in ("key", "id") for name in table[column].to_pylist()}
