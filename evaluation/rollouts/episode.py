"""How one scene went, as a row that a report has and a file keeps.

Legend: T steps, A dims of the world's action space, D dims of its state.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.evaluation.contact_sheets import Film
from robot_foundry.evaluation.world import Outcome

OUT_OF_TIME = "out of time"


@dataclass(frozen=True)
class Executed:
    """The targets [T, A] that were executed, as they were told: `aims` says how many each time.

    The same seed and targets give the same episode, so with these a scene can be seen again without whoever
    acted in it.
    """

    target_TA: NDArray[np.float64]
    aims: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        raw = np.ascontiguousarray(self.target_TA, "<f8").tobytes()
        return {
            "dims": self.target_TA.shape[1],
            "aims": list(self.aims),
            "targets": base64.b64encode(raw).decode("ascii"),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Executed:
        flat = np.frombuffer(base64.b64decode(values["targets"]), "<f8")
        return cls(flat.reshape(-1, values["dims"]).astype(np.float64), tuple(values["aims"]))


@dataclass(frozen=True)
class RolloutEpisode:
    """How one scene went. `asked` is the scene's own instruction, `told` what the actor was given.

    `start` names the state that it began in (`start_of`), equal for whoever acts; `reward` is the sum of
    what the world gave, None where it gives none.
    """

    index: int
    seed: int
    asked: str
    told: str
    outcome: str
    steps: int
    start: str = ""
    reward: float | None = None
    executed: Executed | None = field(default=None, compare=False, repr=False)
    film: Film | None = field(default=None, compare=False, repr=False)

    @property
    def success(self) -> bool:
        return self.outcome == Outcome.SUCCESS.value

    @property
    def ended(self) -> str:
        """Why it ended: success, failure, or out of time."""
        return OUT_OF_TIME if self.outcome == Outcome.RUNNING.value else self.outcome

    def to_json(self) -> dict[str, Any]:
        """Its row in a report."""
        names = ("index", "seed", "asked", "told", "outcome", "steps", "ended", "start")
        return {name: getattr(self, name) for name in names} | {"return": self.reward}

    def to_row(self) -> dict[str, Any]:
        """All that is needed to have it again."""
        executed = None if self.executed is None else self.executed.to_json()
        return self.to_json() | {"executed": executed}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> RolloutEpisode:
        """ValueError, KeyError or TypeError where it is none."""
        names = ("index", "seed", "asked", "told", "outcome", "steps", "start")
        if not all(type(row[name]) is int and row[name] >= 0 for name in ("index", "seed", "steps")):
            raise ValueError("index, seed and steps are counts")
        if row["outcome"] not in [outcome.value for outcome in Outcome]:
            raise ValueError(f"no episode ends in {row['outcome']!r}")
        executed = None if row["executed"] is None else Executed.from_json(row["executed"])
        return cls(**{name: row[name] for name in names}, reward=row["return"], executed=executed)


def start_of(state_D: NDArray[np.float64], instruction: str) -> str:
    """A name for what an episode began with: equal states, bit for bit, and equal words have equal ones."""
    raw = np.ascontiguousarray(state_D, "<f8").tobytes() + instruction.encode("utf-8")
    return hashlib.sha256(raw).hexdigest()[:16]
