"""The ranks of this machine without torchrun: each is the same command in its own process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robot_foundry.runtime.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_PREEMPTED
from robot_foundry.trainer.ranks.board import Board, Verdict
from robot_foundry.trainer.ranks.logs import log_path, open_log, tail
from robot_foundry.trainer.ranks.machine import SHARED_CORES
from robot_foundry.trainer.ranks.nodes import Met, Nodes, meet
from robot_foundry.trainer.signals import INSISTING, STOPPING

POLL_S = 0.5
GRACE_S = 8.0  # for the other ranks to say why they end; longer than that of a heartbeat
_FAREWELL_S = 3.0  # for other launchers to read from the store of the first one why the run ended
_LAUNCHER = "FOUNDRY_LAUNCHER"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ASKED = (EXIT_OK, EXIT_PREEMPTED, EXIT_INTERRUPTED)


@dataclass
class _Rank:
    number: int
    process: subprocess.Popen[bytes]
    log: Path | None


def run_ranks(
    command: Sequence[str],
    size: int,
    *,
    nodes: Nodes | None = None,
    pins: Sequence[str] = (),
    logs: Path | None = None,
    grace_s: float = GRACE_S,
) -> int:
    """Run `command`, with the `pins` of the first node added, as `size` ranks, and return their exit code.

    That is the one of the first rank that failed, 1 where a signal ended it or another node's rank failed, 75
    or 130 where all were asked to stop, or 0. Signals that stop a run are passed on, a hang-up as SIGTERM;
    the second that insists kills all ranks. When one rank fails the others have `grace_s` seconds to say so.
    The ranks share the cores unless OMP_NUM_THREADS says how many threads each may have. With `logs` each
    rank but the main one writes into a file there.
    """
    met = meet(nodes or Nodes(), size, pins)
    with _started([*command, *met.pins], size, met, logs) as ranks:
        signals: list[int] = []

        def forward(number: int, frame: object) -> None:
            number = signal.SIGTERM if number == signal.SIGHUP else number
            signals.append(number)
            for rank in ranks:
                rank.process.send_signal(signal.SIGKILL if _insisted(signals) else number)

        before = {number: signal.signal(number, forward) for number in (*STOPPING, signal.SIGHUP)}
        try:
            code = _wait(ranks, met, signals, grace_s)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        insisting = [number for number in signals if number in INSISTING]
        return 128 + insisting[-1] if _insisted(signals) else code


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


def start(command: Sequence[str], environment: Mapping[str, str], log: int | None) -> subprocess.Popen[bytes]:
    """A process in a session of its own: what the terminal sends to its whole group would reach it twice."""
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


@contextlib.contextmanager
def _started(command: Sequence[str], size: int, met: Met, logs: Path | None) -> Iterator[list[_Rank]]:
    """The ranks of this launcher. None outlives the block."""
    shared = {
        **os.environ,
        "WORLD_SIZE": str(met.size),
        "MASTER_ADDR": met.master,
        "MASTER_PORT": str(met.store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store lives here, so that no rank has to guess a port
        _LAUNCHER: str(os.getpid()),
    }
    if not os.environ.get("OMP_NUM_THREADS"):
        threads = max(1, (os.cpu_count() or 1) // met.on_machine)
        shared |= {"OMP_NUM_THREADS": str(threads), SHARED_CORES: "1"}
    ranks: list[_Rank] = []
    with contextlib.ExitStack() as stack:
        for i in range(size):
            number, log = met.first + i, None
            if logs is not None and number > 0:
                file = open_log(logs, number, met.size, socket.gethostname())
                log = stack.enter_context(file).fileno()
            own = {"RANK": str(number), "LOCAL_RANK": str(met.local + i)}
            process = start(command, {**shared, **own}, log)
            ranks.append(_Rank(number, process, log_path(logs, number) if logs and number > 0 else None))
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield ranks


def _wait(ranks: Sequence[_Rank], met: Met, signals: Sequence[int], grace_s: float) -> int:
    """Wait for all ranks, or for the first that fails otherwise than by a requested stop; its exit code."""
    board = Board.at(met.master, met.store.port, met.size)
    while True:
        running = [rank for rank in ranks if rank.process.poll() is None]
        codes = {rank.number: _code(rank, signals) for rank in ranks if rank not in running}
        failed = [rank for rank in ranks if codes.get(rank.number, EXIT_OK) not in _ASKED]
        if failed and _insisted(signals):
            return EXIT_FAILED
        verdict = _judge(board, _fault(failed[0], board)) if failed else _verdict(board)
        if verdict is not None and verdict.code == EXIT_FAILED:
            return _failed(verdict, ranks, met, grace_s)
        stopped = [number for number, code in codes.items() if code != EXIT_OK]
        if stopped and running:
            # Where the run has begun all stop at one step. A rank that ended before it is waited for in vain.
            _judge(board, Verdict(stopped[0], f"rank {stopped[0]} was asked to stop", code=EXIT_PREEMPTED))
        if not running:
            met.done(_FAREWELL_S)
            return max(codes.values())
        with contextlib.suppress(subprocess.TimeoutExpired):
            running[0].process.wait(POLL_S)


def _insisted(signals: Sequence[int]) -> bool:
    return sum(number in INSISTING for number in signals) > 1


def _code(rank: _Rank, signals: Sequence[int]) -> int:
    """The exit code of a rank that has ended, which a signal asked to stop may do before it can answer."""
    code = rank.process.returncode
    if -code in signals:
        return EXIT_INTERRUPTED if -code == signal.SIGINT else EXIT_PREEMPTED
    return code


def _fault(rank: _Rank, board: Board) -> Verdict:
    """What to say of a rank that ended otherwise than asked."""
    code = rank.process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    try:
        sign = board.signs().get(rank.number)
    except RuntimeError:
        sign = None
    message = f"rank {rank.number} on {socket.gethostname()} {how}"
    return Verdict(rank.number, message if sign is None else f"{message}; {sign.seen}")


def _failed(verdict: Verdict, ranks: Sequence[_Rank], met: Met, grace_s: float) -> int:
    """Wait a moment for the ranks to end by themselves, which a frozen one does not, and tell the user."""
    deadline = time.monotonic() + grace_s
    while any(rank.process.poll() is None for rank in ranks) and time.monotonic() < deadline:
        time.sleep(POLL_S / 5)
    by_number = {rank.number: rank for rank in ranks}
    first = by_number.get(verdict.rank)
    code = None if first is None else first.process.returncode
    for line in _told(verdict, first, by_number.get(0)):
        print(line, file=sys.stderr, flush=True)
    met.done(_FAREWELL_S)
    return code if code is not None and code > 0 else EXIT_FAILED


def _judge(board: Board, verdict: Verdict) -> Verdict:
    try:
        return board.judge(verdict)
    except RuntimeError:  # the first node has gone
        return verdict


def _verdict(board: Board) -> Verdict | None:
    try:
        return board.verdict()
    except RuntimeError:  # the first node has gone: ranks that live find that out
        return None


def _told(verdict: Verdict, first: _Rank | None, main: _Rank | None) -> Iterator[str]:
    """Why the run ends, where the main rank has not said so here, and what the rank at fault wrote."""
    if main is None or main.process.returncode is None or main.process.returncode < 0:
        yield f"Error: {verdict.message}"
    if first is not None and first.log is not None:
        written = tail(first.log)
        yield f"The end of {first.log}:\n{written}" if written else f"It wrote nothing into {first.log}."
