"""Named places where a test may kill the process, so that crash promises are tested without a clock."""

from __future__ import annotations

import os
import signal
from collections import Counter

ENVIRONMENT = "FOUNDRY_KILL_AT"
_hits: Counter[str] = Counter()


def kill_point(name: str) -> None:
    """SIGKILL this process if FOUNDRY_KILL_AT is `name`, or `name:n` and this is the n-th hit here."""
    wanted = os.environ.get(ENVIRONMENT)
    if wanted is None:
        return
    _hits[name] += 1
    wanted_name, _, wanted_hit = wanted.partition(":")
    if wanted_name == name and _hits[name] == int(wanted_hit or "1"):
        os.kill(os.getpid(), signal.SIGKILL)
