"""A second kind, in tests alone: `lines`, text files of which each is a document and each line a sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from foundry_testing.lines.ingest.layout import LINES
from robot_foundry.catalog.kind import ROOMS
from robot_foundry.ingest.sources import LAYOUTS


@contextmanager
def known() -> Iterator[None]:
    """The kind and its layout are known, as those of the package are."""
    rooms = {room: f"{__name__}.{room}" for room in ("catalog", "ingest", "loader")}
    with patch.dict(ROOMS, {"lines": rooms}), patch.dict(LAYOUTS, {LINES.name: LINES}):
        yield
