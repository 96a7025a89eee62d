"""LIBERO's HDF5: robomimic's groups with attributes of its own, and images upside down as OpenGL gives them.

/data has `problem_info`, JSON with `language_instruction`, and `macros_image_convention`. `obs/ee_states` is
position and rotation vector, `obs/gripper_states` two finger positions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import h5py

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, Unit
from robot_foundry.ingest.sources.hdf5 import hdf5
from robot_foundry.ingest.sources.hdf5.layouts import LIBERO
from robot_foundry.ingest.sources.hdf5.robomimic import Robomimic

# Attributes of /data that LIBERO writes and robomimic does not.
ATTRIBUTES = ("problem_info", "bddl_file_name")
# Arrays that its scripts write. Copies made by replaying (such as those without idle frames) have these, no
# attributes, and the instruction in the name of the file.
ARRAYS = ("ee_states", "gripper_states", "joint_states", "agentview_rgb", "eye_in_hand_rgb")
NAME_END = "_demo.hdf5"
UPRIGHT = "opencv"
FLIPPED = ("vertical", "both")
# The rate and the controller of all of its environments: robosuite 1.4's default OSC_POSE
# (libero/envs/env_wrapper.py).
CONTROL_HZ = 20
POSE_LIMITS = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]
CONTROLLER = {
    "type": "OSC_POSE",
    "input_min": -1,
    "input_max": 1,
    "output_min": [-limit for limit in POSE_LIMITS],
    "output_max": POSE_LIMITS,
    "control_delta": True,
}


class Libero(Robomimic):
    """See `Layout`."""

    declared = LIBERO
    version = 3
    advice = "this is a file of LIBERO: use `foundry-data ingest libero`"

    def recognises(self, file: h5py.File, demos: Sequence[str], *, is_asked: bool) -> bool:
        """By its attributes; or by its arrays, which robomimic's reader could take as well.

        Without the attributes the instruction stands in the name of the file alone, which only this layout
        reads: so a file of such a name is none of robomimic's.
        """
        if demos and any(name in file["data"].attrs for name in ATTRIBUTES):
            return True
        has_arrays = bool(demos) and all(hdf5.holds(file, demos[0], f"obs/{name}") for name in ARRAYS)
        return has_arrays and (is_asked or str(file.filename).endswith(NAME_END))

    def attributes(self, unit: Unit, demo: h5py.Group, environment: Mapping[str, Any]) -> dict[str, Any]:
        """The demonstration's, with the instruction in `problem_info` and the one in the file's name."""
        stated = {"file_instruction": _instruction_of_name(unit.file.path)}
        problem = hdf5.json_attribute(environment, "problem_info")
        text = problem.get("language_instruction") if isinstance(problem, dict) else None
        if isinstance(text, list):
            # LIBERO's own scripts join it without spaces, which a text passes unharmed.
            text = "".join(map(str, text))
        if isinstance(text, str):
            stated["language_instruction"] = text.strip().strip('"')
        return {**stated, **super().attributes(unit, demo, environment)}

    def environment(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The file's attributes; one that has no `env_args` is of LIBERO's own controller and rate."""
        stated = super().environment(attributes)
        if "env_args" in stated:
            return stated
        return {
            **stated,
            "env_args": {"env_kwargs": {"controller_configs": CONTROLLER, "control_freq": CONTROL_HZ}},
            "assumed": ["env_args"],
        }

    def check_content(self, environment: Mapping[str, Any], content: Content) -> None:
        convention = environment.get("macros_image_convention")
        if convention == UPRIGHT and any(flip in FLIPPED for flip in content.flip.values()):
            raise Refused(
                "its images are upright (macros_image_convention is opencv), and content.flip would turn "
                "them upside down: --set content.flip=none"
            )


def _instruction_of_name(path: str) -> str:
    """`KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5` is "turn on the stove"."""
    name = PurePosixPath(path).stem.removesuffix("_demo")
    return re.sub(r"^[A-Z_]+SCENE\d+_", "", name).replace("_", " ")
