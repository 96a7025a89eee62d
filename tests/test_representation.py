"""Representations are inverted exactly and mean what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from robot_foundry.normalization import pose
from robot_foundry.normalization.representation import (
    KINDS,
    Representation,
    base_axes_note,
    decode,
    encode,
    references,
    represented,
)
from robot_foundry.normalization.rotation import matrix_to_rot6d, rot6d_to_matrix
from robot_foundry.normalization.space import ActionSpace, dims_for
from robot_foundry.runtime.errors import FoundryError

ARM = ("ee_position", "ee_rot6d", "gripper_opening")
TWO_ARMS = ActionSpace(
    [
        d
        for part in ("right", "left")
        for q in (*ARM, "joint_position")
        for d in dims_for(f"{part}.{q}", count=7)
    ]
)
ALL = [*KINDS, *(f"{kind}+relative_joints" for kind in KINDS)]


def smooth_episode(seed, num_steps=1000, space=TWO_ARMS):
    """Absolute targets (num_steps, D) of a random walk: centimetres and degrees a step."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(num_steps, len(space)))
    for part in dict.fromkeys(dim.part for dim in space):
        turns = Rotation.from_rotvec(rng.normal(0, 0.05, (num_steps, 3)))
        walk = [Rotation.random(rng=rng)]
        for turn in turns[1:]:
            walk.append(walk[-1] * turn)
        position = [space.index(f"{part}.ee_position.{c}") for c in "xyz"]
        rot6d = [space.index(f"{part}.ee_rot6d.{i}") for i in range(6)]
        values[:, position] = np.cumsum(rng.normal(0, 0.01, (num_steps, 3)), axis=0)
        values[:, rot6d] = matrix_to_rot6d(Rotation.concatenate(walk).as_matrix())
    return values


def poses_of(values, part="right", space=TWO_ARMS):
    position = [space.index(f"{part}.ee_position.{c}") for c in "xyz"]
    rot6d = [space.index(f"{part}.ee_rot6d.{i}") for i in range(6)]
    return pose.make(values[..., position], rot6d_to_matrix(values[..., rot6d]))


@pytest.mark.parametrize("representation", ALL)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_decode_undoes_encode_over_a_thousand_steps(representation, dtype, tolerance):
    episode = smooth_episode(0).astype(dtype)
    anchors = np.arange(0, 984)
    targets = episode[anchors[:, None] + np.arange(1, 17)]
    states = episode[anchors]
    actions = encode(states, targets, TWO_ARMS, TWO_ARMS, representation)
    assert actions.dtype == dtype
    back = decode(states, actions, TWO_ARMS, TWO_ARMS, representation)
    assert np.abs(back - targets).max() <= tolerance


@pytest.mark.parametrize("representation", ALL)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 1e-6)])
def test_a_whole_episode_seen_from_its_first_state_comes_back(representation, dtype, tolerance):
    """One chunk of a thousand steps. The rounding of one step of `delta` is made good by the next."""
    episode = smooth_episode(1).astype(dtype)
    actions = encode(episode[0], episode, TWO_ARMS, TWO_ARMS, representation)
    back = decode(episode[0], actions, TWO_ARMS, TWO_ARMS, representation)
    assert np.abs(back - episode).max() <= tolerance
    episode[3, 0] = np.nan
    lost = encode(episode[0], episode, TWO_ARMS, TWO_ARMS, representation)
    assert np.isfinite(lost[5:]).all() and np.isfinite(lost[:3]).all()


