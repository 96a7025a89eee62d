"""The contract of worlds, kept by the tabletop and by Gymnasium environments."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from foundry_testing import line_program
from foundry_testing.gymnasium_worlds import GANTRY, HILL

from robot_foundry.evaluation.actors import ActorSpec
from robot_foundry.evaluation.guard import GuardedWorld, open_world
from robot_foundry.evaluation.rollout import RolloutSpec, rollout
from robot_foundry.evaluation.world import Observation, Outcome, RandomMotion, Start, World, WorldInfo
from robot_foundry.evaluation.worlds.child.world import ChildWorlds
from robot_foundry.evaluation.worlds.pusht.expert import Expert as PushtExpert
from robot_foundry.evaluation.worlds.pusht.simulation import Simulation
from robot_foundry.evaluation.worlds.pusht.world import PushtWorlds
from robot_foundry.evaluation.worlds.tabletop.commands import action_space, canonical_state
from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.evaluation.worlds.tabletop.experts import Expert
from robot_foundry.evaluation.worlds.tabletop.world import TabletopWorlds
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError

RANDOM = ActorSpec(run=None)


# -- solutions: what a solver aims at next, as a function of the observation --------------------------

Solver = Callable[[Observation], np.ndarray]


def expert_plan(task: str, variant: str) -> Callable[[int], Solver]:
    """The tabletop's expert, which solves its own copy of the scene, as canonical targets."""

    def solver(seed: int) -> Solver:
        env = Tabletop(task, variant=variant, cameras=())
        env.reset(seed=seed)
        expert = Expert(env.task, env.goal, env.variant.rotates)
        states = canonical_dims(env)

        def target(_: Observation) -> np.ndarray:
            command = expert.command(env.physics)
            env.advance(command)
            return canonical_state(command)[states]

        return target

    return solver


def pusht_plan(seed: int) -> Solver:
    """The expert of PushT, which solves its own copy of the table."""
    table, expert = Simulation(), PushtExpert()
    table.reset(seed)

    def target(_: Observation) -> np.ndarray:
        target_2 = expert.target(table.disc_2, table.block_2, table.angle)
        table.drive(target_2)
        return np.array([*target_2 / 1000, 0.0])

    return target


def canonical_dims(env: Tabletop) -> list[int]:
    actions = action_space(env.task.arms, env.variant.rotates)
    return [env.state_space.index(name) for name in actions.names]


def to_the_mark(_: int) -> Solver:
    return lambda seen: np.array([*seen.state_D[3:5], 0.5])


def to_the_right(_: int) -> Solver:
    return lambda seen: np.array([1.0, 0.0, 0.0])


def swing(_: int) -> Solver:
    """Full throttle the way it rolls: the textbook answer to this hill."""
    return lambda seen: np.array([1.0 if seen.state_D[1] >= 0 else -1.0])


@dataclass(frozen=True)
class Case:
    worlds: Any
    task: str
    variant: str
    solver: Callable[[int], Solver]

    def open(self, *cameras: str) -> World:
        return open_world(self.worlds, self.task, self.variant, cameras=cameras, size=32)


LINE = ChildWorlds("line", sys.executable, f"{line_program.__file__}:Line")
CASES = [
    Case(TabletopWorlds(), "reach_pair", "sim", expert_plan("reach_pair", "sim")),
    Case(TabletopWorlds(), "push", "real", expert_plan("push", "real")),
    Case(TabletopWorlds(), "handover", "sim", expert_plan("handover", "sim")),
    Case(GANTRY, "touch", "sim", to_the_mark),
    Case(HILL, "climb", "sim", swing),
    Case(PushtWorlds(), "push-t", "sim", pusht_plan),
    Case(LINE, "go", "sim", to_the_right),
]
every_world = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.worlds.name}-{case.task}-{case.variant}"
)


