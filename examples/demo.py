"""The main job: demonstrations, shards, a mixture, a policy, success rates. `make demo` runs this.

The steps are the stages of dvc.yaml; what is done is not done again, and a run that was killed goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
TASKS = {"reach_single": "reach the only object", "reach_pair": "reach the named one of two"}
CONTROLS = {
    "policy": "policy",
    "random": "random motion",
    "blank": "policy, images blanked",
    "shuffled": "policy, instructions shuffled",
}


def read(name: str) -> Any:
    return json.loads((REPORTS / name).read_text(encoding="utf-8"))


def reproduce() -> int:
    """Run what is missing; the command lines of this environment come first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # One thread a process: two ranks or two workers share two cores.
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    return subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=ROOT, env=env).returncode


def success_table() -> str:
    lines = [f"{'':32}" + "".join(f"{title:>34}" for title in TASKS.values())]
    for control, title in CONTROLS.items():
        cells = []
        for task in TASKS:
            report = read(f"{control}/{task}/rollout.json")
            low, high = report["interval_95"]
            counts = f"{report['successes']}/{report['trials']}"
            cells.append(f"{counts} = {report['rate']:.0%} [{low:.0%}, {high:.0%}]")
        lines.append(f"{title:32}" + "".join(f"{cell:>34}" for cell in cells))
    return "\n".join(lines)


def main() -> int:
    started = time.monotonic()
    code = reproduce()
    if code:
        print("The demo stopped; `make demo` goes on from there.", file=sys.stderr)
        return code
    openloop, resume = read("openloop.json"), read("resume.json")
    print(f"\nSuccess on scenes never seen in training (95 % Clopper-Pearson interval)\n\n{success_table()}")
    print(f"\nHeld-out episodes, open loop\n\n{json.dumps(openloop, indent=2)}")
    print(
        f"\nKilled with SIGKILL after step {resume['killed_after_step']}, resumed from step "
        f"{resume['resumed_from_step']}:\n  weights {resume['resumed_weights']}\nnever killed:\n"
        f"  weights {resume['undisturbed_weights']}"
    )
    print(f"\nPictures: reports/policy/*/contact_sheet.png. {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
