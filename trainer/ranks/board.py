"""What ranks and their launchers tell each other beside tensors: signs of life, and what ended a run.

It lies in the store through which the ranks found each other, under connections of its own: one that waits
for a key holds a lock until it is there.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from robot_foundry.runtime.errors import EXIT_FAILED, EXIT_PREEMPTED, FoundryError, Preempted

_CONNECTING = timedelta(minutes=1)  # to a store that is there


@dataclass(frozen=True)
class Sign:
    """What a rank tells of itself again and again, each time with a `beat` of its own.

    step   optimiser steps that it finished, None before the first
    calls  exchanges with all ranks that it came to
    over   it has ended as it should, and no sign follows
    """

    beat: int
    host: str
    step: int | None
    calls: int
    over: bool = False

    @property
    def seen(self) -> str:
        return f"last seen {'before its first step' if self.step is None else f'after step {self.step}'}"


@dataclass(frozen=True)
class Verdict:
    """Why a run ends: the rank that it ends by, a sentence, what to do, and the exit code of all others."""

    rank: int
    message: str
    hint: str | None = None
    code: int = EXIT_FAILED

    def error(self) -> FoundryError:
        kind = Preempted if self.code == EXIT_PREEMPTED else FoundryError
        return kind(self.message, hint=self.hint)


class Board:
    """Of a run of `size` ranks. Methods raise RuntimeError where the store is gone."""

    def __init__(self, store: Store, size: int) -> None:
        self._store = store
        self._missing = {rank: f"sign/{rank}" for rank in range(size)}
        self._there: dict[int, str] = {}

    @classmethod
    def at(cls, host: str, port: int, size: int) -> Board:
        """That of the ranks whose store is there."""
        return cls.of(TCPStore(host, port, None, False, _CONNECTING, wait_for_workers=False), size)

    @classmethod
    def of(cls, store: Store, size: int) -> Board:
        """That in the store of the ranks. Those that torchrun started again have another."""
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return cls(PrefixStore(f"robot_foundry/{attempt}", store), size)

    def put(self, rank: int, sign: Sign) -> None:
        self._store.set(f"sign/{rank}", json.dumps(asdict(sign)))

    def signs(self) -> dict[int, Sign]:
        """The last of each rank that gave one."""
        for rank, key in list(self._missing.items()):
            if self._store.check([key]):  # to get what is not there would wait
                self._there[rank] = self._missing.pop(rank)
        if not self._there:
            return {}
        values = self._store.multi_get(list(self._there.values()))
        return {rank: Sign(**json.loads(value)) for rank, value in zip(self._there, values, strict=True)}

    def judge(self, verdict: Verdict) -> Verdict:
        """Say why the run ends; what comes back, and holds, is the verdict of whoever said so first."""
        return Verdict(**json.loads(self._store.compare_set("verdict", "", json.dumps(asdict(verdict)))))

    def verdict(self) -> Verdict | None:
        return Verdict(**json.loads(self._store.get("verdict"))) if self._store.check(["verdict"]) else None
