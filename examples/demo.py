"""Prose, rendered scenes and demonstrations in, success rates out: runs the pipeline of dvc.yaml, then prints
what each of its three stages of training is worth, and what the policy can do.

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

from robot_foundry.cli.output import table

ROOT = Path(__file__).resolve().parent.parent
VERSIONS, REPORTS = ROOT / "versions", ROOT / "reports"
CONDITIONS = {
    "policy": "policy",
    "policy_real": "policy, variant real",
    "shuffled": "instructions shuffled",
    "blank": "images blanked",
    "random": "random motion",
}
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


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def language_model() -> str:
    """What the run that versions/llm.json points to measured last on held-out documents."""
    run = ROOT / Path(read(VERSIONS / "llm.json")["checkpoint"]).parents[1]
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    figure = next(
        record["bits_per_byte"] for line in reversed(lines) if "bits_per_byte" in (record := json.loads(line))
    )
    return f"1  language model: {figure:.3f} bits a byte of held-out documents"


def vision_language_model() -> str:
    """Right answers by kind of question, beside those to blank pictures and to pictures of others."""
    rows = []
    for kind, scores in read(REPORTS / "vlm" / "scorecard.json")["kinds"].items():
        low, high = scores["real"]["exact_95"]
        real, blank, others = (scores.get(shown, {}) for shown in ("real", "blank", "shuffled"))
        shares = [share(found, name) for found, name in ((real, "near"), (blank, "exact"), (others, "exact"))]
        rows.append((kind, real["answers"], share(real, "exact"), f"[{low:.1%}, {high:.1%}]", *shares))
    headers = ("asked for", "questions", "right", "95 %", "within 1", "picture blank", "of another")
    title = "2  vision-language model: answers about scenes with combinations that were never shown"
    return f"{title}\n{indented(table(headers, rows))}"


def policy_beside_demonstrations() -> str:
    """Errors of chunks on held-out demonstrations, beside those of a robot that holds still."""
    lines = ["3  policy: chunks of held-out demonstrations"]
    for dataset, errors in read(REPORTS / "openloop" / "openloop.json")["datasets"].items():
        policy, still = errors["policy"], errors["hold_still"]
        shown = [
            f"{policy[name]:.1f} {unit} off (holding still {still[name]:.1f})"
            for name, unit in (("position_mm", "mm"), ("rotation_deg", "degrees"))
            if policy.get(name) is not None and still.get(name) is not None
        ]
        lines.append(f"   {dataset}: {', '.join(shown)}")
    return "\n".join(lines)


def success_rates() -> str:
    """Successes with their exact 95 % intervals, a line a condition."""
    rows = []
    for condition, title in CONDITIONS.items():
        report = read(REPORTS / condition / "rollout.json")
        low, high = report["interval_95"]
        rows.append((title, f"{report['successes']}/{report['trials']}", f"[{low:.1%}, {high:.1%}]"))
    task = read(REPORTS / "policy" / "rollout.json")["task"]
    title = f"   the task {task}, in scenes that no demonstration has"
    return f"{title}\n{indented(table(('', 'successes', '95 %'), rows))}"


def share(scores: dict[str, Any], name: str) -> str:
    return f"{scores[name]:.1%}" if name in scores else "-"


def indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.splitlines())


def proof() -> str:
    """Of the killed run that was resumed: the hashes of its weights."""
    report = read(REPORTS / "resume.json")
    return (
        f"SHA-256 of all weights of the policy after {report['steps']} steps on two ranks:\n"
        f"  never killed              {report['undisturbed_weights']}\n"
        f"  SIGKILL after step {report['killed_after_step']:<6} {report['resumed_weights']}"
    )


def main() -> int:
    started = time.monotonic()
    wait_for_another()
    if not (ROOT / ".git").exists():
        dvc("config", "--local", "core.no_scm", "true")  # unpacked from an archive
    dvc("repro")
    scores = (language_model(), vision_language_model(), policy_beside_demonstrations(), success_rates())
    print("", *scores, proof(), sep="\n\n", end="\n\n")
    print("To see them: reports/policy/contact_sheet.png and the GIFs beside it.")
    print(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
