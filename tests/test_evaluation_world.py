"""The tabletop as an environment: its interface, its determinism, what it shows and what it hides."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from robot_foundry.evaluation.worlds.tabletop.env import Tabletop
from robot_foundry.evaluation.worlds.tabletop.goals import TASKS
from robot_foundry.evaluation.worlds.tabletop.variants import VARIANTS
from robot_foundry.runtime.errors import FoundryError

env_checker = pytest.importorskip("gymnasium.utils.env_checker")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", ["reach_single", "handover"])
def test_gymnasium_accepts_it(task: str, variant: str) -> None:
    with warnings.catch_warnings():
        # Advice to normalise spaces, which metres and radians are not.
        warnings.filterwarnings("ignore", message=r".*(Box|observation space)", category=UserWarning)
        world = Tabletop(task, variant=variant, size=16)
        env_checker.check_env(world, skip_render_check=True)
    observation, _ = world.reset(seed=0)
    assert world.observation_space.contains(observation)
    assert not world.observation_space.contains({})


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_episode(task: str, variant: str) -> None:
    worlds = [Tabletop(task, variant=variant, size=32) for _ in range(2)]
    worlds[1].reset(seed=99)  # what ran before must not matter
    worlds[1].step(worlds[1].action_space.low)
    seen = [world.reset(seed=7) for world in worlds]
    for step in range(4):
        (a, info_a), (b, info_b) = seen[0][:2], seen[1][:2]
        assert info_a == info_b
        np.testing.assert_array_equal(a["state"], b["state"])
        assert a["images"].keys() == b["images"].keys()
        for role, image in a["images"].items():
            np.testing.assert_array_equal(image, b["images"][role], err_msg=role)
        action = np.random.default_rng(step).uniform(worlds[0].action_space.low, worlds[0].action_space.high)
        stepped = [world.step(action) for world in worlds]
        assert stepped[0][1:4] == stepped[1][1:4]
        seen = [(result[0], result[4]) for result in stepped]


def test_another_seed_is_another_scene() -> None:
    world = Tabletop("reach_single", cameras=())
    places = set()
    for seed in range(200):
        world.reset(seed=seed)
        places.add(tuple(world.physics.centre_N3[0].round(6)))
    assert len(places) == 200


def test_reset_without_seed_goes_on_and_can_be_repeated() -> None:
    a, b = Tabletop("reach", cameras=()), Tabletop("reach", cameras=())
    a.reset(seed=1)
    b.reset(seed=1)
    following = [a.reset()[1]["seed"], a.reset()[1]["seed"]]
    assert following == [b.reset()[1]["seed"], b.reset()[1]["seed"]]
    assert len({1, *following}) == 3
    state = b.state()
    np.testing.assert_array_equal(a.reset(seed=following[1])[0]["state"], state)


def test_variants_share_the_scene_and_differ_in_look_and_arm() -> None:
    sim, real = (Tabletop("pick_place", variant=variant, size=32) for variant in ("sim", "real"))
    (_, told_sim), (_, told_real) = sim.reset(seed=3), real.reset(seed=3)
    assert told_sim["instruction"] == told_real["instruction"]
    assert sim.physics.scene == real.physics.scene
    difference = np.abs(sim.image("primary").astype(int) - real.image("primary")).mean()
    assert difference > 20
    assert (len(sim.command_names), len(real.command_names)) == (7, 4)
    assert not any(".r" in name.removeprefix("right") for name in real.command_names)


def test_the_observation_is_the_robot_and_pictures_alone() -> None:
    world = Tabletop("reach_pair", size=32)
    observation, info = world.reset(seed=0)
    assert set(observation) == {"state", "images"}
    assert set(info) == {"instruction", "seed", "outcome"}
    assert {name.split(".")[0] for name in world.state_space.names} == {"right"}
    before = world.state()
    world.physics.centre_N3 += 0.05  # moving the objects changes pictures, not the state
    np.testing.assert_array_equal(world.state(), before)
    assert (world.image("primary") != observation["images"]["primary"]).any()


def test_every_camera_role_shows_the_object_and_the_wrist_camera_moves_with_the_arm() -> None:
    world = Tabletop("handover", size=64)
    observation, _ = world.reset(seed=5)
    assert tuple(observation["images"]) == ("primary", "secondary", "wrist_right", "wrist_left")
    before = {role: image.copy() for role, image in observation["images"].items()}
    for arm in world.physics.arms:
        arm.position_3 = arm.position_3 + [0.05, 0.0, 0.0]
    assert all((world.image(role) != before[role]).any() for role in before)
    world.physics.centre_N3[:, :2] = world.physics.arms[0].position_3[:2]
    assert (world.image("wrist_right") != before["wrist_right"]).mean() > 0.1


def test_an_object_is_drawn_where_it_is() -> None:
    """The pinhole projection, computed here by hand, falls on pixels of the object's colour."""
    world = Tabletop("reach_single", size=96)
    camera = world.variant.cameras["primary"]
    eye, look = np.array(camera.eye), np.array(camera.look_at)
    forward = (look - eye) / np.linalg.norm(look - eye)
    right = np.cross(forward, camera.up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    hits = 0
    for seed in range(20):
        world.reset(seed=seed)
        world.physics.arms[0].position_3 = np.array([-0.3, 0.3, 0.4])
        offset = world.physics.centre_N3[0] - eye
        focal = 48 / np.tan(camera.fov / 2)
        column, row = (48 + focal * float(offset @ axis) / float(offset @ forward) for axis in (right, down))
        pixel = world.image("primary")[int(row), int(column)].astype(float)
        colour = np.array(world.variant.look.palette[world.physics.scene.solids[0].colour], float)
        cosine = pixel @ colour / np.linalg.norm(pixel) / np.linalg.norm(colour)
        hits += cosine > 0.98
    assert hits == 20


def test_a_late_camera_shows_the_past() -> None:
    world = Tabletop("reach_single", variant="real", size=48)
    world.reset(seed=2)
    first = world.image("primary").astype(int)
    command = np.array([*world.physics.arms[0].position_3, 1.0]) + [0.0, 0.0, -0.03, 0.0]
    command[1] *= -1
    images = [world.step(command)[0]["images"]["primary"].astype(int) for _ in range(3)]
    moved = [np.abs(image - first).mean() for image in images]
    noise = 2 * world.variant.image_noise
    assert moved[0] < noise  # one step late: the arm still stands where it was
    assert np.abs(images[2] - first).max() > 60


def test_ends_with_success_or_out_of_time() -> None:
    world = Tabletop("reach_single", cameras=())
    world.reset(seed=0)
    x, y, z = world.physics.touch_point(0)
    over = False
    for _ in range(world.task.max_steps):
        _, reward, over, truncated, info = world.step(np.array([x, y, z, np.pi, 0.0, 0.0, 0.0]))
        if over:
            break
    assert over and not truncated and reward == 1.0 and info["outcome"] == "success"
    world.reset(seed=0)
    still = world.action_space.high.copy()
    results = [world.step(still)[1:4] for _ in range(world.task.max_steps)]
    assert results[-1] == (0.0, False, True)
    assert not any(truncated for _, _, truncated in results[:-1])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": "reach_sinle"}, "did you mean 'reach_single'"),
        ({"task": "reach", "variant": "reel"}, "did you mean 'real'"),
        ({"task": "reach", "cameras": ("wrist_left",)}, "no camera 'wrist_left', did you mean 'wrist_right'"),
        ({"task": "reach", "size": 4}, "16 to 1024"),
    ],
)
def test_unknown_names_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(FoundryError, match=said):
        Tabletop(**settings)


def test_a_command_that_is_none_is_refused() -> None:
    world = Tabletop("reach", cameras=())
    world.reset(seed=0)
    for bad in (np.zeros(4), np.full(7, np.nan)):
        with pytest.raises(FoundryError, match="7"):
            world.step(bad)
