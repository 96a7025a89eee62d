"""Loaders of windows, and versions whose frames have flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foundry_testing.loader_fixtures import Episode, Written, write_version
from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.store import Store
from robot_foundry.loader.load import Loader, load
from robot_foundry.windows.window import WindowSpec


def open_loader(store: Store, ref: str | dict[str, float], **window: Any) -> Loader[Any]:
    return load(ref, WindowSpec(**window), seed=3, global_batch=32, store=store, split="all", threads=0)


def flagged_version(
    store: Store,
    name: str = "sim",
    flags: Sequence[int] | None = None,
    lengths: Sequence[Sequence[int]] = ((14,), (17,)),
) -> Written:
    """Episodes with idle frames, interventions and a terminal frame, or one with these flags."""

    def flag(episode: Episode, garbage: float) -> None:
        rng = np.random.default_rng(len(episode.flags))
        episode.flags |= np.uint32(Flag.NOOP) * (rng.random(len(episode.flags)) < 0.3)
        episode.flags |= np.uint32(Flag.INTERVENTION) * (rng.random(len(episode.flags)) < 0.4)
        episode.flags[-1] |= Flag.TERMINAL
        if flags is not None:
            episode.flags[:] = flags

    lengths = lengths if flags is None else [[len(flags)]]
    return write_version(store, name, lengths, spoil=flag)
