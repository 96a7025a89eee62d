"""Worlds that stay open between the scenes of a process: many are slow to make, and all can be reset."""

from __future__ import annotations

from functools import lru_cache
from types import TracebackType
from typing import Any

from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.world import World, WorldFactory

MOST_ASIDE = 8


class OpenWorlds:
    """A context manager. The worlds of a group run beside each other; others are used one at a time."""

    def __init__(self) -> None:
        self._kind: tuple[Any, ...] = ()
        self._running: dict[int, World] = {}
        self._aside: list[tuple[tuple[Any, ...], World]] = []  # the one that was used last is the last

    def __enter__(self) -> OpenWorlds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_running()
        while self._aside:
            self._aside.pop()[1].close()

    def running(
        self, factory: WorldFactory, task: str, variant: str, cameras: tuple[str, ...], size: int, slot: int
    ) -> World:
        """The world of a slot, to be reset. Those of one kind stay open until another kind is asked for."""
        kind = (factory, task, variant, cameras, size)
        if kind != self._kind:
            self._close_running()
            self._kind = kind
        if slot not in self._running:
            self._running[slot] = open_world(factory, task, variant, cameras=cameras, size=size)
        return self._running[slot]

    def aside(self, factory: WorldFactory, task: str, variant: str) -> World:
        """A world without cameras, to be reset and done with before the next one is asked for."""
        wanted = (factory, task, variant)
        for place, (key, _) in enumerate(self._aside):
            if key == wanted:
                self._aside.append(self._aside.pop(place))
                return self._aside[-1][1]
        if len(self._aside) == MOST_ASIDE:
            self._aside.pop(0)[1].close()
        self._aside.append((wanted, open_world(factory, task, variant)))
        return self._aside[-1][1]

    def _close_running(self) -> None:
        while self._running:
            self._running.popitem()[1].close()


@lru_cache(maxsize=1)
def worlds_of_this_process() -> OpenWorlds:
    """Those of a worker process, which gets its scenes one group at a time and ends with its last."""
    return OpenWorlds()
