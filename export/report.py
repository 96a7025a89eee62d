"""What came of an export, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExportReport:
    """`counts` are of groups and samples, by their names; `files` and `num_bytes` of all that was written or
    found whole, estimated in a dry run; `reused` are files that an earlier run had finished. `versions` are
    those of the encoders, `lines` say to people what is not in these, `warnings` what one would not expect.
    """

    out: Path
    dry_run: bool
    counts: Mapping[str, int]
    files: int
    num_bytes: int
    reused: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "out": str(self.out),
            "dry_run": self.dry_run,
            "counts": dict(self.counts),
            "files": self.files,
            "bytes": self.num_bytes,
            "reused": self.reused,
            "versions": dict(self.versions),
            **self.details,
            "warnings": list(self.warnings),
        }
