"""What is recomputed: a checkpoint of a run, the records that followed it, and its task as it was then."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robot_foundry.runtime.errors import FoundryError, UsageError
from robot_foundry.trainer.checkpoints import checkpoint
from robot_foundry.trainer.checkpoints.proof import NAME
from robot_foundry.trainer.meters import read_metrics
from robot_foundry.trainer.ranks.agreement import unlike
from robot_foundry.trainer.recipes.yaml_text import read_yaml
from robot_foundry.trainer.tasks.known import KnownTask, task_of
from robot_foundry.trainer.tasks.task import Task


@dataclass(frozen=True)
class Subject:
    """`start` is the checkpoint, `records` are recomputed, `later` are checkpoints after it by step."""

    run_dir: Path
    start: Path
    step: int
    records: tuple[Mapping[str, Any], ...]
    later: Mapping[int, Path]

    @property
    def num_ranks(self) -> int:
        """How many ranks wrote the checkpoint; one where it does not say."""
        return len(checkpoint.read_json(self.start, checkpoint.STATE).get("ranks", ())) or 1

    @property
    def is_on_gpu(self) -> bool:
        ranks = checkpoint.read_json(self.start, checkpoint.STATE).get("ranks", ())
        return any(of.get("device", "cpu") != "cpu" for of in ranks)


def find_subject(run_dir: Path, step: int | None, count: int) -> Subject:
    """The next `count` records after the checkpoint of `step`, by default the newest that any follows; where
    `run_dir` is a checkpoint of a run, or a pointer file that names one, that.

    UsageError where there is no such checkpoint, FoundryError where no record follows it, or it is not whole.
    """
    run_dir, named = _named(run_dir)
    step = step or named
    steps = checkpoint.complete(run_dir)
    if not steps:
        raise FoundryError(f"{run_dir} has no checkpoint", hint="give the folder of a run that has trained")
    records = [record for record in read_metrics(run_dir) if "grad_norm" in record]
    last = records[-1]["step"] if records else 0
    if step is None:
        followed = [one for one in steps if one < last]
        step = max(followed, default=max(steps))
    if step not in steps:
        there = ", ".join(map(str, sorted(steps)))
        raise UsageError(f"{run_dir} has no checkpoint of step {step}", hint=f"--checkpoint: one of {there}")
    follow = [record for record in records if record["step"] > step][:count]
    if not follow:
        raise FoundryError(
            f"no record follows {steps[step]}, so there is nothing to compare with",
            hint="run.keep_last or run.keep_every keeps checkpoints from before the end of a run",
        )
    checkpoint.prove(steps[step])
    later = {at: folder for at, folder in steps.items() if at > step}
    return Subject(run_dir, steps[step], step, tuple(follow), later)


def _named(path: Path) -> tuple[Path, int | None]:
    """The folder of the run that is meant, and the step of the checkpoint where that is meant."""
    folder = checkpoint.find(path) if path.is_file() else path
    run_dir, step = checkpoint.run_of(folder), NAME.fullmatch(folder.resolve().name)
    return (folder, None) if run_dir is None else (run_dir, int(step[1]) if step else None)


def task_in(subject: Subject, work: Path, store: str | None) -> Task:
    """The task of the run as it was, whose folder is `work`: there it finds the checkpoint, and writes.

    Its length is that of the next checkpoint, which the rate of its steps depends on. `store` is where the
    data lie now, if not where they lay. FoundryError where data, tokenizer or first weights are gone.
    """
    values_at = subject.later[min(subject.later)] if subject.later else subject.start
    values = read_yaml((values_at / "config.yaml").read_text("utf-8"), str(values_at))
    known = task_of(values)
    if known is None:
        raise FoundryError(f"{values_at}/config.yaml is of no task that this version knows")
    lineage = checkpoint.read_json(subject.start, "lineage.json")
    config = known.read(values)
    data = replace(config.data, store=store or lineage["store"])
    # Nothing is told to others, and of copies elsewhere a newer one would be gone on from.
    run = replace(config.run, dir=str(work), wandb=None, checkpoints=None)
    config = replace(config, data=data, run=run)
    _link(subject, work)
    try:
        return _resolved(known, config, subject.start, lineage)
    except FoundryError as error:
        message = f"{subject.run_dir} cannot be recomputed: {error.message}"
        raise FoundryError(message, hint=error.hint or "--store says where its data lie") from error


def _link(subject: Subject, work: Path) -> None:
    """Let the folder have the checkpoint and no other."""
    place = work / "checkpoints" / subject.start.name
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # another rank was first
        place.symlink_to(subject.start.resolve(), target_is_directory=True)


def _resolved(known: KnownTask, config: Any, start: Path, lineage: Mapping[str, Any]) -> Task:
    """By the names of the recipe, and where these mean others now, by the versions that the run had."""
    identity = checkpoint.read_json(start, checkpoint.STATE)["identity"]
    try:
        task = known.resolve(config)
        if not list(unlike(task.completed(identity), task.identity)):  # in any of its streams
            return task
    except FoundryError:
        if pinned(config, lineage) == config:
            raise
    return known.resolve(pinned(config, lineage))


def pinned(config: Any, lineage: Mapping[str, Any]) -> Any:
    """A configuration that names the very versions of a lineage, of all its streams."""
    data = replace(config.data, mix=_versions(lineage["mixture"]))
    for name in ("pairs", "text"):
        mixture, settings = lineage.get(f"{name}_mixture"), getattr(data, name, None)
        if mixture and settings is not None:
            data = replace(data, **{name: replace(settings, mix=_versions(mixture))})
    return replace(config, data=data)


def _versions(mixture: Mapping[str, Any]) -> str:
    components = mixture["components"]
    return ",".join(f"{of['dataset']}@{of['version_id']}={of['weight']}" for of in components)
