"""Programs that are killed at a point of their work, in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent.parent


def killed(program: str, *arguments: str | Path, at: str) -> None:
    """Run a program, which may import what tests share, with `sys.argv[1:]`; it must die by SIGKILL there.

    `at` is as `runtime.killpoint` has it: the name of a point, with `:3` the third time that it is met.
    """
    paths = os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, "FOUNDRY_KILL_AT": at},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
