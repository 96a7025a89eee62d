"""Pointer files: a few lines of JSON that name a version, for git and for pipeline tools to track."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from robot_foundry.catalog.version import Version

pointer_option = click.option(
    "--pointer",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write a small JSON file that names the version, for git and dvc.",
)


def write_pointer(path: Path, version: Version, counts: Mapping[str, int]) -> None:
    """Name `version` in `path`; the same version gives the same bytes, whenever it is written."""
    content = {
        "dataset": version.dataset,
        "version": f"v{version.seq}",
        "version_id": version.version_id,
        "counts": dict(counts),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
