"""One Ray session for all tests of a process: starting one takes seconds."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

WORKERS = 2
SUPPORT = str(Path(__file__).parent.parent)


def begin(workers: int = WORKERS) -> int:
    """Start it, unless it is there with so many workers; how many it has."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized() and ray.cluster_resources()["CPU"] != workers:
        end()
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": 40}
        # Workers import what tests share too.
        paths = os.pathsep.join([SUPPORT, *filter(None, [os.environ.get("PYTHONPATH")])])
        with patch.dict(os.environ, PYTHONPATH=paths):
            ray.init(address="local", num_cpus=workers, object_store_memory=1 << 27, **quiet)
    return workers


def end() -> None:
    """Stop it, if it is there: before something starts or joins one itself, and before a fork."""
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        sys.modules["ray"].shutdown()
