"""Where a run starts: the main rank chooses the checkpoint, the others prove that they see the same one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.replica import Replica
from robot_foundry.trainer.ranks.agreement import everywhere, from_main, unlike
from robot_foundry.trainer.ranks.ranks import Ranks


class Resumable(Protocol):
    """What a run says, so that a checkpoint can be known as its own."""

    @property
    def run_dir(self) -> Path: ...
    @property
    def num_steps(self) -> int: ...
    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the weights, as JSON: what a checkpoint must have to be gone on from."""

    def completed(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """The identity that a checkpoint holds, as this version would have said it."""


@dataclass(frozen=True)
class Start:
    """The checkpoint that a run goes on from, its state.json and lineage.json; all empty at the beginning.

    `passed_over` are newer checkpoints that are not whole, a sentence for each; `copied` says whether there
    is a copy of it wherever the run asks for one.
    """

    folder: Path | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    copied: bool = True

    @property
    def step(self) -> int:
        return int(self.state.get("step", 0))


def choose_start(run: Resumable, ranks: Ranks, replica: Replica | None = None) -> Start:
    """The newest whole checkpoint of the run's folder that the main rank sees, or of its copies.

    FoundryError on every rank where it belongs to another run, or where another rank sees something else.
    """
    chosen = from_main(ranks, partial(_choose, run, replica))
    everywhere(ranks, partial(_confirm, run.run_dir, chosen, ranks))
    if chosen["step"] is None:
        return Start()
    folder = checkpoint.complete(run.run_dir)[chosen["step"]]
    state, lineage = (checkpoint.read_json(folder, name) for name in (checkpoint.STATE, "lineage.json"))
    return Start(folder, state, lineage, tuple(chosen["passed_over"]), chosen["copied"])


def _choose(run: Resumable, replica: Replica | None) -> dict[str, Any]:
    """What the main rank decides, as JSON."""
    here = checkpoint.complete(run.run_dir)
    whole = checkpoint.newest_whole(run.run_dir, replica)
    if whole is None:
        return {"step": None, "newest": -1}
    passed_over = [f"{reason}; the run goes on from {whole.folder.name}" for reason in whole.passed_over]
    for sentence in passed_over:
        warnings.warn(sentence, FoundryWarning, stacklevel=2)
    try:
        step = _resumable(whole.folder, run)["step"]
    except FoundryError as error:
        if whole.folder not in here.values():  # fetched just now: left there, it would be in the way for ever
            checkpoint.remove(whole.folder)
            error.hint = f"give each run its own run.checkpoints=URL; or {error.hint}"
        raise
    return {
        "step": step,
        "copied": replica is None or step in replica.steps(),
        "newest": max(checkpoint.complete(run.run_dir)),
        "manifest": whole.manifest,
        "passed_over": passed_over,
    }


def _confirm(run_dir: Path, chosen: Mapping[str, Any], ranks: Ranks) -> None:
    """FoundryError unless this rank sees what the main rank chose."""
    if ranks.is_main:
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


def _resumable(folder: Path, run: Resumable) -> dict[str, Any]:
    """The state of a checkpoint that this run may go on from, else FoundryError."""
    state: dict[str, Any] = checkpoint.read_json(folder, checkpoint.STATE)
    differing = list(unlike(run.completed(state["identity"]), run.identity))
    if differing:
        path, there, here = differing[0]
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise FoundryError(
            f"{run.run_dir} cannot be resumed: {path} is {there!r} there and {here!r} here{more}",
            hint="train elsewhere (run.dir=…), or with the settings in its config.yaml",
        )
    if state["step"] > run.num_steps:
        raise FoundryError(
            f"{run.run_dir} is at step {state['step']} already, beyond the {run.num_steps} asked",
            hint="train elsewhere (run.dir=… or name=…), or ask for no fewer steps than it has",
        )
    return state
