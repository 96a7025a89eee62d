"""Meta-World and MuJoCo, imported when the first episode begins, and models that are compiled once a process.

MuJoCo chooses how it renders when it is imported: by EGL, which needs no display, unless MUJOCO_GL says
otherwise.
"""

from __future__ import annotations

import copy
import os
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from robot_foundry.runtime.errors import FoundryError

VERSION = "-v3"
PACKAGES = ("metaworld", "mujoco")
COMPILED = 8  # models that a process keeps, 30 MB each and with what draws them 100 MB


def check_installed() -> None:
    """FoundryError with the command that installs Meta-World, where it is absent."""
    for package in PACKAGES:
        if find_spec(package) is None:
            raise FoundryError(
                f"the world 'metaworld' needs the package {package}, which is not installed",
                hint="pip install 'robot-foundry[metaworld]'",
            )


def versions() -> dict[str, str]:
    """Of the packages that decide how an episode goes; FoundryError where one is absent."""
    check_installed()
    return {package: version(package) for package in PACKAGES}


@lru_cache(maxsize=1)
def mujoco() -> Any:
    """The package `mujoco`."""
    check_installed()
    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco

    return mujoco


def make_env(task: str) -> Any:
    """A new environment of a task, whose goal the expert may see, and which draws its scene from its seed."""
    env = _env_class(task)()
    env._set_task_called = True
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    env._partially_observable = False
    env.__dict__.pop("sawyer_observation_space", None)  # it was made with the goal hidden
    env.max_path_length = 2**62  # how long an episode may take, its rollout decides
    return env


def make_expert(task: str) -> Any:
    """Meta-World's scripted policy of a task: `get_action` of an observation."""
    mujoco()
    from metaworld.policies import ENV_POLICY_MAP

    policy: Any = ENV_POLICY_MAP[task + VERSION]
    return policy()


@lru_cache(maxsize=COMPILED)
def compiled(path: str) -> Any:
    """The model of an XML file, as it is compiled; to be copied before anything in it is changed."""
    return mujoco().MjModel.from_xml_path(path)


@cache
def _env_class(task: str) -> Any:
    lib = mujoco()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    def initialize(self: Any) -> tuple[Any, Any]:
        # Compiling takes 0.2 to 2 s and a copy 10 ms, so a new environment for each episode is affordable.
        model = copy.copy(compiled(self.fullpath))
        return model, lib.MjData(model)

    original = ALL_V3_ENVIRONMENTS[task + VERSION]
    return type(original.__name__, (original,), {"_initialize_simulation": initialize})
