"""Demonstrations in, success rates out: runs the pipeline of dvc.yaml, then prints what the policy can do.

`make demo` runs this. The pipeline does only what is missing or out of date, so a demo that was stopped, even
by SIGKILL, goes on where it was, and a finished one has nothing to do.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
CONDITIONS = {"policy": "policy", "random": "random motion", "blank": "images blanked",
              "shuffled": "instructions shuffled"}  # fmt: skip
TASKS = {"reach_single": "reach the only object", "reach_pair": "reach the named one of two"}
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    "OMP_NUM_THREADS": "1",  # two ranks share two cores
    "DVC_NO_ANALYTICS": "1",
}


def wait_for_another() -> None:
    """Until no other process runs the pipeline: one that a kill orphaned goes on, and its work counts."""
    lock = ROOT / ".dvc" / "tmp" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("An earlier demo is still at work; waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)


def dvc(*arguments: str) -> None:
    """Run dvc at the root; its failure ends the demo with its exit code."""
    print(f"$ dvc {' '.join(arguments)}", flush=True)
    with subprocess.Popen(["dvc", *arguments], cwd=ROOT, env=ENVIRONMENT) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # dvc and its stage were sent it, too, and stop in order
            process.wait()
            code = 130
    if code:
        print("\nThe demo stopped; `make demo` goes on from there.", file=sys.stderr)
        raise SystemExit(code)


def read(name: str) -> dict[str, Any]:
    return json.loads((REPORTS / name).read_text(encoding="utf-8"))


def table() -> str:
    """Success rates with their exact 95 % intervals, a line a condition."""
    lines = [f"{'':<24}" + "".join(f"{title:<30}" for title in TASKS.values())]
    for condition, title in CONDITIONS.items():
        line = f"{title:<24}"
        for report in [read(f"{condition}/{task}/rollout.json") for task in TASKS]:
            low, high = report["interval_95"]
            line += f"{report['successes']}/{report['trials']} [{low:.0%}, {high:.0%}]".ljust(30)
        lines.append(line)
    return "\n".join(line.rstrip() for line in lines)


def proof() -> str:
    """Of the killed run that was resumed: the hashes of its weights."""
    report = read("resume.json")
    return (
        f"SHA-256 of all weights after {report['steps']} steps on two ranks:\n"
        f"  never killed              {report['undisturbed_weights']}\n"
        f"  SIGKILL after step {report['killed_after_step']:<6} {report['resumed_weights']}"
    )


def main() -> int:
    started = time.monotonic()
    wait_for_another()
    if not (ROOT / ".git").exists():
        dvc("config", "--local", "core.no_scm", "true")  # unpacked from an archive
    dvc("repro")
    print(f"\nSuccesses in scenes that no demonstration has, with 95 % intervals:\n\n{table()}\n")
    for dataset, errors in read("openloop.json")["datasets"].items():
        policy, still = (errors[of]["position_mm"] for of in ("policy", "hold_still"))
        print(f"Held-out chunks of {dataset}: {policy:.0f} mm off; a robot that holds still {still:.0f} mm")
    print(f"{proof()}\n")
    print("To see them: reports/policy/reach_single/contact_sheet.png and the GIFs beside it.")
    print(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
