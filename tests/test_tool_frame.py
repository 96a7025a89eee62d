"""The same motion, told in two tool frames, is one and the same once the frames are declared. N = frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foundry_testing.mapped_rows import POSITION, rows_of, spec_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_foundry.catalog.robot.schema import Camera, Schema
from robot_foundry.ingest.robot.spec.spec_reader import spec_from_json
from robot_foundry.normalization import pose
from robot_foundry.normalization.representation import KINDS, encode
from robot_foundry.normalization.rotation import matrix_to_quaternion, matrix_to_rot6d
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.normalization.tool_frame import ToolFrame, tool_frame_warnings
from robot_foundry.runtime.errors import FoundryError, UsageError

ARM = ActionSpace(["right.ee_position", "right.ee_rot6d"])
# A hand whose fingers open along y, 103 mm in front of its flange, and one mounted backwards, tilted by 45°.
HANDS = (
    {"approach": [0, 0, 1], "lateral": [0, 1, 0], "position": [0, 0, 0.1034]},
    {"approach": [-1, 0, 1], "lateral": [0, -2, 0], "position": [0.02, -0.05, 0.2]},
)


def motion(seed: int, num_frames: int = 200) -> np.ndarray:
    """Poses of the canonical tool, (N, 4, 4): a random walk of millimetres and degrees."""
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(0, 0.05, (num_frames, 3)))
    walk = [Rotation.random(rng=rng)]
    for turn in turns[1:]:
        walk.append(walk[-1] * turn)
    position = np.cumsum(rng.normal(0, 0.005, (num_frames, 3)), axis=0)
    return pose.make(position, Rotation.concatenate(walk).as_matrix())


def rows(poses: np.ndarray) -> np.ndarray:
    return np.concatenate([pose.position(poses), matrix_to_rot6d(pose.rotation(poses))], axis=-1)


def chunks(tool: np.ndarray, representation: str) -> np.ndarray:
    """Chunks of 16 steps at every frame of an episode given as rows of ARM."""
    anchors = np.arange(len(tool) - 16)
    return encode(tool[anchors], tool[anchors[:, None] + np.arange(1, 17)], ARM, ARM, representation)


def as_seen_from(hand: dict[str, Any], tool: np.ndarray) -> np.ndarray:
    """What a robot that reports its flange, with this hand on it, says of the tool's motion."""
    return pose.compose(tool, pose.inverse(ToolFrame(**hand).pose))


directions = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@settings(max_examples=40, deadline=None)
@given(directions, directions, st.tuples(*[st.floats(-1, 1)] * 3), st.sampled_from(KINDS), st.integers(0, 99))
def test_one_motion_under_two_declared_frames_gives_equal_chunks(approach, other, position, kind, seed):
    lateral = np.cross(approach, other)
    if np.linalg.norm(lateral) < 1e-2:
        return
    tool = motion(seed, 40)
    hand = {"approach": approach, "lateral": tuple(lateral), "position": position}
    back = ToolFrame(**hand).canonical(as_seen_from(hand, tool))
    np.testing.assert_allclose(back, tool, atol=1e-12)
    np.testing.assert_allclose(chunks(rows(back), kind), chunks(rows(tool), kind), atol=1e-11)


def test_two_datasets_whose_specs_declare_their_frames_agree() -> None:
    tool = motion(3)
    found = []
    for hand in HANDS:
        flange = as_seen_from(hand, tool)
        arrays = {"p": pose.position(flange), "q": matrix_to_quaternion(pose.rotation(flange))}
        fields = {
            "right.ee_position": {"key": "p"},
            "right.ee_rotation": {"key": "q", "from": "quaternion", "order": "xyzw"},
        }
        spec = spec_of(fields, {"command": fields, "next_state": NEXT}, tool_frame=hand)
        canonical, schema = rows_of(spec, arrays)
        assert schema.tool_frame == "canonical" and schema.state_space() == ARM
        np.testing.assert_allclose(canonical.state_ND, rows(tool), atol=1e-6)
        np.testing.assert_array_equal(canonical.streams["command"], canonical.state_ND)
        np.testing.assert_array_equal(canonical.streams["next_state"][:-1], canonical.state_ND[1:])
        found.append(chunks(canonical.state_ND, "relative_tool"))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)

    undeclared = [chunks(rows(as_seen_from(hand, tool)), "relative_tool") for hand in HANDS]
    assert np.abs(undeclared[0] - undeclared[1]).max() > 0.05


NEXT = {"right.ee_position": {"from": "next_state"}, "right.ee_rotation": {"from": "next_state"}}


