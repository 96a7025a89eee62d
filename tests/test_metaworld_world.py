"""Meta-World by the contract of worlds: seeds, absolute targets, what is shown and what is not."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.evaluation.guard import open_world
from robot_foundry.evaluation.world import Observation, Outcome, World
from robot_foundry.evaluation.worlds.metaworld import packages
from robot_foundry.evaluation.worlds.metaworld.sawyer import STEP, Sawyer
from robot_foundry.evaluation.worlds.metaworld.tasks import INSTRUCTIONS, MARKED, THINGS
from robot_foundry.evaluation.worlds.metaworld.views import CAMERAS, View, get_look
from robot_foundry.evaluation.worlds.metaworld.world import MetaWorlds
from robot_foundry.runtime.errors import FoundryError

pytestmark = pytest.mark.skipif(find_spec("metaworld") is None, reason="needs the extra metaworld")
WORLDS = MetaWorlds()


def opened(task: str, *cameras: str, variant: str = "sim") -> World:
    return open_world(WORLDS, task, variant, cameras=cameras, size=32)


def assert_equal(a: Observation, b: Observation) -> None:
    np.testing.assert_array_equal(a.state_D, b.state_D)
    for role, image in a.images.items():
        np.testing.assert_array_equal(image, b.images[role], err_msg=role)


def towards(world: World, count: int) -> np.ndarray:
    """Random targets (count, 4), a step or so apart."""
    rng, here = np.random.default_rng(3), world.observe().state_D
    ways = rng.uniform(-1.5 * STEP, 1.5 * STEP, (count, 3)).cumsum(0)
    return np.column_stack([here[:3] + ways, rng.uniform(0, 1, count)])


def test_the_tasks_are_those_of_metaworld_and_no_two_are_said_alike() -> None:
    packages.mujoco()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert {f"{task}-v3" for task in INSTRUCTIONS} == set(ALL_V3_ENVIRONMENTS)
    assert len(set(INSTRUCTIONS.values())) == len(INSTRUCTIONS) == 50
    assert set(MARKED) <= set(THINGS) <= set(INSTRUCTIONS)


@pytest.mark.parametrize("task", ["reach", "drawer-close"])
def test_the_same_seed_and_targets_give_the_same_episode_whatever_ran_before(task: str) -> None:
    roles = WORLDS.describe(task, "sim").cameras
    fresh, used, other = opened(task, *roles), opened(task, *roles), opened("reach", "primary")
    used.reset(99)
    used.aim(towards(used, 8))
    for _ in range(8):
        used.step()
    assert fresh.reset(2**63 - 1) == used.reset(2**63 - 1)
    other.reset(1)  # open at the same time, and drawn by the same context
    alone = other.observe()
    targets = towards(fresh, 5)
    fresh.aim(targets)
    for target in targets:
        assert_equal(fresh.observe(), used.observe())
        assert_equal(other.observe(), alone)
        used.aim(target[None])
        assert fresh.step() is used.step()
    assert_equal(fresh.observe(), used.observe())


def test_scenes_differ_by_seed_in_the_pictures_and_not_in_the_state() -> None:
    world = opened("reach", "primary")
    seen = []
    for seed in range(4):
        world.reset(seed)
        seen.append(world.observe())
    assert len({observation.state_D.tobytes() for observation in seen}) == 1
    assert len({observation.images["primary"].tobytes() for observation in seen}) == 4


@settings(max_examples=25)
@given(st.lists(st.floats(-0.03, 0.03), min_size=3, max_size=3), st.floats(0.0, 1.0))
def test_a_target_is_where_the_mocap_body_goes_a_centimetre_a_step(way: list[float], opening: float) -> None:
    sawyer = begun()
    before = sawyer.target_3
    sawyer.advance(np.array([*(before + way), opening]))
    reached = np.clip(before + np.clip(way, -STEP, STEP), *BOUNDS)
    np.testing.assert_allclose(sawyer.target_3, reached, atol=1e-12)
    action = np.array([*(np.array(way) / STEP), 1.0 - 2.0 * opening])
    again = begun()
    target = again.target_of(action)
    np.testing.assert_allclose(target, [*reached, opening], atol=1e-12)


BOUNDS = np.array([(-0.5, 0.4, 0.05), (0.5, 1.0, 0.5)])  # of Meta-World's reach
_begun: list[Sawyer] = []


def begun() -> Sawyer:
    if not _begun:
        _begun.append(Sawyer("reach", False))
    _begun[0].begin(0)
    return _begun[0]


def test_the_gripper_opens_and_closes_as_it_is_told() -> None:
    world = opened("reach")
    world.reset(0)
    measured = []
    for opening in (0.0, 1.0):
        here = world.observe().state_D
        world.aim(np.tile([*here[:3], opening], (20, 1)))
        for _ in range(20):
            world.step()
        measured.append(world.observe().state_D[3])
    assert measured[0] < 0.5 < 0.9 < measured[1] <= 1.0


def test_the_goal_is_reached_by_going_there_and_longer_than_metaworld_allows() -> None:
    sawyer = Sawyer("reach", False)
    sawyer.begin(5)
    goal = sawyer.goal_3 + sawyer.hand_3 - sawyer.tip_3
    world = opened("reach")
    world.reset(5)
    start = world.observe().state_D
    world.aim(np.tile(start, (510, 1)))
    assert {world.step() for _ in range(510)} == {Outcome.RUNNING}
    world.aim(np.tile([*goal, 1.0], (60, 1)))
    outcomes = iter(world.step, Outcome.SUCCESS)
    assert sum(1 for _ in outcomes) < 59


def test_views_are_keys_of_the_variant() -> None:
    look = get_look("sim+primary=corner3@45+secondary=topview+wrist_right=off")
    assert dict(look.views) == {"primary": View("corner3", 45.0), "secondary": View("topview")}
    assert WORLDS.describe("reach", "sim+wrist_right=off").cameras == ("primary",)
    assert get_look("shadows").shadows and not look.shadows
    seen = set()
    for variant in ("sim", "shadows", "sim+primary=corner@30", "sim+primary=corner3"):
        world = opened("reach", "primary", variant=variant)
        world.reset(0)
        seen.add(world.observe().images["primary"].tobytes())
    assert len(seen) == 4


def test_every_camera_is_in_the_model() -> None:
    model = packages.compiled(packages.make_env("reach").fullpath)
    assert {model.camera(number).name for number in range(model.ncam)} == set(CAMERAS)


@pytest.mark.parametrize(
    ("task", "variant", "said"),
    [
        ("reech", "sim", "Meta-World has no task 'reech', did you mean 'reach'"),
        ("reach-v3", "sim", "did you mean 'reach'"),
        ("reach", "simm", "no variant 'simm', did you mean 'sim'"),
        ("reach", "sim+primari=corner", "no camera role 'primari', did you mean 'primary'"),
        ("reach", "sim+primary=korner", "no camera 'korner', did you mean 'corner'"),
        ("reach", "sim+primary=corner@500", "a field of view is 1 to 150 degrees"),
        ("reach", "sim+primary", "changed by role=camera"),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest_name(task: str, variant: str, said: str) -> None:
    with pytest.raises(FoundryError, match=said.replace("(", r"\(")):
        WORLDS.describe(task, variant)


def test_a_camera_or_size_that_there_is_not_is_refused() -> None:
    with pytest.raises(FoundryError, match="no camera 'primari'"):
        opened("reach", "primari")
    with pytest.raises(FoundryError, match="16 to 1024 pixels"):
        WORLDS.build("reach", "sim", (), 8)


def test_factories_travel() -> None:
    info = WORLDS.describe("push", "sim")
    assert pickle.loads(pickle.dumps(WORLDS)).describe("push", "sim") == info
    assert (info.control_hz, info.embodiment) == (80.0, "sawyer")
    assert packages.make_env("push").dt == pytest.approx(1.0 / info.control_hz)


def test_its_absence_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(FoundryError, match="needs the package metaworld") as refused:
        WORLDS.describe("reach", "sim")
    assert refused.value.hint == "pip install 'robot-foundry[metaworld]'"


@pytest.mark.soak
@pytest.mark.parametrize("task", INSTRUCTIONS)
def test_every_task_begins_and_is_drawn_the_same_again(task: str) -> None:
    shown = []
    for _ in range(2):
        world = opened(task, "primary")
        world.reset(7)
        world.aim(towards(world, 20))
        for _ in range(20):
            world.step()
        shown.append(world.observe())
    assert_equal(*shown)


def test_it_renders_where_mujoco_was_imported_before() -> None:
    """MuJoCo has chosen by then, and without MUJOCO_GL it takes what needs a display."""
    code = (
        "import mujoco\n"
        "from robot_foundry.evaluation.worlds.metaworld.sawyer import Sawyer\n"
        "from robot_foundry.evaluation.worlds.metaworld.views import View\n"
        "sawyer = Sawyer('reach', False)\n"
        "sawyer.begin(0)\n"
        "assert sawyer.image(View('corner'), 32).std() > 1\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MUJOCO", "PYOPENGL"))
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
