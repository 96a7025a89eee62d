"""The whole path on a made file: ingest, mix, train, measure, and a killed run that ends in the same bits.

`make demo` runs this. Every step is a command that a user would type; what is done is not done again, and a
demo that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "runs" / "demo"
MAKE, PROVE = ROOT / "examples" / "make_robomimic.py", ROOT / "examples" / "prove_resume.py"
SAMPLES = 9600
SHARES = "sim=0.6,real=0.4"
# One thread a process, as two ranks share two cores; and a store of the demo's own.
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    "OMP_NUM_THREADS": "1",
    "FOUNDRY_STORE": "store",
}


def run(command: str) -> None:
    """Show and run a command in the demo's folder; its failure ends the demo with its exit code."""
    print(f"\n$ {command}", flush=True)
    code = subprocess.run(shlex.split(command), cwd=DEMO, env=ENVIRONMENT).returncode
    if code:
        print("\nThe demo stopped; `make demo` goes on from there.", file=sys.stderr)
        raise SystemExit(code)


def losses() -> str:
    """The training loss at a few steps, as the run recorded it."""
    lines = (DEMO / "runs/policy/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records: list[dict[str, Any]] = [record for record in map(json.loads, lines) if "loss" in record]
    shown = records[:: max(1, len(records) // 6)]
    return "  ".join(f"{record['step']}: {record['loss']:.3f}" for record in shown)


def main() -> int:
    started = time.monotonic()
    DEMO.mkdir(parents=True, exist_ok=True)
    if not (DEMO / "reach.hdf5").exists():
        # Under another name first: a demo killed while it writes must not leave half a file behind.
        run(f"{sys.executable} {MAKE} reach.partial.hdf5 --episodes 24")
        (DEMO / "reach.partial.hdf5").rename(DEMO / "reach.hdf5")
    for name in ("sim", "real"):
        run(f"foundry-data ingest robomimic reach.hdf5 --as {name} --pointer versions/{name}.json")
    run(f"foundry-data mix --weights {SHARES} --as demo --pointer versions/demo.json")
    settings = f"run.samples={SAMPLES} run.save_every=50 run.dir=runs/policy"
    run(f"foundry-train vla data.mix=demo {settings} --nproc 2")
    print(f"\nTraining loss by step   {losses()}")
    run("foundry-eval openloop runs/policy --samples 256")
    if not (DEMO / "resume.json").exists():
        run(f"{sys.executable} {PROVE} versions/demo.json resume.json")
    resume = json.loads((DEMO / "resume.json").read_text(encoding="utf-8"))
    print(
        f"\nWeights after {resume['steps']} steps on two ranks, SHA-256 over every parameter:\n"
        f"  never killed                                  {resume['undisturbed_weights']}\n"
        f"  SIGKILL after step {resume['killed_after_step']}, resumed from step "
        f"{resume['resumed_from_step']}   {resume['resumed_weights']}"
    )
    print(f"\n{time.monotonic() - started:.0f} s; everything is in {DEMO.relative_to(ROOT)}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
