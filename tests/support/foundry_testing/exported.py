"""Exports by the command, and what lies in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from robot_foundry.catalog.store import Store
from robot_foundry.cli import foundry_data
from robot_foundry.cli.output import run


def export(store: Store, ref: str, to: str, out: Path, *options: str) -> tuple[int, str, str]:
    """Run `foundry-data export`: its exit code, and what it says on stdout and stderr."""
    said, noted = io.StringIO(), io.StringIO()
    arguments = ["export", ref, "--to", to, "--out", str(out), "--store", store.url, *options]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(noted):
        code = run(foundry_data.group, foundry_data.PROGRAM, arguments)
    return code, said.getvalue(), noted.getvalue()


def exported(store: Store, ref: str, to: str, out: Path, *options: str) -> dict[str, Any]:
    """What an export, which must succeed, says with --json."""
    code, said, noted = export(store, ref, to, out, "--json", *options)
    assert code == 0, noted
    report: dict[str, Any] = json.loads(said)
    return report


def hashes(folder: Path) -> dict[str, str]:
    """Of every file, hidden ones too, but the lock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }
