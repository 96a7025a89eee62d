"""Show that a killed run ends in the same weights: train 8 steps, and again with SIGKILL after step 6.

    python examples/prove_resume.py versions/demo.json reports/resume.json [RECIPE] [KEY=VALUE]...

Both runs have two ranks. The second is killed by the operating system's signal 9 and started again with the
same command. Exit code 1 if a single bit of a single parameter differs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS, SAVE_EVERY = 8, 3
# When the second checkpoint is begun; the first is whole then.
KILL_AT, KILL_AFTER = "checkpoint-copied:2", 2 * SAVE_EVERY
KILLED = 128 + 9


def train(asked: list[str], run: Path, *, kill: bool = False) -> dict:
    """Run the trainer; the result it prints, or {} for a run that was killed."""
    env = dict(os.environ)
    if kill:
        env["FOUNDRY_KILL_AT"] = KILL_AT
    settings = [f"run.steps={STEPS}", f"run.save_every={SAVE_EVERY}", "run.eval_samples=32"]
    command = ["foundry-train", "vla", *asked, *settings, f"run.dir={run}", "--nproc", "2", "--json"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if kill and done.returncode == 0:
        raise SystemExit("the run was not killed: nothing is shown")
    if not kill and done.returncode != 0:
        raise SystemExit(done.returncode)
    return {} if kill else json.loads(done.stdout)


def main(pointer: str, report: str, *recipe: str) -> int:
    version = json.loads(Path(pointer).read_text(encoding="utf-8"))
    asked = [*recipe, f"data.mix={version['dataset']}@{version['version']}"]
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = train(asked, Path(folder) / "undisturbed")
        train(asked, Path(folder) / "killed", kill=True)
        resumed = train(asked, Path(folder) / "killed")
    result = {
        "steps": STEPS,
        "killed_after_step": KILL_AFTER,
        "resumed_from_step": resumed["resumed_from"],
        "undisturbed_weights": undisturbed["weights"],
        "resumed_weights": resumed["weights"],
        "equal": undisturbed["weights"] == resumed["weights"],
    }
    Path(report).parent.mkdir(parents=True, exist_ok=True)
    Path(report).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if result["equal"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
