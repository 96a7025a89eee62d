"""Rotations and poses against SciPy and against their own laws."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from robot_foundry.normalization import pose
from robot_foundry.normalization import rotation as rot
from robot_foundry.runtime.errors import FoundryError

NUM_RANDOM = 100_000
NEAR_PI = (np.pi - 1e-3, np.pi - 1e-6, np.pi - 1e-9, np.pi - 1e-13, np.pi)
NEAR_IDENTITY = (0.0, 1e-300, 1e-13, 1e-9, 1e-6, 1e-3)
NEAR = (*NEAR_IDENTITY, *NEAR_PI)
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-6}


def random_rotations(seed, count=NUM_RANDOM):
    return Rotation.random(count, rng=np.random.default_rng(seed))


def rotations_at(angle, seed, count=1000):
    axis = np.random.default_rng(seed).normal(size=(count, 3))
    axis[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis, axis=1, keepdims=True))


def error(a, b):
    return np.abs(np.asarray(a, np.float64) - b).max()


def test_rot6d_is_the_first_column_then_the_second():
    quarter_turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    np.testing.assert_allclose(rot.matrix_to_rot6d(quarter_turn), [0, 1, 0, -1, 0, 0], atol=1e-15)
    numbered = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(rot.matrix_to_rot6d(numbered), [0, 3, 6, 1, 4, 7])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("near", [None, *NEAR_IDENTITY, *NEAR_PI])
def test_every_conversion_agrees_with_scipy(dtype, near):
    reference = random_rotations(1) if near is None else rotations_at(near, 2)
    matrix = reference.as_matrix()
    tolerance = TOLERANCE[dtype]

    converted = {
        "rot6d": rot.rot6d_to_matrix(rot.matrix_to_rot6d(matrix.astype(dtype))),
        "xyzw": rot.quaternion_to_matrix(reference.as_quat().astype(dtype)),
        "wxyz": rot.quaternion_to_matrix(reference.as_quat(scalar_first=True).astype(dtype), "wxyz"),
        "axis angle": rot.axis_angle_to_matrix(reference.as_rotvec().astype(dtype)),
        "to xyzw": Rotation.from_quat(rot.matrix_to_quaternion(matrix.astype(dtype))).as_matrix(),
        "to wxyz": Rotation.from_quat(
            rot.matrix_to_quaternion(matrix.astype(dtype), "wxyz"), scalar_first=True
        ).as_matrix(),
        "to axis angle": Rotation.from_rotvec(
            rot.matrix_to_axis_angle(matrix.astype(dtype)).astype(np.float64)
        ).as_matrix(),
    }
    for name, found in converted.items():
        assert error(found, matrix) <= tolerance, name
    for name in ("rot6d", "xyzw", "wxyz", "axis angle"):
        assert converted[name].dtype == dtype
    assert rot.matrix_to_quaternion(matrix.astype(dtype)).dtype == dtype
    assert rot.matrix_to_axis_angle(matrix.astype(dtype)).dtype == dtype


def test_quaternions_and_rotation_vectors_are_the_canonical_ones():
    reference = random_rotations(3)
    assert error(rot.matrix_to_quaternion(reference.as_matrix()), reference.as_quat(canonical=True)) < 1e-12
    assert error(rot.matrix_to_axis_angle(reference.as_matrix()), reference.as_rotvec()) < 1e-12
    half_turns = rot.matrix_to_quaternion(np.stack([np.diag([-1.0, -1, 1]), np.diag([1.0, -1, -1])]))
    np.testing.assert_array_equal(half_turns, [[0, 0, 1, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize("seq", ["xyz", "zyx", "XYZ", "ZYX", "xzy", "YXZ", "zxz", "XYX", "z", "Y", "xy"])
def test_euler_sequences_are_scipys(seq):
    rng = np.random.default_rng(4)
    signs = rng.choice([-1.0, 1.0], (len(NEAR), 1000, len(seq)))
    near = (np.array(NEAR)[:, None, None] * signs).reshape(-1, len(seq))  # about the identity and half turns
    angles = np.concatenate([rng.uniform(-np.pi, np.pi, (NUM_RANDOM, len(seq))), near])
    expected = Rotation.from_euler(seq, angles).as_matrix().reshape(-1, 3, 3)
    assert error(rot.euler_to_matrix(angles, seq), expected) < 1e-12
    assert error(rot.euler_to_matrix(angles.astype(np.float32), seq), expected) < 1e-6


@pytest.mark.parametrize(
    "seq", ["".join(axes) for base in ("xyz", "XYZ") for axes in product(base, repeat=3)]
)
def test_euler_angles_are_scipys_and_where_they_are_not_determined_the_rotation_is(seq):
    if seq[1] in (seq[0], seq[2]):
        with pytest.raises(FoundryError, match=f"'{seq}' is no Euler sequence that every rotation has"):
            rot.matrix_to_euler(np.eye(3), seq)
        return
    reference = random_rotations(6, 10_000)
    assert error(rot.matrix_to_euler(reference.as_matrix(), seq), reference.as_euler(seq)) < 1e-9
    rng = np.random.default_rng(7)
    angles = rng.uniform(-np.pi, np.pi, (1000, 3))
    locked = rng.choice([0, np.pi / 2, -np.pi / 2, np.pi], 1000)
    angles[:, 1] = locked + rng.choice([0, 1e-9, 1e-7, 1e-5], 1000)
    near = Rotation.from_euler(seq, angles).as_matrix()
    back = Rotation.from_euler(seq, rot.matrix_to_euler(near, seq)).as_matrix()
    assert error(back, near) < 1e-12
    single = rot.matrix_to_euler(near.astype(np.float32).astype(float), seq)
    assert error(Rotation.from_euler(seq, single).as_matrix(), near) < 1e-6


@pytest.mark.parametrize("batch", [(), (1,), (0,), (2, 3, 4), (5, 0, 2), (1, 1, 1, 7)])
@pytest.mark.parametrize(
    ("convert", "into", "out"),
    [
        (rot.rot6d_to_matrix, (6,), (3, 3)),
        (rot.quaternion_to_matrix, (4,), (3, 3)),
        (rot.axis_angle_to_matrix, (3,), (3, 3)),
        (lambda e: rot.euler_to_matrix(e, "xyz"), (3,), (3, 3)),
        (rot.matrix_to_rot6d, (3, 3), (6,)),
        (rot.matrix_to_quaternion, (3, 3), (4,)),
        (rot.matrix_to_axis_angle, (3, 3), (3,)),
        (lambda r: rot.matrix_to_euler(r, "zyx"), (3, 3), (3,)),
        (lambda r: pose.make(r[..., 0], r), (3, 3), (4, 4)),
    ],
)
def test_any_batch_shape(batch, convert, into, out):
    """A batch of any shape is its rows one by one."""
    values = np.random.default_rng(5).normal(size=(*batch, *into))
    if into == (3, 3):
        values = rot.rot6d_to_matrix(values.reshape(*batch, 9)[..., :6])
    found = convert(values)
    assert found.shape == (*batch, *out)
    rows = [convert(row) for row in values.reshape(-1, *into)]
    np.testing.assert_array_equal(found.reshape(-1, *out), np.array(rows).reshape(-1, *out))


component = st.floats(-1e30, 1e30) | st.sampled_from([0.0, 1.0, -1.0, 1e-13, 1e-30])


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, 6, elements=component))
def test_any_finite_rot6d_is_a_rotation(rot6d):
    for vectors in (rot6d, np.concatenate([rot6d[:3], 2 * rot6d[:3]]), rot6d.astype(np.float32)):
        matrix = rot.rot6d_to_matrix(vectors).astype(np.float64)
        tolerance = 1e-12 if vectors.dtype == np.float64 else 1e-6
        assert error(matrix @ matrix.T, np.eye(3)) < tolerance
        assert abs(np.linalg.det(matrix) - 1) < tolerance


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gram_schmidt_of_noise_is_a_rotation(dtype):
    noise = np.random.default_rng(11).normal(size=(NUM_RANDOM, 6)).astype(dtype)
    matrix = rot.rot6d_to_matrix(noise).astype(np.float64)
    assert error(matrix @ matrix.swapaxes(1, 2), np.eye(3)) <= TOLERANCE[dtype]
    assert error(np.linalg.det(matrix), 1.0) <= TOLERANCE[dtype]
    direction = noise[:, :3] / np.linalg.norm(noise[:, :3], axis=1, keepdims=True)
    assert error(matrix[:, :, 0], direction) <= TOLERANCE[dtype]


def test_degenerate_rot6d_falls_back_as_documented():
    np.testing.assert_array_equal(rot.rot6d_to_matrix(np.zeros(6)), np.eye(3))
    np.testing.assert_array_equal(rot.rot6d_to_matrix([0, 0, 0, 0, 1, 0]), np.eye(3))
    np.testing.assert_array_equal(rot.rot6d_to_matrix([3, 0, 0, -6, 0, 0]), np.eye(3))
    mixed = rot.rot6d_to_matrix(np.array([[np.nan, 0, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]]))
    assert np.isnan(mixed[0]).all()
    np.testing.assert_array_equal(mixed[1], np.eye(3))
    assert np.isnan(rot.quaternion_to_matrix(np.zeros(4))).all()


def test_wrong_names_and_shapes_are_named():
    with pytest.raises(FoundryError, match="xyzw or wxyz"):
        rot.quaternion_to_matrix(np.ones(4), "xyzv")
    with pytest.raises(FoundryError, match="'xYz'"):
        rot.euler_to_matrix(np.ones(3), "xYz")
    with pytest.raises(FoundryError, match=r"\(\.\.\., 6\)"):
        rot.rot6d_to_matrix(np.ones(9))
    with pytest.raises(FoundryError, match=r"\(\.\.\., 4, 4\)"):
        pose.compose(np.eye(3), np.eye(4))


def random_poses(seed, count=1000):
    position = np.random.default_rng(seed).normal(size=(count, 3))
    return pose.make(position, random_rotations(seed, count).as_matrix())


def test_pose_laws():
    a, b = random_poses(6), random_poses(7)
    assert error(pose.relative(a, b), np.linalg.inv(a) @ b) < 1e-12
    assert error(pose.compose(a, pose.relative(a, b)), b) < 1e-12
    assert error(pose.compose(pose.inverse(a), a), np.eye(4)) < 1e-12
    moved = random_poses(8, 1)
    assert error(pose.relative(pose.compose(moved, a), pose.compose(moved, b)), pose.relative(a, b)) < 1e-12
    narrow = pose.relative(a.astype(np.float32), b.astype(np.float32))
    assert narrow.dtype == np.float32
    assert error(narrow, pose.relative(a, b)) < 1e-6


def test_a_distant_base_costs_relative_poses_no_precision():
    a, b = random_poses(9), random_poses(10)
    far = pose.make([1e6, -1e6, 1e6], np.eye(3))
    found = pose.relative(pose.compose(far, a), pose.compose(far, b))
    assert error(found, pose.relative(a, b)) < 1e-9
