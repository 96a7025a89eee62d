"""The whole action path without learning: record, ingest, read actions, chunk, decode, execute, solve."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

import robot_foundry
from robot_foundry.evaluation.collection import Request, collect
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.tabletop.commands import canonical_to_commands, decode_targets
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.ingest import ingest
from robot_foundry.loader.robot.dataset import Dataset
from robot_foundry.normalization.representation import decode, encode

DEMONSTRATIONS, HORIZON, EXECUTE = 50, 16, 8


def solves(world: Tabletop, dataset: Dataset, rows: np.ndarray, seed: int, stream: str) -> bool:
    """Whether the episode in `rows` solves its scene, as float32 chunks relative to the recorded state."""
    states, actions = dataset.space("state"), dataset.space(stream)
    arms, rotates = world.task.arms, world.variant.rotates
    frames = [dataset[int(row)] for row in rows]
    state_ND = np.stack([frame["state"] for frame in frames])
    target_NA = np.stack([frame[f"action.{stream}"] for frame in frames])
    world.reset(seed=seed)
    for start in range(0, len(rows), EXECUTE):
        ahead = np.minimum(np.arange(start, start + HORIZON), len(rows) - 1)
        anchor = state_ND[start][None]
        chunk = encode(anchor, target_NA[ahead][None], states, actions, "relative_tool").astype(np.float32)
        absolute = decode(anchor, chunk, states, actions, "relative_tool")[0]
        commands = canonical_to_commands(absolute, actions, arms, rotates)[:EXECUTE]
        for targets in decode_targets(commands, world.physics.arms, rotates):
            outcome = world.advance(targets)
            if outcome is not Outcome.RUNNING:
                return outcome is Outcome.SUCCESS
    return False


@pytest.mark.parametrize("task", ["reach_single", "pick_place"])
def test_ingested_demonstrations_solve_their_scenes_again(task: str, tmp_path: Path) -> None:
    file = tmp_path / f"{task}.hdf5"
    collect(Request(task, "sim", DEMONSTRATIONS, 3, ("primary",), 16), file, quiet=True)
    with h5py.File(file) as recorded:
        seeds = {name: int(demo.attrs["seed"]) for name, demo in recorded["data"].items()}
    ingest("tabletop", file, store=tmp_path / "store", name="demos")
    dataset = robot_foundry.open("demos", tmp_path / "store")
    world = Tabletop(task, variant="sim", cameras=())
    solved = dict.fromkeys(("command", "next_state"), 0)
    first = 0
    for episode in dataset.episodes().to_pylist():
        rows = np.arange(first, first + episode["num_frames"])
        first += episode["num_frames"]
        for stream in solved:
            solved[stream] += solves(world, dataset, rows, seeds[episode["id"]], stream)
    assert min(solved.values()) >= 0.98 * DEMONSTRATIONS, solved
