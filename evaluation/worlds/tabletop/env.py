"""The tabletop as a Gymnasium environment.

    world = Tabletop("reach_single", variant="sim", cameras=("primary",), size=64)
    observation, info = world.reset(seed=7)
    observation, reward, terminated, truncated, info = world.step(world.action_space.sample())

An observation is {"state": float64 (D,) over `state_space`, "images": {role: uint8 (H, W, 3)}}: the robot
and what its cameras see, never where the objects are. `info` has the instruction, the seed and the outcome.
The same task, variant and seed give the same episode; the scene depends on task and seed only, so that
variants can be compared scene by scene.
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np

from robot_foundry.evaluation.world import Outcome
from robot_foundry.evaluation.worlds.tabletop.commands import (
    canonical_state,
    command_names,
    command_size,
    decode_targets,
    state_space,
)
from robot_foundry.evaluation.worlds.tabletop.goals import Goal, get_task
from robot_foundry.evaluation.worlds.tabletop.language import instruction
from robot_foundry.evaluation.worlds.tabletop.objects import Scene
from robot_foundry.evaluation.worlds.tabletop.physics import (
    HOME_ROTATION_33,
    REACH_HIGH_3,
    REACH_LOW_3,
    Arm,
    Physics,
    Target,
    turn,
)
from robot_foundry.evaluation.worlds.tabletop.render import Renderer
from robot_foundry.evaluation.worlds.tabletop.variants import ROLES, get_variant
from robot_foundry.runtime.errors import FoundryError, UsageError, nearest
from robot_foundry.runtime.keyed import generator

CONTROL_HZ = 10
START_YAW = 0.5
START_TILT = 0.15
START_CLEARANCE = 0.10


def roles_for(arms: tuple[str, ...]) -> tuple[str, ...]:
    """The cameras there are: two fixed ones, and one on every wrist."""
    return tuple(
        role for role in ROLES if not role.startswith("wrist_") or role.removeprefix("wrist_") in arms
    )


class Tabletop(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One table with one task. `cameras=()` renders nothing; `size` is the image side in pixels."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_HZ}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        *,
        variant: str = "sim",
        cameras: tuple[str, ...] | None = None,
        size: int = 64,
        render_mode: str | None = None,
    ) -> None:
        self.task = get_task(task)
        self.variant = get_variant(variant)
        roles = roles_for(self.task.arms)
        self.cameras = roles if cameras is None else cameras
        for role in self.cameras:
            if role not in roles:
                raise UsageError(
                    f"task {task!r} has no camera {role!r}{nearest(role, roles)}",
                    hint=f"cameras: {', '.join(roles)}",
                )
        if not 16 <= size <= 1024:
            raise UsageError(f"image size must be 16 to 1024 pixels, got {size}")
        self.size = size
        self.render_mode = render_mode
        self.state_space = state_space(self.task.arms)
        self.command_names = command_names(self.task.arms, self.variant.rotates)
        self.action_space = self._commands()
        self.observation_space = self._observations()

    def _commands(self) -> gymnasium.spaces.Box:
        turns = [np.pi] * 3 if self.variant.rotates else []
        low = [*REACH_LOW_3, *(-t for t in turns), 0.0] * len(self.task.arms)
        high = [*REACH_HIGH_3, *turns, 1.0] * len(self.task.arms)
        assert len(low) == command_size(self.variant.rotates) * len(self.task.arms)
        return gymnasium.spaces.Box(np.array(low), np.array(high), dtype=np.float64)

    def _observations(self) -> gymnasium.spaces.Dict:
        shape = (self.size, self.size, 3)
        images: dict[str, gymnasium.Space[Any]] = {
            role: gymnasium.spaces.Box(0, 255, shape, np.uint8) for role in self.cameras
        }
        state = gymnasium.spaces.Box(-np.inf, np.inf, (len(self.state_space),), np.float64)
        return gymnasium.spaces.Dict({"state": state, "images": gymnasium.spaces.Dict(images)})

    # -- Gymnasium -----------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start the episode of `seed`, any non-negative integer; without one the next seed is drawn."""
        super().reset(seed=seed)
        self.begin(int(self.np_random.integers(2**63)) if seed is None else seed)
        return self.observe(), self._info(Outcome.RUNNING)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute one command (C,), columns as `command_names`, for a tenth of a second."""
        command_C = np.asarray(action, dtype=np.float64)
        if command_C.shape != self.action_space.shape or not np.isfinite(command_C).all():
            raise FoundryError(f"a command is {self.action_space.shape} finite numbers, got {command_C}")
        (targets,) = decode_targets(command_C[None], self.physics.arms, self.variant.rotates)
        outcome = self.advance(targets)
        over = outcome is not Outcome.RUNNING
        truncated = not over and self.time >= self.task.max_steps
        return self.observe(), float(outcome is Outcome.SUCCESS), over, truncated, self._info(outcome)

    def render(self) -> np.ndarray:
        return self.image("primary")

    # -- what collection and rollouts use, without images on every step ------------------------------

    def begin(self, seed: int) -> None:
        """Start the episode of `seed`; renders nothing."""
        self.seed = seed
        rng = generator("tabletop", self.task.name, self.seed)
        scene, self.goal = self.task.draw(rng)
        self.instruction = instruction(scene, self.goal, rng)
        self.physics = Physics(scene, self._start(scene, self.goal, rng))
        look_rng = generator("tabletop", "look", self.variant.name, self.seed)
        self._cameras, self._look = self.variant.drawn(look_rng)
        self._renderers: dict[int, Renderer] = {}
        self._past: deque[Physics] = deque(maxlen=self.variant.camera_latency + 1)
        self.time = 0
        self._remember()

    def advance(self, targets: tuple[Target, ...]) -> Outcome:
        """One step by targets instead of a command; renders nothing."""
        self.physics.step(targets)
        self.time += 1
        self._remember()
        return self.task.judge(self.physics, self.goal, False)

    def observe(self) -> dict[str, Any]:
        return {"state": self.state(), "images": {role: self.image(role) for role in self.cameras}}

    def state(self) -> np.ndarray:
        """The measured state of the robot, float64 over `state_space`."""
        return canonical_state(self.measured())

    def measured(self) -> list[Arm]:
        """The arms as the robot's own sensors see them: with noise, if the variant has any."""
        arms = [Arm(arm.name, arm.position_3, arm.rotation_33, arm.opening) for arm in self.physics.arms]
        if self.variant.state_noise > 0.0:
            rng = generator("tabletop", "state", self.seed, self.time)
            for arm in arms:
                arm.position_3 = arm.position_3 + rng.normal(0.0, self.variant.state_noise, 3)
        return arms

    def image(self, role: str) -> np.ndarray:
        """What the camera of `role` delivers now: uint8 (H, W, 3)."""
        image_HWC = self._renderer(self.size).image(role, self._past[0])
        if self.variant.image_noise > 0.0:
            rng = generator("tabletop", "image", role, self.seed, self.time)
            noise_HWC = rng.standard_normal(image_HWC.shape, dtype=np.float32) * self.variant.image_noise
            image_HWC = np.clip(image_HWC + noise_HWC, 0.0, 255.0).astype(np.uint8)
        return image_HWC

    def picture(self, size: int) -> np.ndarray:
        """The primary view as it is now, for people: without noise or latency, uint8 (size, size, 3)."""
        return self._renderer(size).image("primary", self.physics)

    def _renderer(self, size: int) -> Renderer:
        if size not in self._renderers:
            self._renderers[size] = Renderer(self._cameras, self._look, self.physics, size, size)
        return self._renderers[size]

    def _remember(self) -> None:
        # Without latency the camera looks at the live state; only a late camera needs copies of the past.
        late = self.variant.camera_latency > 0 and bool(self.cameras)
        self._past.append(deepcopy(self.physics) if late else self.physics)

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {"instruction": self.instruction, "seed": self.seed, "outcome": outcome.value}

    def _start(self, scene: Scene, goal: Goal, rng: np.random.Generator) -> list[Arm]:
        arms = []
        target = scene.solids[goal.target]
        for name in self.task.arms:
            low, high = (
                (-0.20, 0.20)
                if len(self.task.arms) == 1
                else {"right": (-0.25, -0.08), "left": (0.08, 0.25)}[name]
            )
            while True:
                x, y, z = rng.uniform((-0.20, low, 0.12), (0.20, high, 0.22))
                if (x - target.x) ** 2 + (y - target.y) ** 2 > START_CLEARANCE**2:
                    break
            yaw, tilt, toward = rng.uniform((-START_YAW, 0.0, -np.pi), (START_YAW, START_TILT, np.pi))
            opening = float(rng.uniform(0.0, 1.0))
            rotation_33 = HOME_ROTATION_33
            if self.variant.rotates:
                axis_3 = np.array([np.cos(toward), np.sin(toward), 0.0])
                rotation_33 = turn(axis_3, tilt) @ turn(np.array([0.0, 0.0, 1.0]), yaw) @ HOME_ROTATION_33
            arms.append(Arm(name, np.array([x, y, z]), rotation_33, opening))
        return arms
