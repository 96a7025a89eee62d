"""Training on several "nodes", which are launchers of this machine, each in a session of its own.

Everything is as it is for a user but that ranks are forked and not started anew, which spares each the import
of torch. Run as a module, it plays phases, one after the other: see `main`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robot_foundry.cli import foundry_train
from robot_foundry.cli.output import run
from robot_foundry.trainer.ranks import launch


def _end_with_parent() -> None:
    """Where the tests are ended, a node that is to train for ever ends, too. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG of linux/prctl.h


class ForkedRank:
    """A process that began as a copy of this one, as far as a launcher uses a Popen."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                _end_with_parent()
                for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                work()
            except SystemExit as end:
                os._exit(int(end.code or 0))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(70)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a rank", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _rank(command: Sequence[str], environment: Mapping[str, str], log: int | None) -> ForkedRank:
    def work() -> None:
        for out in (1, 2) if log is not None else ():
            os.dup2(log or 0, out)
        os.environ.clear()
        os.environ.update(environment)
        launch.end_with_launcher()
        sys.exit(run(foundry_train.group, "foundry-train", command[3:]))

    return ForkedRank(work)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _node(arguments: list[str], environment: Mapping[str, str], output: Path) -> ForkedRank:
    """A launcher: this process with another environment, and with its output in a file."""

    def work() -> None:
        for out in (1, 2):
            os.dup2(os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND), out)
        os.environ.update(environment)
        sys.argv = ["foundry-train", *arguments]
        launch.start = _rank  # type: ignore[assignment]
        sys.exit(run(foundry_train.group, "foundry-train", arguments))

    return ForkedRank(work)


def _signalled(nodes: Sequence[ForkedRank], ask: Mapping[str, Any], after: int) -> None:
    """Send a node what is asked for once the run has more than `after` records."""
    metrics = Path(ask["run"], "metrics.jsonl")
    while not metrics.exists() or metrics.read_bytes().count(b"\n") <= after:
        if any(node.poll() is not None for node in nodes):
            return
        time.sleep(0.02)
    nodes[ask["node"]].send_signal(signal.Signals[ask["number"]])


def main(phases: list[dict[str, Any]], outputs: Path) -> list[list[int]]:
    """Exit codes (negative: signals) of the launchers of each phase, whose output is `outputs`/PHASE-NODE.

    A phase is {"nodes": what each has beside "arguments": {"environment", "arguments"}, "signal": {"run",
    "node", "number"}: what one launcher gets once the run goes on}. {port} stands for a free one.
    """
    _end_with_parent()
    import torch._dynamo  # noqa: F401  (imported by the optimiser otherwise, in each rank)

    codes = []
    for i, phase in enumerate(phases):
        port = str(free_port())
        ask = phase.get("signal")
        metrics = Path(ask["run"], "metrics.jsonl") if ask else None
        before = metrics.read_bytes().count(b"\n") if metrics is not None and metrics.exists() else 0
        nodes = [
            _node(
                [text.replace("{port}", port) for text in (*phase["arguments"], *node.get("arguments", ()))],
                {name: text.replace("{port}", port) for name, text in node.get("environment", {}).items()},
                outputs / f"{i}-{n}",
            )
            for n, node in enumerate(phase["nodes"])
        ]
        if ask:
            _signalled(nodes, ask, before)
        codes.append([node.wait() for node in nodes])
    return codes


def run_phases(phases: Sequence[Mapping[str, Any]], outputs: Path) -> tuple[list[list[int]], list[list[str]]]:
    """`main` in a process of its own: exit codes, and what each launcher wrote, by phase and node."""
    outputs.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "foundry_testing.node_runs", json.dumps(phases), str(outputs)],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=None,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    texts = [
        [(outputs / f"{i}-{n}").read_text("utf-8", "replace") for n in range(len(phase["nodes"]))]
        for i, phase in enumerate(phases)
    ]
    return json.loads(done.stdout.splitlines()[-1]), texts


if __name__ == "__main__":
    result = main(json.loads(sys.argv[1]), Path(sys.argv[2]))
    print("\n" + json.dumps(result))
