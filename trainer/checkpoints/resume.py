"""Where a run starts: the main rank chooses the checkpoint, the others prove that they see the same one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.ranks.agreement import everywhere, from_main, unlike
from robot_foundry.trainer.ranks.ranks import World
from robot_foundry.trainer.recipes.reader import completed
from robot_foundry.trainer.tasks.vla.resolve import Job


@dataclass(frozen=True)
class Start:
    """The checkpoint that a run goes on from, its state.json and lineage.json; all empty at the beginning.

    `passed_over` are newer checkpoints that are not whole, a sentence for each.
    """

    folder: Path | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        return int(self.state.get("step", 0))


def choose_start(job: Job, peers: World) -> Start:
    """The newest whole checkpoint of the run's folder that the main rank sees.

    FoundryError on every rank where it belongs to another run, or where another rank sees something else.
    """
    chosen = from_main(peers, partial(_choose, job))
    everywhere(peers, partial(_confirm, job.run_dir, chosen, peers))
    if chosen["step"] is None:
        return Start()
    folder = checkpoint.complete(job.run_dir)[chosen["step"]]
    state, lineage = (checkpoint.read_json(folder, name) for name in (checkpoint.STATE, "lineage.json"))
    return Start(folder, state, lineage, tuple(chosen["passed_over"]))


def _choose(job: Job) -> dict[str, Any]:
    """What the main rank decides, as JSON."""
    whole = checkpoint.newest_whole(job.run_dir)
    if whole is None:
        return {"step": None, "newest": -1}
    passed_over = [f"{reason}; the run goes on from {whole.folder.name}" for reason in whole.passed_over]
    for sentence in passed_over:
        warnings.warn(sentence, FoundryWarning, stacklevel=2)
    return {
        "step": _resumable(whole.folder, job)["step"],
        "newest": max(checkpoint.complete(job.run_dir)),
        "manifest": whole.manifest,
        "passed_over": passed_over,
    }


def _confirm(run_dir: Path, chosen: Mapping[str, Any], peers: World) -> None:
    """FoundryError unless this rank sees what the main rank chose."""
    if peers.is_main:
        return
    hint = "run.dir must be one folder that all ranks share; where it is, wait until all see the same files"
    seen, step = checkpoint.complete(run_dir), chosen["step"]
    if max(seen, default=-1) > chosen["newest"]:
        on_main = "no checkpoint" if step is None else f"none after step {chosen['newest']}"
        raise FoundryError(f"{seen[max(seen)]} is there, but rank 0 sees {on_main}", hint=hint)
    if step is None:
        return
    if step not in seen:
        raise FoundryError(
            f"{run_dir} has no checkpoint of step {step}, from which rank 0 goes on "
            f"(steps here: {', '.join(map(str, sorted(seen))) or 'none'})",
            hint=hint,
        )
    if checkpoint.prove(seen[step]) != chosen["manifest"]:
        raise FoundryError(f"{seen[step]} is another checkpoint than the one of rank 0", hint=hint)


def _resumable(folder: Path, job: Job) -> dict[str, Any]:
    """The state of a checkpoint that this run may go on from, else FoundryError."""
    state: dict[str, Any] = checkpoint.read_json(folder, checkpoint.STATE)
    before = completed(state["identity"])
    if job.origin is None and job.config.init.weights is not None:
        before.pop("origin", None)  # it is gone, and no longer needed
    found = list(unlike(before, job.identity))
    if found:
        path, there, here = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise FoundryError(
            f"{job.run_dir} cannot be resumed: {path} is {there!r} there and {here!r} here{more}",
            hint="train elsewhere (run.dir=…), or with the settings in its config.yaml",
        )
    if state["step"] > job.config.num_steps:
        raise FoundryError(
            f"{job.run_dir} is at step {state['step']} already, beyond the {job.config.num_steps} asked"
        )
    return state
