"""A profile of a few steps: RUN/profile/rank-0.trace.json for chrome://tracing or Perfetto, and a table.

It watches and changes nothing: a run ends in the same bits with and without.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch.profiler import ProfilerActivity, profile, record_function, schedule

from robot_foundry.trainer.metering.phases import PHASES, Phases
from robot_foundry.trainer.ranks.ranks import Ranks

FOLDER = "profile"
WARM_UP = 3  # steps before: the first ones take memory, and the profiler itself starts
_TOP = 12
_SPAN = "phase: "


class _Steps(Protocol):
    def __call__(self) -> None: ...


@contextmanager
def profiled(run_dir: Path, phases: Phases, ranks: Ranks, steps: int) -> Iterator[_Steps]:
    """Profile `steps` steps after a few; what it gives is to be called when a step has ended.

    Of a run that ends before, those that there were.
    """
    # Else it tells on stderr, in lines of its own, when it starts.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    on_gpu = ranks.device.type == "cuda"
    ended = 0
    written: list[Path] = []

    def stepped() -> None:
        nonlocal ended
        ended += 1
        profiler.step()

    def ready(of: Any) -> None:
        phases.span = None
        taken = min(steps, ended - WARM_UP)
        if taken < 1:
            return
        path = run_dir / FOLDER / f"rank-{ranks.rank}.trace.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        of.export_chrome_trace(str(path))
        text = _table(of.key_averages(), taken, on_gpu)
        if taken < steps:
            text += f"\n\nof {taken} of {steps} steps, and of what came when they had ended: then the run did"
        path.with_name(f"rank-{ranks.rank}.txt").write_text(text + "\n", encoding="utf-8")
        written.append(path)
        if ranks.is_main:
            print(f"{text}\nprofile: {path.parent}", file=sys.stderr, flush=True)

    phases.span = lambda phase: record_function(f"{_SPAN}{phase}")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    plan = schedule(wait=1, warmup=WARM_UP - 1, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=ready) as profiler:
        yield stepped
    phases.span = None
    if not written and ranks.is_main:
        print(f"no profile: it needs {WARM_UP + steps} steps", file=sys.stderr, flush=True)


def _table(averages: Sequence[Any], steps: int, on_gpu: bool) -> str:
    """Shares of what the loop did, by the clock of the host, and the operators that took most themselves."""
    spans = {of.key.removeprefix(_SPAN): of.cpu_time_total for of in averages if of.key.startswith(_SPAN)}
    whole = sum(spans.values()) or 1.0
    lines = [f"{'phase':<44} {'ms a step':>10} {'share':>6}"]
    lines += [
        f"{name:<44} {spans[name] / steps / 1000:>10.2f} {spans[name] / whole:>6.1%}"
        for name in PHASES
        if name in spans
    ]
    where = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    operators = [of for of in averages if not of.key.startswith((_SPAN, "ProfilerStep"))]
    operators.sort(key=lambda of: getattr(of, where), reverse=True)
    total = sum(getattr(of, where) for of in operators) or 1.0
    lines += ["", f"{'operator, by its own time' + (' on the GPU' if on_gpu else ''):<44} {'ms a step':>10} "
                  f"{'share':>6} {'calls':>6}"]  # fmt: skip
    lines += [
        f"{of.key[:44]:<44} {getattr(of, where) / steps / 1000:>10.2f} {getattr(of, where) / total:>6.1%} "
        f"{of.count // steps:>6}"
        for of in operators[:_TOP]
    ]
    return "\n".join(lines)