def random_targets(info: WorldInfo, count: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(
        info.random.low, info.random.high, (count, len(info.action_space))
    )


def assert_equal_observations(a: Observation, b: Observation) -> None:
    np.testing.assert_array_equal(a.state_D, b.state_D)
    assert a.images.keys() == b.images.keys()
    for role, image in a.images.items():
        np.testing.assert_array_equal(image, b.images[role], err_msg=role)


# -- the contract ------------------------------------------------------------------------------------


@every_world
def test_the_same_seed_and_targets_give_the_same_episode_whatever_ran_before(case: Case) -> None:
    info = case.worlds.describe(case.task, case.variant)
    fresh, used = case.open(*info.cameras), case.open(*info.cameras)
    assert fresh.info == used.info == info
    used.reset(99)
    used.aim(random_targets(info, 8))
    for _ in range(3):
        used.step()
    assert fresh.reset(2**63 - 1) == used.reset(2**63 - 1)
    targets = random_targets(info, 5)
    fresh.aim(targets)
    for target_A in targets:
        assert_equal_observations(fresh.observe(), used.observe())
        fresh.observe()  # looking twice changes nothing
        used.aim(target_A[None])  # one at a time or all at once
        assert fresh.step() is used.step()
    assert_equal_observations(fresh.observe(), used.observe())
    starts = set()
    for seed in range(6):
        fresh.reset(seed)
        starts.add(fresh.observe().state_D.tobytes())
    assert len(starts) == 6


@every_world
def test_what_is_shown_has_the_form_that_is_described(case: Case) -> None:
    info = case.worlds.describe(case.task, case.variant)
    for cameras in ((), info.cameras[:1], info.cameras[::-1]):
        world = case.open(*cameras)
        start = world.reset(1)
        assert start.instruction and start.subject
        before = world.observe()
        assert set(before.images) == set(cameras)
        assert (before.state_D.dtype, before.state_D.shape) == (np.float64, (len(info.state_space),))
        kept = pickle.loads(pickle.dumps(before))
        world.aim(random_targets(info, 3))
        for _ in range(3):
            world.step()
        assert_equal_observations(before, kept)  # what was handed out is not written to again
        for image in before.images.values():
            assert image.dtype == np.uint8 and image.shape[2:] == (3,)
        picture = world.picture(48)
        assert picture is None or (picture.dtype, picture.shape) == (np.uint8, (48, 48, 3))
        world.close()


@every_world
def test_calls_out_of_order_and_wrong_targets_are_refused(case: Case) -> None:
    world = case.open()
    size = len(world.info.action_space)
    targets = random_targets(world.info, 2)
    for early in (world.observe, world.step, lambda: world.aim(targets), lambda: world.picture(32)):
        with pytest.raises(
            FoundryError, match=f"the world '{case.worlds.name}' cannot be .* before its first"
        ):
            early()
    world.reset(0)
    with pytest.raises(FoundryError, match="no target to step towards"):
        world.step()
    for wrong in (targets[0], np.zeros((1, size + 1)), np.full((1, size), np.nan)):
        with pytest.raises(FoundryError, match=f"targets are rows of {size} finite numbers"):
            world.aim(wrong)
    world.aim(targets)
    world.aim(targets[:1])  # in place of what was left
    world.step()
    with pytest.raises(FoundryError, match="no target to step towards"):
        world.step()
    world.aim(targets)
    world.reset(1)  # nothing is left of the last episode
    with pytest.raises(FoundryError, match="no target to step towards"):
        world.step()
    for seed in (-1, 2**63):
        with pytest.raises(FoundryError, match="a seed is an integer from 0"):
            world.reset(seed)


@every_world
def test_success_ends_an_episode_and_the_next_one_begins(case: Case) -> None:
    world = case.open()
    for seed in (3, 4):
        world.reset(seed)
        solver, steps, outcome = case.solver(seed), 0, Outcome.RUNNING
        while outcome is Outcome.RUNNING and steps < world.info.max_steps:
            world.aim(solver(world.observe())[None])
            outcome, steps = world.step(), steps + 1
        assert outcome is Outcome.SUCCESS
        for more in (world.step, lambda: world.aim(random_targets(world.info, 1))):
            with pytest.raises(FoundryError, match=f"of seed {seed} ended in success at step {steps}"):
                more()
        world.observe()  # the end can be looked at


@every_world
def test_factories_travel_and_refuse_what_they_have_not(case: Case) -> None:
    info = case.worlds.describe(case.task, case.variant)
    assert pickle.loads(pickle.dumps(case.worlds)).describe(case.task, case.variant) == info
    assert pickle.loads(pickle.dumps(info)) == info
    with pytest.raises(FoundryError, match=f"did you mean '{case.task}'"):
        case.worlds.describe(case.task + "x", case.variant)
    with pytest.raises(FoundryError, match=f"did you mean '{case.variant}'"):
        case.worlds.describe(case.task, case.variant + "x")
    with pytest.raises(FoundryError, match="no camera 'primari'"):
        case.open("primari")


class Lying:
    """A world that shows what it is given."""

    def __init__(self, **shown: Any) -> None:
        space = ActionSpace(["right.gripper_opening"])
        self.info = WorldInfo(
            "lying", "none", space, space, ("primary",), 10.0, 5, RandomMotion((0.0,), (1.0,))
        )
        self.shown = {"state": np.zeros(1), "images": {"primary": np.zeros((8, 8, 3), np.uint8)}, **shown}

    def reset(self, seed: int) -> Start:
        return Start("do", "do")

    def observe(self) -> Observation:
        return Observation(self.shown["images"], self.shown["state"])

    def picture(self, size: int) -> np.ndarray:
        return np.zeros((size, 2 * size, 3), np.uint8)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ({"state": np.zeros(2)}, r"the state is float64 \[2\], not float64 \[1\]: right.gripper_opening"),
        ({"state": np.zeros(1, np.float32)}, "the state is float32"),
        ({"images": {}}, "shows no camera 'primary'"),
        ({"images": {"primary": np.zeros((8, 8, 3))}}, "the image 'primary' is float64"),
        ({"images": {"primary": np.zeros((3, 8, 8), np.uint8)}}, r"is uint8 \[3, 8, 8\], not uint8"),
        (
            {"images": {name: np.zeros((8, 8, 3), np.uint8) for name in ("primary", "top")}},
            "shows the camera 'top', which nobody asked for",
        ),
    ],
)
def test_a_world_that_shows_the_wrong_thing_is_named(shown: dict[str, Any], said: str) -> None:
    world = GuardedWorld(Lying(**shown), ("primary",))  # type: ignore[arg-type]
    world.reset(0)
    with pytest.raises(FoundryError, match=f"'lying'.*{said}"):
        world.observe()
    with pytest.raises(FoundryError, match=r"the picture is uint8 \[16, 32, 3\]"):
        world.picture(16)


