"""What a run would be, without starting it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunPlan:
    """What would be trained, and what in the data may be a reason not to."""

    values: dict[str, Any]  # as `--dry-run --json` says it: `config`, `parameters` and `mixture` among them
    epochs: tuple[float, ...]  # how often the run sees each dataset
    warnings: tuple[str, ...]
