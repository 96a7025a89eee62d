"""Whether the other ranks live, found out beside what a rank does, and however it waits.

Each rank gives a sign of life on a board and reads those of the others. Time is counted in looks at it: a
machine that was put to sleep, with all that runs on it, does not wake to find that the others are gone.
"""

from __future__ import annotations

import os
import socket
from threading import Condition, Event, Thread
from types import TracebackType

from robot_foundry.runtime.errors import EXIT_PREEMPTED
from robot_foundry.trainer.ranks.board import Board, Sign, Verdict

GONE_BEATS = 4  # of a rank to which the connection broke
GRACE_S = 5.0  # for a rank to end by itself once it is known why
_SLOWEST = 256  # ranks a second that each reads, so that the store of a thousand is not busy with signs alone


class Heartbeat:
    """Of one rank among `size`, alive inside a `with`. The main thread says what it does, and asks.

    A rank that gives no sign for `patience_s` is taken to be gone; of one to which a connection broke, that
    is asked at once. Where the main thread does not end by itself after a verdict, as it waits for what will
    not come (a frozen rank, a GPU that waits for one), the process is ended with the sentence.
    """

    def __init__(self, board: Board, rank: int, size: int, patience_s: float) -> None:
        self.step: int | None = None  # optimiser steps that are finished
        self.calls = 0  # exchanges that this rank came to
        self.stepping = False  # whether a rank that lives must come within the patience
        self._board, self._rank, self._size = board, rank, size
        self._interval_s = max(0.5, size / _SLOWEST)
        self._patience = max(1, round(patience_s / self._interval_s))
        self._over = Event()
        self._told = Condition()
        self._verdict: Verdict | None = None
        self._proposed: Verdict | None = None
        self._lost = False  # a connection broke, or
        self._late = False  # nobody came
        self._signs: dict[int, Sign] = {}
        self._pulses = 0

    def __enter__(self) -> Heartbeat:
        self._threads = [Thread(target=work, daemon=True) for work in (self._pulse, self._watch)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(GRACE_S)  # a store that does not answer holds up the first one

    def failed(self, message: str) -> Verdict | None:
        """Say that this rank failed; the verdict that holds, None where nobody can be told."""
        last = "" if self.step is None else f", after step {self.step}"
        self._proposed = Verdict(self._rank, f"rank {self._rank} failed: {message} (on {_host()}{last})")
        return self._wait_for_verdict()

    def lost(self, late: bool) -> Verdict | None:
        """Why a connection broke, or (`late`) somebody did not come; None where that is not found out."""
        self._lost, self._late = True, late
        return self._wait_for_verdict()

    def _wait_for_verdict(self) -> Verdict | None:
        with self._told:
            self._told.wait_for(lambda: self._verdict is not None, (GONE_BEATS + 6) * self._interval_s)
        return self._verdict

    def _pulse(self) -> None:
        """Give signs and read those of the others, as long as the store answers."""
        beat = 0
        try:
            while not self._over.is_set():
                beat += 1
                self._board.put(self._rank, Sign(beat, _host(), self.step, self.calls))
                self._signs = self._board.signs()
                if self._verdict is None:
                    said = self._board.judge(self._proposed) if self._proposed else self._board.verdict()
                    self._conclude(said)
                self._pulses += 1
                self._over.wait(self._interval_s)
            self._board.put(self._rank, Sign(beat + 1, _host(), self.step, self.calls, over=True))
        except RuntimeError:  # whoever keeps the store has gone: the watch sees that no pulse follows
            return

    def _conclude(self, verdict: Verdict | None) -> None:
        with self._told:
            self._verdict = self._verdict or verdict
            self._told.notify_all()

    def _watch(self) -> None:
        """Count since when each rank is silent, and end the process where the main thread cannot."""
        silent: dict[int, tuple[int, int]] = {}  # the last beat of each, and how often it was seen
        pulses, stuck, unmoved, after, calls = 0, 0, 0, 0, -1
        while not self._over.wait(self._interval_s):
            stuck = stuck + 1 if self._pulses == pulses else 0
            unmoved = unmoved + 1 if self.calls == calls and self.stepping else 0
            pulses, calls = self._pulses, self.calls
            for rank, sign in self._signs.items():
                beat, times = silent.get(rank, (0, 0))
                silent[rank] = (sign.beat, times + 1 if sign.beat == beat and not stuck else 0)
            if self._verdict is None:
                self._look(silent, stuck, unmoved)
            else:
                after += 1
                if after * self._interval_s > GRACE_S and not self._is_leaving(self._verdict):
                    self._end(self._verdict)

    def _is_leaving(self, verdict: Verdict) -> bool:
        """Whether the run was stopped and this rank took its last step too: its checkpoint is written, and it
        closes what its records go to, which may be a service far away."""
        return verdict.code == EXIT_PREEMPTED and self.step is not None and not self.stepping

    def _look(self, silent: dict[int, tuple[int, int]], stuck: int, unmoved: int) -> None:
        """Whether a rank is gone, or the store, or one is alive and does not come."""
        limit = min(GONE_BEATS, self._patience) if self._lost else self._patience
        times, rank = max(
            ((times, rank) for rank, (_, times) in silent.items() if not self._signs[rank].over),
            default=(0, 0),
        )
        if stuck >= limit:
            self._conclude(self._without_store())
        elif times >= limit:
            self._proposed = self._gone(rank)
        elif self._late or unmoved > self._patience:
            self._proposed = self._behind()

    def _gone(self, rank: int) -> Verdict:
        sign = self._signs[rank]
        message = f"rank {rank} on {sign.host} gives no sign of life any more; {sign.seen}"
        return Verdict(
            rank, message, "it was killed or frozen, or its machine is gone; the same command goes on"
        )

    def _without_store(self) -> Verdict:
        first = self._signs.get(0)
        where, last = ("its machine", "") if first is None else (first.host, f"; {first.seen}")
        message = f"rank 0 on {where} gives no sign of life any more, nor does the store of all ranks{last}"
        return Verdict(0, message, "its machine, or the way to it, is gone; the same command goes on")

    def _behind(self) -> Verdict | None:
        """Of ranks that all live, the one that came to the fewest exchanges; None where none is behind."""
        missing = [rank for rank in range(self._size) if rank not in self._signs]
        if missing:
            message = f"rank {missing[0]} of {self._size} did not come, for which the others waited"
            return Verdict(missing[0], message, "its own output says why")
        rank, sign = min(self._signs.items(), key=lambda item: (item[1].calls, item[0]))
        if sign.calls >= self.calls:
            return None
        message = (
            f"rank {rank} on {sign.host} lives, but does not come to where the others wait for it; "
            f"{sign.seen}"
        )
        return Verdict(
            rank, message, "its own output says what it did; run.patience is how long the others wait"
        )

    def _end(self, verdict: Verdict) -> None:
        hint = "" if verdict.hint is None else f"Hint: {verdict.hint}\n"
        os.write(2, f"\nError: {verdict.message}\n{hint}".encode())
        os._exit(verdict.code)


def _host() -> str:
    return socket.gethostname()
