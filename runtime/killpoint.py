"""Named places where a test may kill or stop the process, so that no promise is tested against a clock."""

from __future__ import annotations

import os
import signal
from collections import Counter

ENVIRONMENT = "FOUNDRY_KILL_AT"
# Kill the parent first: that of a Ray worker is the raylet, and with it the node dies.
WITH_PARENT = "FOUNDRY_KILL_PARENT"
# The signal by name, where it is not to be SIGKILL.
SIGNAL = "FOUNDRY_KILL_SIGNAL"
_hits: Counter[str] = Counter()


def kill_point(name: str) -> None:
    """SIGKILL this process if FOUNDRY_KILL_AT is `name`, or `name:n` and this is the n-th hit here."""
    wanted = os.environ.get(ENVIRONMENT)
    if wanted is None:
        return
    _hits[name] += 1
    wanted_name, _, wanted_hit = wanted.partition(":")
    if wanted_name == name and _hits[name] == int(wanted_hit or "1"):
        if WITH_PARENT in os.environ:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.Signals[os.environ.get(SIGNAL, "SIGKILL")])
