"""Takes the steps after a checkpoint again, as the run took them, and says in what they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robot_foundry.trainer.checkpoints import tensors
from robot_foundry.trainer.loop import train
from robot_foundry.trainer.meters import of_machine
from robot_foundry.trainer.ranks import machine
from robot_foundry.trainer.ranks.agreement import unlike, versions
from robot_foundry.trainer.ranks.numerics import numerics
from robot_foundry.trainer.ranks.ranks import Ranks, joined
from robot_foundry.trainer.ranks.shares import local
from robot_foundry.trainer.run import Begun, batches_from, begin, parts_of, plan_of
from robot_foundry.trainer.signals import StopFlag
from robot_foundry.trainer.tasks.task import Task
from robot_foundry.trainer.verifying.subject import Subject


@dataclass(frozen=True)
class Difference:
    """A number of a record, or the numbers of a tensor of a checkpoint, and by how much they differ at most.

    None stands for a number that is not finite, or is not there.
    """

    step: int
    field: str
    logged: float | None
    recomputed: float | None
    difference: float | None


@dataclass(frozen=True)
class Verified:
    """What came of it.

    records      steps of the records that were recomputed
    checkpoints  steps of those whose tensors were compared as well
    environment  what is otherwise here than where the checkpoint was written, a sentence each
    """

    start: int
    ranks: int
    records: tuple[int, ...]
    checkpoints: tuple[int, ...]
    differences: tuple[Difference, ...]
    environment: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        return {"equal": self.is_equal, **asdict(self)}


class _Kept:
    """A sink that keeps records."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []

    def write(self, record: Mapping[str, Any]) -> None:
        self.records.append(record)

    def close(self) -> None: ...


class _Unsaved:
    """What takes the place of checkpoints: a run that is verified writes none."""

    def __call__(self, step: int) -> None: ...
    def figures(self) -> dict[str, float]:
        return {}


def replay(subject: Subject, task: Task) -> Verified:
    """Recompute the records of a subject, whose task this is. Every rank calls it.

    FoundryError where the task is not that of the checkpoint, or cannot read its data.
    """
    run = task.config.run
    with ExitStack() as stack:
        stop = stack.enter_context(StopFlag())
        stack.enter_context(numerics(run.determinism, run.device))
        ranks = stack.enter_context(joined(run.device, run.shard, run.patience))
        begun = begin(task, ranks, stack, quiet=True)
        kept = _Kept()
        parts, _, _ = parts_of(begun, stack, quiet=True, sink=kept)
        parts = replace(parts, save=_Unsaved(), evaluate=dict)
        batches, at = batches_from(begun), begun.start.step
        found: list[Difference] = []
        checkpoints = []
        for record in subject.records:
            until = int(record["step"])
            plan = replace(plan_of(task), num_steps=until, log_every=until, save_every=until, eval_every=None)
            if train(parts, plan, batches, at, stop) < until:
                raise KeyboardInterrupt
            found += compared(record, kept.records[-1])
            if until in subject.later:
                checkpoints.append(until)
                found += _of_tensors(subject, until, begun, ranks)
            at = until
        return Verified(
            begun.start.step, ranks.size, tuple(int(record["step"]) for record in subject.records),
            tuple(checkpoints), tuple(found), tuple(_environment(begun, ranks)),
        )  # fmt: skip


def compared(logged: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[Difference]:
    """Numbers of a record that are not equal to the bit, without those of the machine.

    One that either record lacks is not compared: of a run that was stopped, or an older one, there are less.
    """
    for name in logged:
        if name == "step" or of_machine(name) or name not in here:
            continue
        then, now = _finite(logged[name]), _finite(here[name])
        if then != now:
            by = None if then is None or now is None else abs(now - then)
            yield Difference(int(logged["step"]), name, then, now, by)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _of_tensors(subject: Subject, step: int, begun: Begun, ranks: Ranks) -> Sequence[Difference]:
    """Tensors of the checkpoint of a step that are not those that were reached; each rank has its share."""
    here = begun.learner.tensors
    there = {name: torch.empty_like(tensor) for name, tensor in here.items()}
    tensors.load(subject.later[step], there)
    unequal = {name: _apart(local(here[name]), local(there[name])) for name in here}
    worst: dict[str, float] = {}
    for part in ranks.gather({name: by for name, by in unequal.items() if by is not None}):
        for name, by in part.items():
            worst[name] = max(by, worst.get(name, 0.0))
    return [Difference(step, name, None, None, _finite(by)) for name, by in sorted(worst.items())]


def _apart(here: Tensor, there: Tensor) -> float | None:
    """The greatest difference, infinite where that is no number; None where the bits are equal."""
    if here.cpu().numpy().tobytes() == there.cpu().numpy().tobytes():
        return None
    by = float((here.double() - there.double()).abs().max())
    return by if math.isfinite(by) else math.inf


def _environment(begun: Begun, ranks: Ranks) -> Iterator[str]:
    facts = ranks.gather(machine.facts(ranks, begun.task.config.run))
    for words, then, now in machine.unlike_facts(begun.start.state.get("ranks", ()), facts):
        yield f"{words}: {then} there and {now} here"
    for name, there, here in unlike(begun.start.lineage.get("code", {}), versions()):
        yield f"version of {name}: {there} there and {here} here"
