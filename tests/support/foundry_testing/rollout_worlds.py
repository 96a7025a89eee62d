"""A short rollout in every kind of world, by an actor that nothing it is shown or told escapes."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from foundry_testing import line_program
from robot_foundry.evaluation.actors import Actor, ActorSpec, Situation
from robot_foundry.evaluation.rollout import GROUP, Rollout, RolloutSpec
from robot_foundry.evaluation.world import WorldFactory, WorldInfo
from robot_foundry.evaluation.worlds.child.world import ChildWorlds
from robot_foundry.evaluation.worlds.libero.world import PYTHON
from robot_foundry.runtime.keyed import generator

CHUNK = 8
HERE = Path(__file__).parent


@dataclass(frozen=True)
class WatcherSpec(ActorSpec):
    """An actor whose targets are drawn anew for whatever it sees and is told, to the last bit."""

    run: str | None = None

    def build(self, world: WorldInfo) -> Actor:
        return Watcher(world)


class Watcher:
    """Shape suffixes: S history, D dims of the state; HWC image."""

    history = 2

    def __init__(self, world: WorldInfo) -> None:
        self.roles = world.cameras[:1]
        self._motion = world.random

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        return [self._chunk(situation) for situation in situations]

    def _chunk(self, situation: Situation) -> np.ndarray:
        seen = hashlib.sha256(situation.state_SD.tobytes())
        for image_SHWC in situation.images.values():
            seen.update(image_SHWC.tobytes())
        rng = generator("watcher", seen.hexdigest(), situation.instruction, situation.seed)
        low, high = self._motion.low, self._motion.high
        return rng.uniform(low, high, (CHUNK, len(low)))


def _spec(world: str | WorldFactory, task: str, together: int = GROUP) -> RolloutSpec:
    spec = RolloutSpec(WatcherSpec(), task, world=world, episodes=20, seed=3, max_steps=12, size=16)
    return replace(spec, together=together)


EVERY_WORLD: Mapping[str, RolloutSpec] = {
    "tabletop": _spec("tabletop", "reach"),
    "metaworld": _spec("metaworld", "push"),
    "pusht": _spec("pusht", "push-t"),
    "gantry": _spec(str(HERE / "gantry.yaml"), "touch"),  # of Gymnasium, by a file
    "line": _spec(ChildWorlds("line", sys.executable, f"{line_program.__file__}:Line"), "go"),
    "libero": _spec("libero", "libero_10/0", together=1),
}
# What a world takes that takes much, bytes (docs/libero.md).
TAKES = {"libero": 2.1e9}
# Worlds that cannot be opened here, and why.
ABSENT: dict[str, str] = {}
if find_spec("metaworld") is None:
    ABSENT["metaworld"] = "needs the extra metaworld"
if PYTHON not in os.environ:
    ABSENT["libero"] = f"{PYTHON} names no interpreter with LIBERO"


def skip_without_memory(world: str, groups: int) -> None:
    """Skip the test where the worlds of so many groups at once do not fit into memory."""
    worlds = groups * EVERY_WORLD[world].together
    takes = worlds * TAKES.get(world, 0.0)
    if takes > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        pytest.skip(f"{worlds} worlds of {world} at once take {takes / 1e9:.0f} GB")


def assert_alike(one: Rollout, other: Rollout) -> None:
    """Every episode went the same way, by the same targets, and was filmed alike."""
    assert one.episodes == other.episodes
    for a, b in zip(one.episodes, other.episodes, strict=True):
        assert a.executed is not None and b.executed is not None
        np.testing.assert_array_equal(a.executed.target_TA, b.executed.target_TA)
        assert (a.film is None) == (b.film is None)
        if a.film is not None and b.film is not None:
            np.testing.assert_array_equal(a.film.frames, b.film.frames)
