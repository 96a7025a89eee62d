"""Which checkpoints of a run are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robot_foundry.trainer.checkpoints.checkpoint import complete, remove


@dataclass(frozen=True)
class RetentionSettings:
    """When checkpoints are written and how long they are kept, in optimiser steps."""

    save_every: int = 500
    keep_last: int = 3
    keep_every: int | None = None  # checkpoints at multiples of it are never deleted


def retain(run_dir: Path, step: int, settings: RetentionSettings) -> None:
    """Delete checkpoints that are neither among the last nor at a multiple of `keep_every` steps.

    `step` was just written: those beyond it were passed over when the run resumed, so they do not count.
    """
    written = {at: folder for at, folder in complete(run_dir).items() if at <= step}
    for at in sorted(written)[: -settings.keep_last]:
        if settings.keep_every is None or at % settings.keep_every:
            remove(written[at])
