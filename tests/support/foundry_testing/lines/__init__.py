"""A second kind, in tests alone: `lines`, text files of which each is a document and each line a sample.

Importing this makes it known, as `robot` is known to the package. `FOLDER` goes into PYTHONPATH of processes
that a test starts.
"""

from __future__ import annotations

from pathlib import Path

from foundry_testing.lines.ingest.layout import LINES
from robot_foundry.catalog.kind import ROOMS
from robot_foundry.ingest.sources import LAYOUTS

FOLDER = Path(__file__).parent.parent.parent

ROOMS["lines"] = {room: f"{__name__}.{room}" for room in ("catalog", "ingest", "loader")}
LAYOUTS[LINES.name] = LINES
