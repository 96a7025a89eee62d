"""The runs that a run began with: where its checkpoints say they lie, and whether they still are those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.evaluation.scorecards.reports import Subject
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.checkpoints import checkpoint

FOUND, GONE, CHANGED, FOREIGN = "found", "gone", "changed", "foreign"
_WHOLE = "weights"  # what a run began with that took one run as it is


@dataclass(frozen=True)
class Origin:
    """One thing that a run began with.

    role     what it gave: `llm`, `vlm`, `vision`, `weights`
    where    the place that the run tells
    state    found; gone; changed, where something else lies there; foreign, where it is no run of ours
    subject  its checkpoint, where it was found
    """

    role: str
    where: str
    state: str
    subject: Subject | None = None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"role": self.role, "where": self.where, "state": self.state, "why": self.why}


def origins_of(subject: Subject) -> list[Origin]:
    """What a checkpoint's run began with; nothing where its first weights were random."""
    init = checkpoint.read_json(subject.checkpoint, "lineage.json").get("init")
    if init is None:
        return []
    told = {_WHOLE: init} if {"checkpoint", "pretrained"} & init.keys() else init
    return [_origin(role, entry, subject) for role, entry in told.items() if isinstance(entry, Mapping)]


def _origin(role: str, told: Mapping[str, Any], beside: Subject) -> Origin:
    if "checkpoint" not in told:
        return Origin(role, str(told.get("pretrained", "weights of others")), FOREIGN)
    where, wrong = Path(told["checkpoint"]), None
    for folder in _places(where, beside):
        found = _found(folder, told.get("id"))
        if isinstance(found, Subject):
            return Origin(role, str(where), FOUND, found)
        wrong = wrong or found
    for folder in _beside(where, beside):
        if isinstance(found := _found(folder, told.get("id")), Subject):
            return Origin(role, str(where), FOUND, found)
    return Origin(role, str(where), GONE if wrong is None else CHANGED, None, wrong or _gone(where))


def _found(folder: Path, weights_id: str | None) -> Subject | str | None:
    """The proven checkpoint with these weights, why it is none, or None where nothing lies there.

    Older runs tell no id.
    """
    if not (folder / checkpoint.STATE).is_file():
        return None
    try:
        found = Subject.at(folder)
        if weights_id not in (None, found.weights_id):
            return f"{folder} is the checkpoint of another run now"
        checkpoint.prove(folder)
    except FoundryError as error:
        return error.message
    return found


def _places(where: Path, beside: Subject) -> Iterator[Path]:
    """Where a checkpoint is told to lie: a relative place is tried from each folder above the run as well."""
    yield where
    if beside.run is not None and not where.is_absolute():
        yield from (parent / where for parent in beside.run.resolve().parents)


def _beside(where: Path, beside: Subject) -> Iterator[Path]:
    """Checkpoints of that step in the runs beside, where all of them were moved together."""
    if beside.run is not None:
        yield from sorted(beside.run.resolve().parent.glob(f"*/checkpoints/{where.name}"))


def _gone(where: Path) -> str:
    run = checkpoint.run_of(where)
    newest = None if run is None else checkpoint.latest(run)
    if newest is None:
        return f"there is no {where}"
    return f"{where} is no longer kept: its run stands at {newest.name}"
