"""How threads of this process share the cores with others, where a library would change it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TASKS = Path("/proc/self/task")


@contextmanager
def unchanged_scheduling() -> Iterator[None]:
    """Inside, a library may ask for real time; afterwards this thread, and those begun meanwhile, have the
    policy that this one had. Linux only: elsewhere nothing is done.

    SVT-AV1 takes SCHED_FIFO at the highest priority for the thread that opens it wherever it may, as root in
    a container, and its own threads inherit it: whatever else runs on the machine would stand still.
    """
    if not (hasattr(os, "sched_setscheduler") and _TASKS.is_dir()):
        yield
        return
    policy, param, before = os.sched_getscheduler(0), os.sched_getparam(0), _threads()
    try:
        yield
    finally:
        for thread in (0, *(_threads() - before)):
            try:
                if os.sched_getscheduler(thread) != policy:
                    os.sched_setscheduler(thread, policy, param)
            except ProcessLookupError:  # it has ended
                continue


def _threads() -> set[int]:
    return {int(path.name) for path in _TASKS.iterdir()}
