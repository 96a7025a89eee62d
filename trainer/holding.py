"""Who trains a run's folder: one process at a time, which holds its lock for as long as it lives."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

import filelock

from robot_foundry.runtime.errors import FoundryError

LOCK = ".lock"
PATIENCE_S = 0.2  # whoever only asks holds it for an instant


def hold(run_dir: Path, stack: ExitStack) -> None:
    """Hold the run's folder. The system lets go of it when this process ends, however it ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        stack.enter_context(filelock.FileLock(run_dir / LOCK, timeout=PATIENCE_S).acquire())
    except filelock.Timeout:
        raise FoundryError(
            f"another process is training {run_dir}",
            hint="wait for it, end it, or train elsewhere with run.dir=…",
        ) from None


def may_be_held(run_dir: Path) -> bool:
    """Whether a process may be training the folder. False proves that none of this machine does; one of
    another machine is seen where the file system shares locks."""
    try:
        file = os.open(run_dir / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # it is held, or the file system has no locks
        return True
    finally:
        os.close(file)
    return False
