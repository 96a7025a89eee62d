"""The scripted experts solve their tasks, and their recordings solve them again through action chunks."""

from __future__ import annotations

import numpy as np
import pytest

from robot_foundry.evaluation.seeds import scene_seed
from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.tabletop.commands import (
    action_space,
    canonical_to_commands,
    command_size,
    decode_targets,
    state_space,
)
from robot_foundry.evaluation.worlds.tabletop.demonstrations import demonstrate
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.evaluation.worlds.tabletop.experts import Expert
from robot_foundry.evaluation.worlds.tabletop.goals import TASKS
from robot_foundry.evaluation.worlds.tabletop.language import PHRASES
from robot_foundry.evaluation.worlds.tabletop.variants import VARIANTS
from robot_foundry.normalization.representation import decode, encode
from robot_foundry.normalization.rotation import (
    axis_angle_to_matrix,
    matrix_to_rot6d,
    quaternion_to_matrix,
)

DEMONSTRATIONS = {"sim": 50, "real": 20}
HORIZON, EXECUTE = 16, 8


def canonical(arrays: dict[str, np.ndarray], world: Tabletop) -> tuple[np.ndarray, np.ndarray]:
    """(state (N, D), command (N, A)) of a recording, as an importer of its layout computes them."""
    arms, rotates = world.task.arms, world.variant.rotates
    size = command_size(rotates)
    state, command = [], []
    for index, arm in enumerate(arms):
        prefix = "obs/" if len(arms) == 1 else f"obs/{arm}_"
        rotation = quaternion_to_matrix(arrays[f"{prefix}eef_quat"], order="xyzw")
        state += [arrays[f"{prefix}eef_pos"], matrix_to_rot6d(rotation), arrays[f"{prefix}gripper"]]
        part = arrays["actions"][:, index * size : (index + 1) * size]
        turned = [matrix_to_rot6d(axis_angle_to_matrix(part[:, 3:6]))] if rotates else []
        command += [part[:, :3], *turned, part[:, -1:]]
    return np.concatenate(state, axis=1), np.concatenate(command, axis=1)


def next_state(state: np.ndarray, command: np.ndarray, world: Tabletop) -> np.ndarray:
    """The stream `next_state`: the pose measured one step later, with the commanded gripper."""
    states, actions = world.state_space, action_space(world.task.arms, world.variant.rotates)
    later = np.concatenate([state[1:], world.state()[None]])[
        :, [states.index(name) for name in actions.names]
    ]
    grippers = [actions.index(f"{arm}.gripper_opening") for arm in world.task.arms]
    later[:, grippers] = command[:, grippers]
    return later


def replay(world: Tabletop, seed: int, state: np.ndarray, targets: np.ndarray) -> Outcome:
    """Absolute targets -> relative chunks at float32 -> absolute commands, executed chunk by chunk."""
    arms, rotates = world.task.arms, world.variant.rotates
    states, actions = state_space(arms), action_space(arms, rotates)
    world.reset(seed=seed)
    for start in range(0, len(targets), EXECUTE):
        rows = np.minimum(np.arange(start, start + HORIZON), len(targets) - 1)
        anchor = state[start][None]
        chunk = encode(anchor, targets[rows][None], states, actions, "relative_tool").astype(np.float32)
        absolute = decode(anchor, chunk, states, actions, "relative_tool")[0]
        commands = canonical_to_commands(absolute, actions, arms, rotates)[:EXECUTE]
        for step in decode_targets(commands, world.physics.arms, rotates):
            outcome = world.advance(step)
            if outcome is not Outcome.RUNNING:
                return outcome
    return Outcome.RUNNING


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_its_task_and_so_does_its_recording(task: str, variant: str) -> None:
    world = Tabletop(task, variant=variant, cameras=())
    solved = {"expert": 0, "command": 0, "next_state": 0}
    for index in range(DEMONSTRATIONS[variant]):
        seed = scene_seed("collect", 1, index)
        arrays = demonstrate(world, seed)
        solved["expert"] += world.task.judge(world.physics, world.goal, False) is Outcome.SUCCESS
        state, command = canonical(arrays, world)
        later = next_state(state, command, world)
        solved["command"] += replay(world, seed, state, command) is Outcome.SUCCESS
        solved["next_state"] += replay(world, seed, state, later) is Outcome.SUCCESS
    assert min(solved.values()) >= 0.98 * DEMONSTRATIONS[variant], solved


def test_demonstrations_leave_the_rails_and_come_back() -> None:
    """What was executed is not what was commanded, by bursts of centimetres, and the expert recovers."""
    world = Tabletop("reach", cameras=())
    gaps = []
    for index in range(40):
        arrays = demonstrate(world, scene_seed("collect", 2, index))
        gaps += np.linalg.norm(arrays["actions"][:-1, :3] - arrays["obs/eef_pos"][1:], axis=1).tolist()
        assert world.task.judge(world.physics, world.goal, True) is Outcome.SUCCESS
    assert np.median(gaps) < 0.006
    assert 0.05 < np.mean(np.array(gaps) > 0.01) < 0.4


def test_the_expert_is_a_function_of_the_state() -> None:
    """Asked twice in one state it says the same: it keeps no clock and no memory."""
    a, b = (Tabletop("pick_place", cameras=()) for _ in range(2))
    arrays = demonstrate(a, 5)
    np.testing.assert_array_equal(demonstrate(b, 5)["actions"], arrays["actions"])
    expert = Expert(a.task, a.goal)
    first, second = expert.command(a.physics), expert.command(a.physics)
    np.testing.assert_array_equal(first[0].position_3, second[0].position_3)
    assert first[0].opening == second[0].opening


@pytest.mark.parametrize("task", TASKS)
def test_many_phrasings_name_the_goal(task: str) -> None:
    world = Tabletop(task, cameras=())
    kinds, texts = set(), set()
    for seed in range(300):
        _, info = world.reset(seed=seed)
        told, target = info["instruction"], world.physics.scene.solids[world.goal.target]
        assert target.colour in told
        assert "{" not in told
        colours = [solid.colour for solid in world.physics.scene.solids]
        colours += [mark.colour for mark in world.physics.scene.marks]
        assert len(set(colours)) == len(colours)  # so that a colour names one thing
        kinds.add(told.split(target.colour)[0])
        texts.add(told)
    assert len(kinds) >= min(8, len(PHRASES[world.goal.kind]) - 1)
    assert len(texts) > 100
    assert min(len(phrases) for phrases in PHRASES.values()) >= 8
