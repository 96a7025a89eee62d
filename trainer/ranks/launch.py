"""Several ranks on this machine without a launcher: each is the same command in its own process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore

from robot_foundry.trainer.ranks.machine import SHARED_CORES
from robot_foundry.trainer.signals import INSISTING, STOPPING

POLL_S = 0.5
_LAUNCHER = "FOUNDRY_LAUNCHER"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_ranks(command: Sequence[str], size: int) -> int:
    """Run `command` as ranks 0 … size-1 and return the exit code of the first that failed, or 0.

    Signals that stop a run are passed on, a hang-up as SIGTERM; the second that insists kills all ranks. When
    one rank fails the others are ended. The ranks share the cores unless OMP_NUM_THREADS says how many
    threads each may have.
    """
    # The store takes a free port and lives here, so that no rank has to guess one.
    store = TCPStore("127.0.0.1", 0, None, True, timedelta(minutes=5), wait_for_workers=False)
    shared = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        _LAUNCHER: str(os.getpid()),
    }
    if not os.environ.get("OMP_NUM_THREADS"):
        shared |= {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // size)), SHARED_CORES: "1"}
    # Sessions of their own: what the terminal sends to its whole group would reach them twice.
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(i), "LOCAL_RANK": str(i)},
            start_new_session=True,
        )
        for i in range(size)
    ]

    insisted: list[int] = []

    def forward(number: int, frame: object) -> None:
        number = signal.SIGTERM if number == signal.SIGHUP else number
        insisted.extend([number] if number in INSISTING else [])
        for rank in ranks:
            rank.send_signal(signal.SIGKILL if len(insisted) > 1 else number)

    before = {number: signal.signal(number, forward) for number in (*STOPPING, signal.SIGHUP)}
    try:
        code = _wait(ranks)
        return 128 + insisted[-1] if len(insisted) > 1 else code
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_launcher() -> None:
    """In a rank that `run_ranks` started: end when the launcher does, however it ends. Linux only.

    A rank that outlived a killed launcher would go on writing the run that the same command resumes.
    """
    launcher = os.environ.get(_LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != int(launcher):  # it ended before that was asked
        os.kill(os.getpid(), signal.SIGKILL)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all ranks, or for the first that fails otherwise than by a requested stop."""
    waiting = list(ranks)
    while waiting:
        with contextlib.suppress(subprocess.TimeoutExpired):
            waiting[0].wait(POLL_S)
        codes = [rank.poll() for rank in ranks]
        failed = [code for code in codes if code is not None and code not in (0, 75)]
        if failed:
            return failed[0] if failed[0] > 0 else 128 - failed[0]
        waiting = [rank for rank, code in zip(ranks, codes, strict=True) if code is None]
    return max(rank.returncode for rank in ranks)
