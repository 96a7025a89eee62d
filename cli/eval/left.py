"""What an evaluation leaves behind: a report with the run, and the command that reads them all."""

from __future__ import annotations

import shlex
from pathlib import Path

from robot_foundry.cli.output import note


def leads_on(run: str | Path) -> None:
    """Name the command that sets the report beside the others of the run."""
    note(f"Next: {shlex.join(['foundry-eval', 'scorecard', str(run)])}")
