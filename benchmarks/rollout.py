"""What a rollout costs beyond the world: its loop against a bare one, on the same scenes and targets.

    python benchmarks/rollout.py [--world tabletop] [--task push] [--episodes 32] [--repeats 5] [--json FILE]

First a rollout of random motion records the targets of every scene. Then, in turns, an actor that repeats
them is rolled out, looking through `--cameras` at `--size` pixels, and a bare loop does what the world must
do for that: reset, look where the actor looks, aim, step. Neither films. Worlds are opened before the clock
runs. Time is CPU time of one process; the ratio is the median over the repeats of rollout / bare.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robot_foundry.evaluation.actors import Actor, ActorSpec, Situation
from robot_foundry.evaluation.rollout import GROUP, Rollout, RolloutEpisode, RolloutSpec, rollout
from robot_foundry.evaluation.world import Outcome, World, WorldInfo


class Recorded:
    """Repeats what was executed in each scene, told by how often it was asked."""

    history = 1

    def __init__(self, episodes: Sequence[RolloutEpisode], roles: tuple[str, ...], execute: int) -> None:
        self.roles, self._execute = roles, execute
        self._episodes = episodes
        self._group, self._step = 0, 0
        self._chunks: list[np.ndarray] = []

    def act(self, situations: Sequence[Situation]) -> list[np.ndarray]:
        group = self._episodes[self._group * GROUP : (self._group + 1) * GROUP]
        running = [episode for episode in group if episode.steps > self._step]
        chunks = []
        for episode in running:
            assert episode.executed is not None
            chunks.append(episode.executed.target_TA[self._step : self._step + self._execute])
        self._step += self._execute
        if all(episode.steps <= self._step for episode in group):
            self._group, self._step = self._group + 1, 0
        assert len(chunks) == len(situations)
        return chunks


@dataclass(frozen=True)
class RecordedSpec(ActorSpec):
    recorded: Recorded | None = None

    def build(self, world: WorldInfo) -> Actor:
        assert self.recorded is not None
        return self.recorded


def bare(worlds: Sequence[World], episodes: Sequence[RolloutEpisode], execute: int) -> float:
    """CPU seconds of all scenes, a world a slot, without anything that is not the world's own work."""
    started = time.process_time()
    for place, episode in enumerate(episodes):
        world, left = worlds[place % GROUP], episode.steps
        assert episode.executed is not None
        target_TA = episode.executed.target_TA
        world.reset(episode.seed)
        world.observe()
        for first in range(0, episode.steps, execute):
            world.aim(target_TA[first : first + execute])
            outcome = Outcome.RUNNING
            for _ in range(min(execute, left)):
                outcome = world.step()
            left -= execute
            if outcome is Outcome.RUNNING and left > 0:
                world.observe()
    return time.process_time() - started


def rolled(spec: RolloutSpec, episodes: Sequence[RolloutEpisode], cameras: tuple[str, ...]) -> float:
    actor = RecordedSpec(None, recorded=Recorded(episodes, cameras, spec.execute))
    started = time.process_time()
    result = rollout(replace(spec, actor=actor), quiet=True, films=0)
    seconds = time.process_time() - started
    assert [episode.steps for episode in result.episodes] == [episode.steps for episode in episodes]
    return seconds


def measure(spec: RolloutSpec, cameras: tuple[str, ...], repeats: int) -> dict[str, float]:
    recorded: Rollout = rollout(spec, quiet=True, films=0)
    ratios, bare_s, opening_s = [], [], []
    for _ in range(repeats):
        with ExitStack() as stack:
            started = time.process_time()
            worlds = []
            for _ in range(GROUP):
                # Unguarded: that the contract is proven at every call is part of what a rollout costs.
                world = spec.factory.build(spec.task, spec.variant, cameras, spec.size)
                stack.callback(world.close)
                worlds.append(world)
            opening_s.append(time.process_time() - started)
            bare_s.append(bare(worlds, recorded.episodes, spec.execute))
        # Opening them is the world's own work, done once by both.
        ratios.append((rolled(spec, recorded.episodes, cameras) - opening_s[-1]) / bare_s[-1])
    steps = sum(episode.steps for episode in recorded.episodes)
    return {
        "ratio": float(np.median(ratios)),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "bare_ms_a_step": 1e3 * float(np.median(bare_s)) / steps,
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", default="tabletop")
    parser.add_argument("--task", default="push")
    parser.add_argument("--cameras", default="primary")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--execute", type=int, default=8)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--episodes", type=int, default=4 * GROUP)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.episodes % GROUP:
        parser.error(f"--episodes must be a multiple of {GROUP}: groups of scenes are run whole")
    spec = RolloutSpec(
        ActorSpec(None), arguments.task, world=arguments.world, episodes=arguments.episodes,
        execute=arguments.execute, size=arguments.size, max_steps=arguments.max_steps,
    )  # fmt: skip
    found = measure(spec, tuple(arguments.cameras.split(",")), arguments.repeats)
    print(
        f"{arguments.world}, {arguments.task}: {found['bare_ms_a_step']:.2f} ms a step of the world; "
        f"a rollout takes {found['ratio']:.3f} of the bare loop "
        f"({found['ratio_low']:.3f} … {found['ratio_high']:.3f})"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
