"""Rollouts of each checkpoint of a run as soon as it is whole, and which of them did best.

    RUN/watch/<name>/step-00000050/rollout.json, …     one report a checkpoint
                     best.json                         a pointer file: the checkpoint of the highest rate
                     checkpoints/step-00000050/        that one, also where the run has removed it

<name> is of task, variant and condition, and of a hash of all that was asked, so that the rates in one folder
are of the same scenes. A report that is there is not made again: whoever starts anew goes on.

The best of many checkpoints was chosen by these scenes and is expected to do better on them than on others:
its rate is no estimate.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from robot_foundry.evaluation.intervals import clopper_pearson
from robot_foundry.evaluation.rollout import RolloutSpec, rollout, save
from robot_foundry.evaluation.rollouts.demonstrated import data_store, tell_unlike_pictures
from robot_foundry.evaluation.rollouts.kept_rows import change, leaves
from robot_foundry.evaluation.scorecards.reports import Subject
from robot_foundry.evaluation.watching.held import hold, only_one, release
from robot_foundry.evaluation.watching.life import Life
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.checkpoints.checkpoint import STATE, complete, latest, read_json, write_pointer
from robot_foundry.trainer.checkpoints.proof import TornCheckpoint

FOLDER, HELD, BEST, REPORT = "watch", "checkpoints", "best.json", "rollout.json"


@dataclass(frozen=True)
class Watched:
    """How the checkpoint of a step did."""

    step: int
    successes: int
    trials: int
    report: Path

    @property
    def rate(self) -> float:
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        return clopper_pearson(self.successes, self.trials)


class Watch:
    """Over the checkpoints of a run. `spec` says what each is asked; whose it is, it leaves open."""

    def __init__(self, run: Path, spec: RolloutSpec, *, workers: int = 0, quiet: bool = False) -> None:
        """FoundryError where there is no run."""
        if not run.is_dir():
            raise FoundryError(
                f"{run} is not there", hint="give the folder that foundry-train writes its run to"
            )
        self._run, self._spec, self._workers, self._quiet = run, spec, workers, quiet
        self._has_told_pictures = False  # once
        self.folder = run / FOLDER / _name(spec)

    def follow(self, wait: Callable[[], None] | None) -> Iterator[Watched]:
        """Each checkpoint as it comes, those before first, until the run has ended; None waits for none.

        The best so far is marked when one is given. A FoundryWarning names a checkpoint that is damaged, and
        others go on. FoundryError where another watch evaluates the same.
        """
        with only_one(self.folder):
            yield from self._follow(wait)

    def _follow(self, wait: Callable[[], None] | None) -> Iterator[Watched]:
        gone: set[int] = set()
        life = Life(self._run)
        self._mark()  # of what was evaluated before
        while True:
            over = wait is None or life.is_over()
            self._check_run()
            waiting = self.waiting(gone)
            for step, checkpoint in waiting.items():
                found = self._evaluate(step, checkpoint)
                if found is None:
                    gone.add(step)
                    continue
                self._mark()
                yield found
            if over and not waiting:
                return
            if not waiting and wait is not None:
                wait()

    def done(self) -> list[Watched]:
        """What there is a report of, by step."""
        reports = sorted(self.folder.glob(f"step-*/{REPORT}"))
        return [_read(path) for path in reports]

    def best(self) -> Watched | None:
        """That of the highest rate, of equal ones the first."""
        return max(self.done(), key=lambda one: (one.rate, -one.step), default=None)

    def waiting(self, gone: Collection[int] = ()) -> dict[int, Path]:
        """The checkpoints without a report, by step: those of the run, and what a stopped watch held."""
        there = sorted({**complete(self.folder), **complete(self._run)}.items())
        known = {one.step for one in self.done()} | set(gone)
        return {step: path for step, path in there if step not in known}

    def _check_run(self) -> None:
        """FoundryError where the run's newest checkpoint is of another run than one that is held here.

        Only what both tell is compared, as versions may tell more or fewer settings.
        """
        if (newest := latest(self._run)) is None:
            return
        now = dict(leaves(_identity(newest)))
        for held in complete(self.folder).values():
            for name, was in leaves(_identity(held)):
                if name in now and now[name] != was:
                    raise FoundryError(
                        f"{self._run} is another run than the one whose reports are in {self.folder}: "
                        f"{change(name, was, now[name])}",
                        hint="move that folder away and watch again; give each run a run.dir of its own",
                    )

    def _evaluate(self, step: int, checkpoint: Path) -> Watched | None:
        """None where the run has removed it before it could be held, or it is damaged."""
        held = hold(checkpoint, self.folder / HELD)
        if held is None:
            return None
        try:
            subject = Subject.find(held)
        except TornCheckpoint as error:
            shutil.rmtree(held)  # what the run may write again is held anew
            warnings.warn(f"step {step} is passed over: {error.message}", FoundryWarning, stacklevel=3)
            return None
        spec = replace(self._spec, actor=replace(self._spec.actor, run=str(held)))
        if not self._has_told_pictures:
            self._has_told_pictures = True
            tell_unlike_pictures(spec, data_store(held))
        folder = self.folder / held.name
        result = rollout(spec, workers=self._workers, quiet=self._quiet, keep=folder)
        save(result, folder, {**subject.to_json(), "watched": str(self._run)})
        return Watched(step, result.successes, len(result.episodes), folder / REPORT)

    def _mark(self) -> None:
        """Name the best and let go of the others that have been evaluated."""
        best = self.best()
        if best is None:
            return
        held = self.folder / HELD / best.report.parent.name
        if held.is_dir():
            facts = {"step": best.step, "successes": best.successes, "trials": best.trials}
            write_pointer(self.folder / BEST, held, **facts)
        release(self.folder / HELD, {one.report.parent.name for one in self.done()} - {held.name})


def _name(spec: RolloutSpec) -> str:
    asked: dict[str, Any] = {
        name: value for name, value in vars(spec).items() if name not in ("actor", "world")
    }
    asked["actor"] = {name: value for name, value in asdict(spec.actor).items() if name != "run"}
    asked["world"] = spec.factory.name
    condition = replace(spec, actor=replace(spec.actor, run="any")).condition
    return f"{spec.task}-{spec.variant}-{condition}-{digest_of(asked)[:8]}".replace("/", "_")


def _identity(checkpoint: Path) -> dict[str, Any]:
    """What decides its weights; nothing where it is gone or damaged."""
    try:
        state = read_json(checkpoint, STATE)
        return dict(state["identity"])
    except (FoundryError, KeyError, TypeError, ValueError):
        return {}


def _read(path: Path) -> Watched:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        step, successes, trials = (told[name] for name in ("step", "successes", "trials"))
        counts = all(type(number) is int for number in (step, successes, trials))
        if not counts or path.parent.name != f"step-{step:08}" or not 0 <= successes <= trials or not trials:
            raise ValueError(f"it says step {step}, {successes} successes of {trials}")
        return Watched(step, successes, trials, path)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FoundryError(
            f"{path} is no report of a watched checkpoint: {error}", hint="delete its folder and watch again"
        ) from error
