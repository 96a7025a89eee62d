"""What ranks of a run really exchange in a step, and hold after it: see `main`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._C._distributed_c10d import TCPStore
from torch.profiler import profile

from robot_foundry.cli import foundry_train
from robot_foundry.trainer import loop
from robot_foundry.trainer.loop import RunParts, StepPlan

WARM, COUNTED = 1, 2  # steps before the one that is counted, and that one
_BYTES = {"float": 4, "c10::BFloat16": 2, "double": 8, "long int": 8, "int": 4, "unsigned char": 1}


def main(cases: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Run foundry-train as forked ranks, one case of "size" and "arguments" after the other.

    What rank 0 counted goes to `<number>.json` in the folder:
    exchanged  of the second step, by collective: the bytes that this rank put in
    held       after it the bytes of this rank's weights, gradients, optimiser's state and averages
    """
    for number, case in enumerate(cases):
        server = TCPStore("127.0.0.1", 0, None, True, timedelta(minutes=2), wait_for_workers=False)
        os.environ |= {
            "WORLD_SIZE": str(case["size"]), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }  # fmt: skip
        pids = []
        for rank in range(case["size"]):
            if not (pid := os.fork()):
                os.environ["RANK"] = str(rank)
                _end(case["arguments"], folder / f"{number}.json" if rank == 0 else None)
            pids.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert not any(codes), codes


def _end(arguments: Sequence[str], out: Path | None) -> None:
    """Be a rank, and nothing after it."""
    code = 1
    try:
        code = _rank(arguments, out)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _rank(arguments: Sequence[str], out: Path | None) -> int:
    report, counter = loop.report, profile(record_shapes=True)
    held: dict[str, int] = {}

    def counted(parts: RunParts, plan: StepPlan, done: int) -> None:
        if done == COUNTED:
            counter.stop()
            held.update(_held(parts))
        report(parts, plan, done)
        if done == WARM:
            counter.start()

    sys.argv = ["foundry-train", *arguments]
    code: Any = 0
    with patch.object(loop, "report", counted):
        try:
            foundry_train.main()
        except SystemExit as done:
            code = done.code or 0
    if out is not None and code == 0:
        out.write_text(json.dumps({"exchanged": _exchanged(counter), "held": held}))
    sys.stdout.flush()
    return int(code)


def _exchanged(counter: profile) -> dict[str, int]:
    found: Counter[str] = Counter()
    assert counter.profiler is not None and counter.profiler.kineto_results is not None
    for event in counter.profiler.kineto_results.events():
        if event.name().startswith("gloo:"):
            for shape, kind in zip(event.shapes(), event.dtypes(), strict=True):
                found[event.name()] += torch.Size(shape).numel() * _BYTES[kind]
    return dict(found)


def _held(parts: RunParts) -> dict[str, int]:
    parameters = [parameter for parameter in parts.model.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    state = [tensor for _, tensor in parts.optimizers.tensors() if tensor.ndim]
    averages = [] if parts.ema is None else list(parts.ema.averages.values())
    return {
        "weights": _bytes(list(parts.model.parameters())),
        "gradients": _bytes(gradients),
        "optimizer": _bytes(state),
        "average": _bytes(averages),
    }


def _bytes(tensors: Sequence[Tensor]) -> int:
    from robot_foundry.trainer.ranks.shares import local

    return sum(local(tensor.detach()).nbytes for tensor in tensors)


def count(cases: Sequence[Mapping[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """`main` in a process of its own: what it counted of each case."""
    command = [sys.executable, "-m", "foundry_testing.counted_ranks", json.dumps(cases), str(folder)]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(len(cases))]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