def test_impossible_descriptions_are_refused() -> None:
    info = Lying().info
    for change, said in (
        ({"control_hz": 0.0}, "above 0 Hz"),
        ({"control_hz": float("nan")}, "finite rate above 0 Hz"),
        ({"max_steps": 0}, "at least 1 step"),
        ({"random": RandomMotion((0.0, 0.0), (1.0, 1.0))}, "low <= high for each of its 1"),
        ({"random": RandomMotion((2.0,), (1.0,))}, "low <= high"),
        ({"random": RandomMotion((0.0,), (np.inf,))}, "finite"),
        ({"random": RandomMotion((0.0,), (1.0,), -0.1)}, "a speed of -0.1 m a step"),
    ):
        with pytest.raises(FoundryError, match=said):
            replace(info, **change)


def test_rollouts_and_collection_import_no_world_before_they_are_told_which() -> None:
    code = (
        "import sys, robot_foundry.evaluation.rollout, robot_foundry.evaluation.collection\n"
        "print([name for name in sys.modules if 'tabletop' in name or name.split('.')[0] == 'gymnasium'])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    for spec in (RolloutSpec(RANDOM, "reach", world="tabeltop"), RolloutSpec(RANDOM, "reach", world="")):
        with pytest.raises(FoundryError, match="no world is called"):
            rollout(spec, quiet=True)