groups = st.lists(
    st.sampled_from([f"{part}.{q}" for part in ("right", "left") for q in (*ARM, "joint_position")]),
    unique=True,
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(groups, st.sampled_from(ALL), st.sampled_from([(), (3,), (2, 2)]), st.integers(0, 2**32))
def test_every_action_space_comes_back_to_robot_commands(quantities, representation, batch, seed):
    """Any part may have a position or a rotation alone, joints, a gripper, or all, in any order of dims."""
    space = ActionSpace(d for q in quantities for d in dims_for(q, count=7))
    rng = np.random.default_rng(seed)
    states = whole_rows(rng, batch)
    targets = space.gather(whole_rows(rng, (*batch, 5)), TWO_ARMS)
    actions = encode(states, targets, TWO_ARMS, space, representation)
    back = decode(states, actions, TWO_ARMS, space, representation)
    assert actions.shape == targets.shape
    np.testing.assert_allclose(back, targets, atol=1e-12)
    if not representation.startswith("absolute") and any("ee_position" in q for q in quantities):
        assert np.abs(actions - targets).max() > 1e-3


def whole_rows(rng, batch):
    values = rng.normal(size=(*batch, len(TWO_ARMS)))
    for part in ("right", "left"):
        rot6d = [TWO_ARMS.index(f"{part}.ee_rot6d.{i}") for i in range(6)]
        values[..., rot6d] = matrix_to_rot6d(rot6d_to_matrix(values[..., rot6d]))
    return values


def test_relative_tool_is_the_inverse_state_times_the_target():
    episode = smooth_episode(2, 20)
    actions = encode(episode[3], episode[4:], TWO_ARMS, TWO_ARMS, "relative_tool")
    for part in ("right", "left"):
        expected = np.linalg.inv(poses_of(episode, part)[3]) @ poses_of(episode, part)[4:]
        np.testing.assert_allclose(poses_of(actions, part), expected, atol=1e-12)


def test_relative_base_turns_and_moves_about_the_base_axes():
    episode = smooth_episode(3, 20)
    actions = encode(episode[3], episode[4:], TWO_ARMS, TWO_ARMS, "relative_base")
    state, targets, found = poses_of(episode)[3], poses_of(episode)[4:], poses_of(actions)
    np.testing.assert_allclose(
        pose.position(found), pose.position(targets) - pose.position(state), atol=1e-12
    )
    np.testing.assert_allclose(
        pose.rotation(found) @ pose.rotation(state), pose.rotation(targets), atol=1e-12
    )


def test_delta_is_the_step_from_the_target_before():
    episode = smooth_episode(4, 20)
    actions = encode(episode[3], episode[4:], TWO_ARMS, TWO_ARMS, "delta+relative_joints")
    expected = pose.relative(poses_of(episode)[3:-1], poses_of(episode)[4:])
    np.testing.assert_allclose(poses_of(actions), expected, atol=1e-12)
    joint = TWO_ARMS.index("left.joint_position.3")
    np.testing.assert_allclose(actions[:, joint], np.diff(episode[3:, joint]), atol=1e-12)


def test_joints_and_gripper_stay_absolute_unless_asked():
    episode = smooth_episode(5, 20)
    joints = [i for i, dim in enumerate(TWO_ARMS) if dim.kind == "joint"]
    grippers = [i for i, dim in enumerate(TWO_ARMS) if dim.kind == "gripper"]
    for kind in KINDS:
        plain = encode(episode[0], episode[1:], TWO_ARMS, TWO_ARMS, kind)
        np.testing.assert_array_equal(plain[:, joints + grippers], episode[1:, joints + grippers])
        asked = encode(
            episode[0], episode[1:], TWO_ARMS, TWO_ARMS, Representation(kind, relative_joints=True)
        )
        np.testing.assert_array_equal(asked[:, grippers], episode[1:, grippers])
        if kind != "delta":
            np.testing.assert_array_equal(asked[:, joints], episode[1:, joints] - episode[0, joints])


def moved_base(values, base_44):
    """The same motion recorded from another base frame."""
    moved = values.copy()
    for part in ("right", "left"):
        seen = pose.compose(base_44, poses_of(values, part))
        moved[:, [TWO_ARMS.index(f"{part}.ee_position.{c}") for c in "xyz"]] = pose.position(seen)
        rot6d = matrix_to_rot6d(pose.rotation(seen))
        moved[:, [TWO_ARMS.index(f"{part}.ee_rot6d.{i}") for i in range(6)]] = rot6d
    return moved


def test_moving_the_base_frame_leaves_relative_tool_unchanged():
    episode = smooth_episode(6)
    base = pose.make([0.56, -2.0, 0.912], Rotation.from_euler("xyz", [0.3, -1.2, 2.5]).as_matrix())
    moved = moved_base(episode, base)
    anchors = np.arange(0, 984)
    windows = anchors[:, None] + np.arange(1, 17)
    for kind, tolerance in (("relative_tool", 1e-12), ("delta", 1e-12)):
        here = encode(episode[anchors], episode[windows], TWO_ARMS, TWO_ARMS, kind)
        there = encode(moved[anchors], moved[windows], TWO_ARMS, TWO_ARMS, kind)
        np.testing.assert_allclose(there, here, atol=tolerance)
    here = encode(episode[anchors], episode[windows], TWO_ARMS, TWO_ARMS, "relative_base")
    there = encode(moved[anchors], moved[windows], TWO_ARMS, TWO_ARMS, "relative_base")
    assert np.abs(there - here).max() > 0.1


def test_noise_decodes_to_valid_poses_and_zeros_are_harmless():
    noise = np.random.default_rng(7).normal(size=(8, 16, len(TWO_ARMS)))
    state = smooth_episode(8, 8)
    rotations = pose.rotation(poses_of(decode(state, noise, TWO_ARMS, TWO_ARMS, "relative_tool")))
    np.testing.assert_allclose(
        rotations @ np.swapaxes(rotations, -1, -2), np.eye(3) + 0 * rotations, atol=1e-12
    )
    nothing = np.zeros_like(noise)
    for kind in KINDS:
        assert np.isfinite(encode(nothing[:, 0], nothing, TWO_ARMS, TWO_ARMS, kind)).all()
        assert np.isfinite(decode(nothing[:, 0], nothing, TWO_ARMS, TWO_ARMS, kind)).all()


def test_parts_that_a_space_lacks_are_left_alone():
    joints_only = ActionSpace(
        [*dims_for("right.joint_position", count=7), *dims_for("right.gripper_opening")]
    )
    targets = np.random.default_rng(9).normal(size=(4, 16, 8))
    for kind in KINDS:
        np.testing.assert_array_equal(encode(targets[:, 0], targets, joints_only, joints_only, kind), targets)
    one_arm = ActionSpace(d for q in ARM for d in dims_for(f"left.{q}"))
    episode = smooth_episode(10, 20)
    part = one_arm.gather(episode, TWO_ARMS)
    found = encode(episode[0], part[1:], TWO_ARMS, one_arm, "relative_tool")
    whole = encode(episode[0], episode[1:], TWO_ARMS, TWO_ARMS, "relative_tool")
    np.testing.assert_array_equal(found, one_arm.gather(whole, TWO_ARMS))


@pytest.mark.parametrize("kind", ["relative_tool", "delta", "relative_base"])
def test_position_only_actions_keep_the_orientation_of_the_state(kind):
    position_only = ActionSpace(["right.ee_position"])
    episode = smooth_episode(11, 20)
    targets = position_only.gather(episode[1:], TWO_ARMS)
    actions = encode(episode[0], targets, TWO_ARMS, position_only, kind)
    back = decode(episode[0], actions, TWO_ARMS, position_only, kind)
    np.testing.assert_allclose(back, targets, atol=1e-12)
    first = pose.rotation(poses_of(episode))[0]
    moved = targets[0] - episode[0, :3]
    expected = moved if kind == "relative_base" else first.T @ moved
    np.testing.assert_allclose(actions[0], expected, atol=1e-12)


@pytest.mark.parametrize("joints", ["", "+relative_joints"])
def test_a_part_that_has_no_rotation_at_all_is_relative_along_the_axes_of_the_base(joints):
    """By default; what is asked for by another name is refused where the part cannot have it."""
    quantities = ["right.ee_position", *dims_for("right.joint_position", count=3), "left.ee_position"]
    space = ActionSpace([*quantities, "left.ee_rot6d"])
    whole = space.gather(smooth_episode(13, 20), TWO_ARMS)
    found = encode(whole[0], whole[1:], space, space, f"relative_tool{joints}")
    at_right, at_left = (
        [space.index(name) for name in space.names if name.startswith(f"{part}.ee")]
        for part in ("right", "left")
    )
    np.testing.assert_allclose(found[:, at_right], whole[1:, at_right] - whole[0, at_right], atol=1e-12)
    beside = encode(
        smooth_episode(13, 20)[0], smooth_episode(13, 20)[1:], TWO_ARMS, TWO_ARMS, "relative_tool"
    )
    at_whole = [TWO_ARMS.index(space.names[i]) for i in at_left]
    np.testing.assert_array_equal(found[:, at_left], beside[:, at_whole])
    back = decode(whole[0], found, space, space, f"relative_tool{joints}")
    np.testing.assert_allclose(back, whole[1:], atol=1e-12)
    marked = represented(space, f"relative_tool{joints}", space)
    assert {dim.representation for dim in marked if dim.name.startswith("right.ee")} == {"relative_base"}
    assert {dim.representation for dim in marked if dim.name.startswith("left.ee")} == {"relative_tool"}
    assert set(references(space, space, "relative_tool")) == {space.names[i] for i in (*at_right, *at_left)}
    assert base_axes_note("lift", space, space, "relative_tool") == [
        "lift has no rotation of right: relative_tool is relative_base there"
    ]
    assert base_axes_note("lift", TWO_ARMS, TWO_ARMS, "relative_tool") == []
    with pytest.raises(FoundryError, match="right.ee_rot6d"):
        encode(whole[0], whole[1:], space, space, f"delta{joints}")


@pytest.mark.parametrize("representation", ALL)
def test_references_are_all_that_is_read_of_the_state(representation):
    """What is not a reference may be anything, and each one that is changes what comes back."""
    state, *episode = smooth_episode(12, 6)
    episode = np.array(episode)
    for quantities in (["right.ee_position"], ["right.ee_rot6d"], ["left.ee_position", "left.ee_rot6d"]):
        space = ActionSpace([*quantities, *dims_for("right.joint_position", count=7)])
        actions = encode(state, space.gather(episode, TWO_ARMS), TWO_ARMS, space, representation)
        needed = references(TWO_ARMS, space, representation)
        is_needed = np.array([name in needed for name in TWO_ARMS.names])
        assert is_needed.sum() == len(needed)
        back = decode(np.where(is_needed, state, np.nan), actions, TWO_ARMS, space, representation)
        np.testing.assert_allclose(back, space.gather(episode, TWO_ARMS), atol=1e-12)
        for i in np.flatnonzero(is_needed):
            lost = np.where(np.arange(len(state)) == i, np.nan, state)
            assert np.isnan(decode(lost, actions, TWO_ARMS, space, representation)).any()


def test_a_missing_reference_is_named():
    action, gripper = (
        ActionSpace(["right.ee_position", "right.ee_rot6d"]),
        ActionSpace(["right.gripper_opening"]),
    )
    with pytest.raises(FoundryError, match="right.ee_position"):
        encode(np.zeros(1), np.zeros((2, 9)), gripper, action, "relative_tool")
    joints = ActionSpace(dims_for("right.joint_position", count=2))
    with pytest.raises(FoundryError, match="right.joint_position.0"):
        encode(np.zeros(1), np.zeros((2, 2)), gripper, joints, "absolute+relative_joints")
    with pytest.raises(FoundryError, match="right.ee_position.z"):
        flat = ActionSpace(["right.ee_position.x", "right.ee_position.y"])
        encode(np.zeros(2), np.zeros((2, 2)), flat, flat, "relative_base")
    with pytest.raises(FoundryError, match="did you mean 'relative_tool'"):
        Representation.parse("relativ_tool")


@pytest.mark.parametrize("text", ALL)
def test_represented_marks_each_dimension(text):
    wanted = Representation.parse(text)
    assert str(wanted) == text
    space = represented(TWO_ARMS, text)
    assert space.names == TWO_ARMS.names
    marked = {dim.quantity: dim.representation for dim in space}
    assert marked["ee_position"] == marked["ee_rot6d"] == wanted.poses
    assert marked["gripper_opening"] == "absolute"
    assert (marked["joint_position"] == "absolute") is not wanted.relative_joints
