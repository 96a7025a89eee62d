"""Programs that are killed at a point of their work, in a process of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SUPPORT = Path(__file__).parent.parent
FORKS = """
import json, os, sys
codes = []
for at, *arguments in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        os.environ["FOUNDRY_KILL_AT"] = at
        work(*arguments)
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


def killed(program: str, *arguments: str | Path, at: str) -> None:
    """Run a program, which may import what tests share, with `sys.argv[1:]`; it must die by SIGKILL there.

    `at` is as `runtime.killpoint` has it: the name of a point, with `:3` the third time that it is met.
    """
    done = _python(program, *map(str, arguments), at=at)
    assert done.returncode == -signal.SIGKILL, done.stderr


def killed_each(program: str, cases: Sequence[tuple[str | Path, ...]]) -> None:
    """Like `killed` for many cases (`at`, then arguments), each a fork of one process, which imports once.

    `program` defines `work`, which takes the arguments.
    """
    done = _python(program + FORKS, json.dumps(cases, default=str))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [-signal.SIGKILL] * len(cases), done.stderr


def _python(program: str, *arguments: str, at: str = "none") -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(SUPPORT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": paths, "FOUNDRY_KILL_AT": at},
        capture_output=True,
        text=True,
    )
