"""What happened to a run so far, as its checkpoints keep it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from robot_foundry.runtime.errors import FoundryWarning
from robot_foundry.trainer.checkpoints.resume import Start
from robot_foundry.trainer.ranks import machine
from robot_foundry.trainer.ranks.ranks import Ranks


@dataclass(frozen=True)
class History:
    """What a run's bits depend on besides its recipe, for each rank, and what happened to it so far.

    An event is {"step", "event"}: a sentence for people.
    """

    ranks: list[dict[str, Any]]
    events: list[dict[str, Any]]

    @classmethod
    def begin(cls, start: Start, ranks: Ranks, settings: machine.MachineSettings) -> History:
        """That of the checkpoint, and what is to be told of going on from it."""
        facts = ranks.gather(machine.facts(ranks, settings))
        changed = machine.changes(start.state.get("ranks", ()), facts)
        if changed is not None and ranks.is_main:
            warnings.warn(changed, FoundryWarning, stacklevel=2)
        sentences = [*start.passed_over, *([] if changed is None else [changed])]
        events = [{"step": start.step, "event": sentence} for sentence in sentences]
        return cls(facts, [*start.lineage.get("events", ()), *events])
