"""Signs of life: RUN/heartbeat.json, and a word on stderr where no step ends for long.

One thread in each rank looks at what the loop says (`metering.phases`), so that the loop itself does nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from threading import Event, Thread

from robot_foundry.runtime.errors import EXIT_FAILED
from robot_foundry.trainer.metering.phases import ENDED, Phases
from robot_foundry.trainer.metering.stall import sentence
from robot_foundry.trainer.ranks.ranks import Ranks

HEARTBEAT = "heartbeat.json"
HEARTBEAT_S = 5.0  # it is written no more often
_LOOK_S = 1.0


@dataclass(frozen=True)
class StallSettings:
    """What is done where no step ends; in seconds."""

    stall_after: float = 600.0  # say what a rank waits for, and at twice, four times … that; 0 does not
    stall_limit: float | None = None  # end the run; the same command goes on from its last checkpoint


def stall_problems(stall: StallSettings) -> Iterator[str]:
    """One line for every value of `run` that is out of range."""
    if not 0 <= stall.stall_after < inf:
        yield f"run.stall_after: seconds, or 0 for never, not {stall.stall_after}"
    if stall.stall_limit is not None and not 0 < stall.stall_limit < inf:
        yield f"run.stall_limit: seconds, more than 0, not {stall.stall_limit}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Watch:
    """Looks at a rank while it trains; a context manager.

    `reading` says which tars are being read. `end` takes an exit code and does not return.
    """

    def __init__(
        self,
        run_dir: Path,
        phases: Phases,
        ranks: Ranks,
        settings: StallSettings,
        reading: Callable[[], Sequence[str]],
        *,
        say: Callable[[str], None] = _say,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._phases, self._ranks, self._settings = phases, ranks, settings
        self._reading, self._say, self._end = reading, say, end
        self._heartbeat = run_dir / HEARTBEAT if ranks.is_main else None
        self._written: tuple[int, str] | None = None
        self._written_at = -HEARTBEAT_S
        self._stall, self._tell_after = phases.stepped, settings.stall_after  # when, and after how long next
        self._over = Event()
        self._thread = Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._phases.enter(ENDED)
        self._beat()

    def look(self) -> None:
        """What the thread does again and again."""
        phases, settings, now = self._phases, self._settings, self._phases.clock()
        if now - self._written_at >= HEARTBEAT_S:
            self._beat()
        stepped = phases.stepped
        seconds = now - stepped
        if stepped != self._stall:
            self._stall, self._tell_after = stepped, settings.stall_after
        if settings.stall_after and seconds >= self._tell_after:
            while self._tell_after <= seconds:
                self._tell_after *= 2
            self._say(f"Warning: {self._sentence(seconds)}")
        if settings.stall_limit is not None and seconds >= settings.stall_limit:
            self._say(
                f"Error: {self._sentence(seconds)}\n"
                "Hint: run.stall_limit ends a run then; the same command goes on from its last checkpoint"
            )
            self._end(EXIT_FAILED)

    def _watch(self) -> None:
        limits = [of for of in (self._settings.stall_after, self._settings.stall_limit) if of]
        pause = min([_LOOK_S, *(of / 4 for of in limits)])
        while not self._over.wait(pause):
            self.look()

    def _sentence(self, seconds: float) -> str:
        phases, ranks = self._phases, self._ranks
        return sentence(phases.phase, phases.step, seconds, ranks.rank, ranks.size, self._reading)

    def _beat(self) -> None:
        """Write the file where something is new. What a disk refuses ends no run: the next may succeed."""
        here = self._phases.step, self._phases.phase
        if self._heartbeat is None or here == self._written:
            return
        step, phase = here
        told = {
            "step": step,
            "phase": phase,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "rank": self._ranks.rank,
            "ranks": self._ranks.size,
        }
        partial = self._heartbeat.with_suffix(".tmp")
        try:
            partial.write_text(json.dumps(told) + "\n", encoding="utf-8")
            os.replace(partial, self._heartbeat)
        except OSError:
            return
        self._written, self._written_at = here, self._phases.clock()