def test_two_arms_may_have_two_frames() -> None:
    tools = {"right": motion(6), "left": motion(7)}
    arrays, fields = {}, {}
    for (part, tool), hand in zip(tools.items(), HANDS, strict=True):
        flange = as_seen_from(hand, tool)
        arrays |= {f"{part}_p": pose.position(flange), f"{part}_R": pose.rotation(flange).reshape(-1, 9)}
        fields[f"{part}.ee_position"] = {"key": f"{part}_p"}
        fields[f"{part}.ee_rotation"] = {"key": f"{part}_R", "from": "matrix"}
    frames = dict(zip(tools, HANDS, strict=True))
    spec = spec_of(fields, {"command": fields}, tool_frame=frames)
    assert spec_from_json(spec.to_json(), "again") == spec
    canonical, schema = rows_of(spec, arrays)
    assert schema.tool_frame == "canonical"
    both = np.concatenate([rows(tool) for tool in tools.values()], axis=1)
    np.testing.assert_allclose(canonical.state_ND, both, atol=1e-6)
    np.testing.assert_array_equal(canonical.streams["command"], canonical.state_ND)
    for frame, message in (
        ({"right": HANDS[0]}, "tool_frame: has no frame of left, which has poses"),
        ({**frames, "torso": HANDS[0]}, "tool_frame: has a frame of torso, of which the state has no pose"),
        ({**frames, "left": {"lateral": [0, 0, 1]}}, "0 degrees apart, not 90"),
        ({**frames, "left": "canonical"}, "or these by part, got 'canonical'"),
        (
            {"right": HANDS[0], "lft": HANDS[1]},
            "has a frame of lft, .*no pose, did you mean 'left'",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            spec_of(fields, tool_frame=frame)


def test_displacements_are_of_the_sources_own_frame() -> None:
    """A command in base axes moves the flange; where the tool goes follows from the flange."""
    flange = as_seen_from(HANDS[1], motion(4, 30))
    rng = np.random.default_rng(5)
    moved_3, turned_3 = rng.normal(0, 0.01, (30, 3)), rng.normal(0, 0.1, (30, 3))
    arrays = {
        "p": pose.position(flange),
        "R": pose.rotation(flange).reshape(-1, 9),
        "a": np.concatenate([moved_3, turned_3], axis=1),
    }
    spec = spec_of(
        {"right.ee_position": {"key": "p"}, "right.ee_rotation": {"key": "R", "from": "matrix"}},
        {
            "command": {
                "right.ee_position": {"key": "a", "columns": [0, 3], "from": "delta"},
                "right.ee_rotation": {"key": "a", "columns": [3, 6], "from": "delta"},
            }
        },
        tool_frame=HANDS[1],
    )
    canonical, _ = rows_of(spec, arrays)
    target = pose.make(
        arrays["p"] + moved_3, Rotation.from_rotvec(turned_3).as_matrix() @ pose.rotation(flange)
    )
    expected = rows(target @ ToolFrame(**HANDS[1]).pose)
    np.testing.assert_allclose(canonical.streams["command"], expected, atol=1e-6)


def test_a_spec_with_a_frame_reads_back_and_its_mistakes_are_named() -> None:
    spec = spec_of(POSITION, tool_frame={"approach": [0, 0, 2]})
    again = spec_from_json(spec.to_json(), "again")
    assert again == spec and again.mapping.tool_frame == ToolFrame(approach=(0, 0, 2))
    for frame, message in (
        (
            {"approch": [0, 0, 1]},
            "mapping.tool_frame: expected a name, or some of approach, lateral, position",
        ),
        ({"approach": [0, 0]}, "approach of a tool frame needs three finite numbers"),
        ({"approach": 3}, "approach needs three numbers, got 3"),
        ({"lateral": [0, 1, 1]}, "45 degrees apart, not 90"),
        ({"approach": [0, 0, 0]}, "are directions, not zero"),
        ("Panda Hand", "'Panda Hand' is no name of a tool frame"),
        ({"position": [0, 0, 0.1]}, "its position turns with right.ee_rotation, which state lacks"),
    ):
        with pytest.raises(UsageError, match=message):
            spec_of(POSITION, tool_frame=frame)


def test_mixtures_warn_of_unknown_and_of_unlike_frames() -> None:
    assert tool_frame_warnings([("a", "unknown")]) == []
    assert tool_frame_warnings([("a", "canonical"), ("b", "canonical")]) == []
    assert "of b is unknown" in tool_frame_warnings([("a", "canonical"), ("b", "unknown")])[0]
    both = [("a", "unknown"), ("b", "unknown")]
    assert tool_frame_warnings(both, {"a": "panda, as robosuite", "b": "panda, as robosuite"}) == []
    assert "of a, b is unknown" in tool_frame_warnings(both, {"a": "panda", "b": "ur5"})[0]
    assert "of a, b is unknown" in tool_frame_warnings(both, {"a": "panda"})[0]
    assert tool_frame_warnings([("a", "unknown"), ("b", "flange")], {"a": "panda", "b": "panda"})
    (line,) = tool_frame_warnings([("a", "canonical"), ("b", "flange"), ("c", "flange")])
    assert line.endswith("unlike motions: flange (b), canonical (a)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embodiment": "Franka Panda"}, "'Franka Panda' is no name of an embodiment"),
        ({"tool_frame": "a b"}, "'a b' is no name of a tool frame"),
        ({"streams": {"Command": ()}}, "'Command' is no name of an action stream"),
        ({"streams": {"state": ()}}, "'state' is no name of an action stream"),
        ({"cameras": (Camera("Front", "Primary", 4, 4, "jpg"),)}, "'Primary' is no role .*mean 'primary'"),
    ],
)
def test_a_schema_keeps_to_the_naming_scheme(changes: dict[str, Any], message: str) -> None:
    values = {"state": dims_for("right.ee_position"), "streams": {}, **changes}
    with pytest.raises(FoundryError, match=message):
        Schema(**values)
