"""Reports of evaluations, kept with the run that they are of.

    <run>/scorecards/llm/<split>/text.json
                     openloop/<split>/openloop.json, openloop.html
                     rollout/[<world>-]<task>-<variant>-<condition>/rollout.json, episodes.jsonl …
                     suite/<suite>/suite.json
                     vlm/<mixture>-<split>/scorecard.json …

A report is one JSON object. It names the checkpoint that it is of by its step and by the id of its weights,
which are equal for checkpoints of equal weights, wherever they lie.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError, FoundryWarning, UsageError
from robot_foundry.runtime.storage.storage import open_storage
from robot_foundry.trainer.checkpoints import checkpoint

SCORECARDS = "scorecards"
LONGEST_NAME = 120
LLM, OPENLOOP, ROLLOUT, SUITE, VLM = "llm", "openloop", "rollout", "suite", "vlm"
FILES = {
    LLM: "text.json",
    OPENLOOP: "openloop.json",
    ROLLOUT: "rollout.json",
    SUITE: "suite.json",
    VLM: "scorecard.json",
}


@dataclass(frozen=True)
class Subject:
    """The proven checkpoint that a report is of. `run` is the run's folder, None where it lies in none."""

    checkpoint: Path
    run: Path | None
    step: int
    weights_id: str

    @classmethod
    def find(cls, path: Path) -> Subject:
        """That meant by a run, a checkpoint folder or a pointer file; FoundryError as `checkpoint.find`."""
        return cls.at(checkpoint.find(path))

    @classmethod
    def at(cls, folder: Path) -> Subject:
        """Of a checkpoint folder."""
        state = checkpoint.read_json(folder, checkpoint.STATE)
        return cls(folder, checkpoint.run_of(folder), state["step"], checkpoint.weights_id(state))

    def to_json(self) -> dict[str, Any]:
        """What a report says of it."""
        return {"checkpoint": self.checkpoint.name, "step": self.step, "weights_id": self.weights_id}

    def folder(self, what: str, name: str, out: Path | None) -> Path:
        """Where a whole report goes: `out`, else its place with the run. UsageError where there is none."""
        if out is not None:
            return out
        if self.run is None:
            raise UsageError(f"{self.checkpoint} lies in no run: say where to write with --out")
        return place(self.run, what, name)

    def keep(self, what: str, name: str, report: Mapping[str, Any], out: Path) -> None:
        """Leave the figures of a report with the run as well, unless `out`, where it was written, is there.

        Where that cannot be, a FoundryWarning says so.
        """
        if self.run is None or (kept := place(self.run, what, name)).resolve() == out.resolve():
            return
        try:
            write(kept, FILES[what], {**report, "out": str(out)})
        except OSError as error:
            told = f"the report is not kept with the run, {kept} cannot be written: {error.strerror}"
            warnings.warn(told, FoundryWarning, stacklevel=2)


@dataclass(frozen=True)
class Report:
    """One that was found: its file, and what it says."""

    path: Path
    values: Mapping[str, Any]

    def is_of(self, weights_id: str) -> bool:
        """Whether it is of these weights; a report that is of no weights is of any."""
        return self.values.get("weights_id") in (None, weights_id)


def place(run: Path, what: str, name: str) -> Path:
    """The folder of a report with its run; a longer name is cut, and told apart by its hash."""
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}-{digest_of(name)[:8]}"
    return run / SCORECARDS / what / short.replace("/", "_")


def write(folder: Path, name: str, report: Mapping[str, Any]) -> None:
    """A report as a file, whole or not at all."""
    text = json.dumps(report, ensure_ascii=False, indent=2) + "\n"
    open_storage(folder).write(name, text.encode("utf-8"))


def read_reports(run: Path, what: str) -> list[Report]:
    """All that are kept with a run, by name. FoundryError names one that cannot be read."""
    found = []
    for path in sorted((run / SCORECARDS / what).glob(f"*/{FILES[what]}")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FoundryError(
                f"{path} cannot be read: {error}", hint="delete it, or evaluate again"
            ) from error
        if not isinstance(values, dict):
            raise FoundryError(f"{path} is no report", hint="delete it, or evaluate again")
        found.append(Report(path, values))
    return found


def unread_reports(run: Path) -> list[Path]:
    """Those that versions before this one left, which do not say of which weights they are."""
    return sorted([*run.glob("rollouts/*/rollout.json"), *run.glob(f"{SCORECARDS}/*/scorecard.json")])
