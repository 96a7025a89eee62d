"""Whether a run still trains: by its heartbeat, and by who holds its folder.

A run that ends says so in its heartbeat. One that was killed does not. On this machine it is over as soon as
no process holds its folder; of another machine, whose processes are not seen from here, its heartbeat must be
GIVEN_UP_S old. It is written with every phase of a step, so in a long phase it grows old too.
"""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robot_foundry.runtime.errors import FoundryError, FoundryWarning
from robot_foundry.trainer.checkpoints.checkpoint import complete
from robot_foundry.trainer.holding import may_be_held
from robot_foundry.trainer.metering.phases import ENDED
from robot_foundry.trainer.metering.watch import HEARTBEAT

TOLD_AFTER_S = 600.0  # and at twice, four times … that
GIVEN_UP_S = 3600.0
GO_ON = "where it should go on, start foundry-train again and then this watch"


class Life:
    """Of the run in a folder. FoundryWarnings say what is waited for, and that a run is taken for killed."""

    def __init__(self, run: Path) -> None:
        self._run, self._tell_after = run, TOLD_AFTER_S
        self._told: set[str] = set()

    def is_over(self) -> bool:
        """Whether no more is to be waited for; FoundryError where the heartbeat cannot be read.

        A run that says nothing has not begun, or, where it has checkpoints, is from before there was a
        heartbeat.
        """
        try:
            told: Mapping[str, Any] = json.loads((self._run / HEARTBEAT).read_text(encoding="utf-8"))
            if told["phase"] == ENDED:
                return not may_be_held(self._run)  # else it has been started again and says so soon
            return self._is_killed(told, datetime.fromisoformat(told["time"]))
        except FileNotFoundError:
            return self._is_older()
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FoundryError(
                f"whether the run has ended cannot be read from {self._run / HEARTBEAT}: {error!r}",
                hint=f"foundry-eval watch {self._run} --once evaluates what is there; a run that goes on "
                "rewrites it",
            ) from error

    def _is_older(self) -> bool:
        if complete(self._run):
            return True
        self._tell("waits", f"{self._run} has not begun to train: this watch waits for its first checkpoint")
        return False

    def _is_killed(self, told: Mapping[str, Any], at: datetime) -> bool:
        silent_s = (datetime.now(UTC) - at).total_seconds()
        held, is_here = may_be_held(self._run), told["host"] == socket.gethostname()
        who = f"process {told['pid']} of {told['host']}, at step {told['step']}"
        beat = f"its heartbeat, that of {who}, is {_minutes(silent_s)} old"
        if not held and (is_here or silent_s >= GIVEN_UP_S):
            why = "no process trains it any more" if is_here else f"{told['host']} is not seen from here"
            self._tell("killed", f"{self._run} is taken for killed: {beat}, and {why}; {GO_ON}")
            return True
        if silent_s < TOLD_AFTER_S:
            self._tell_after = TOLD_AFTER_S
        elif silent_s >= self._tell_after:
            while self._tell_after <= silent_s:
                self._tell_after *= 2
            until = (
                "" if held else f" until that is {_minutes(GIVEN_UP_S)}: {told['host']} is not seen from here"
            )
            self._tell(beat, f"{self._run}: {beat}; this watch waits for it{until}")
        return False

    def _tell(self, what: str, sentence: str) -> None:
        """Each thing once."""
        if what not in self._told:
            self._told.add(what)
            warnings.warn(sentence, FoundryWarning, stacklevel=4)


def _minutes(seconds: float) -> str:
    """3900 → "1 h 05 min"."""
    minutes = max(int(seconds // 60), 0)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
