"""Rotation conversions, vectorised over any batch shape.

All functions take array-likes with the components on the last axes and keep the floating dtype they are
given (float32 in, float32 out; anything that is not floating becomes float64). They compute in float64.

Conventions:
    R         (..., 3, 3), columns are the axes of the rotated frame: v_outer = R @ v_inner.
    rot6d     (..., 6), the first two COLUMNS of R: [c0x c0y c0z c1x c1y c1z] (Zhou et al. 2019,
              "On the Continuity of Rotation Representations in Neural Networks").
    quaternion order is always named, "xyzw" or "wxyz".
    Euler sequences are SciPy's: lower case ("xyz") is extrinsic, upper case ("XYZ") is intrinsic.
    axis_angle is the rotation vector, axis * angle in radians.
NaN in gives NaN out, for that rotation only; nothing raises on values.

Products are written out elementwise: matmul and einsum round differently from one CPU to the next.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_foundry.runtime.errors import FoundryError, nearest

Array = NDArray[Any]

QUATERNION_ORDERS = ("xyzw", "wxyz")
# Below this sine of the angle between the two vectors of a rot6d, float32 rounding alone decides their plane.
_COLLINEAR = 1e-6
_ZERO = 1e-12


def multiply(a: Array, b: Array) -> Array:
    """a @ b of (..., 3, 3) matrices."""
    columns = [a[..., :, k, None] * b[..., k, None, :] for k in range(3)]
    return columns[0] + columns[1] + columns[2]


def apply(matrix: Array, vector: Array) -> Array:
    """matrix @ vector of (..., 3, 3) and (..., 3)."""
    columns = [matrix[..., :, k] * vector[..., k, None] for k in range(3)]
    return columns[0] + columns[1] + columns[2]


def matrix_to_rot6d(matrix: ArrayLike) -> Array:
    """(..., 3, 3) -> (..., 6), the first column, then the second: Rz(90 deg) -> [0, 1, 0, -1, 0, 0]."""
    matrix_33, dtype = _to_float64(matrix, (3, 3))
    columns_23 = np.swapaxes(matrix_33[..., :, :2], -1, -2)
    return columns_23.reshape(*matrix_33.shape[:-2], 6).astype(dtype, copy=False)


def rot6d_to_matrix(rot6d: ArrayLike) -> Array:
    """(..., 6) -> (..., 3, 3) by Gram-Schmidt: the first vector keeps its direction, the second its plane.

    Every finite input gives a rotation, so that no output of a network can stop a robot loop. Where the
    input does not determine one, the choice is fixed: a zero first vector, or a second one that is zero or
    parallel to the first, is replaced by the coordinate axis most perpendicular to the other vector (the
    first such axis), made orthogonal to it. All zeros give the identity.
    """
    vectors_6, dtype = _to_float64(rot6d, (6,))
    first_3, second_3 = _unit_scale(vectors_6[..., :3]), _unit_scale(vectors_6[..., 3:])
    lost = _norm(first_3) == 0
    if np.any(lost):
        first_3 = np.where(lost[..., None], _perpendicular(second_3), first_3)
    first_3 = first_3 / _norm(first_3)[..., None]
    rejected_3 = second_3 - _dot(first_3, second_3)[..., None] * first_3
    lost = _norm(rejected_3) <= _COLLINEAR * _norm(second_3)
    if np.any(lost):
        rejected_3 = np.where(lost[..., None], _perpendicular(first_3), rejected_3)
    second_3 = rejected_3 / _norm(rejected_3)[..., None]
    # A second pass restores the orthogonality that nearly parallel vectors lose to cancellation.
    second_3 = second_3 - _dot(first_3, second_3)[..., None] * first_3
    second_3 = second_3 / _norm(second_3)[..., None]
    third_3 = _cross(first_3, second_3)
    return np.stack([first_3, second_3, third_3], axis=-1).astype(dtype, copy=False)


def quaternion_to_matrix(quaternion: ArrayLike, order: str = "xyzw") -> Array:
    """(..., 4) quaternions of any length but zero -> (..., 3, 3). Zero gives NaN, not a guess."""
    quaternion_4, dtype = _to_float64(quaternion, (4,))
    x, y, z, w = np.moveaxis(_reorder(quaternion_4, order, to_xyzw=True), -1, 0)
    norm_squared = x * x + y * y + z * z + w * w
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.where(norm_squared > 0, 2.0 / norm_squared, np.nan)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return _stack_rows(rows).astype(dtype, copy=False)


def matrix_to_quaternion(matrix: ArrayLike, order: str = "xyzw") -> Array:
    """(..., 3, 3) -> (..., 4) unit quaternions whose first non-zero of w, x, y, z is positive.

    Shepperd 1978, "Quaternion from Rotation Matrix": the largest component is found first and divides the
    others, which keeps full precision at every angle.
    """
    matrix_33, dtype = _to_float64(matrix, (3, 3))
    m = np.moveaxis(matrix_33, (-2, -1), (0, 1))
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    # Row i holds 4 * q_i * (x, y, z, w): each is the quaternion up to a positive or negative factor.
    skew = (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1])
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    rows = (
        (1 + 2 * m[0, 0] - trace, xy, xz, skew[0]),
        (xy, 1 + 2 * m[1, 1] - trace, yz, skew[1]),
        (xz, yz, 1 + 2 * m[2, 2] - trace, skew[2]),
        (*skew, 1 + trace),
    )
    candidates_44 = _stack_rows(rows)
    largest = np.argmax(np.diagonal(candidates_44, axis1=-2, axis2=-1), axis=-1)
    quaternion_4 = np.take_along_axis(candidates_44, largest[..., None, None], axis=-2)[..., 0, :]
    quaternion_4 = quaternion_4 / _norm(quaternion_4)[..., None]
    return _reorder(_canonical_sign(quaternion_4), order, to_xyzw=False).astype(dtype, copy=False)


def euler_to_matrix(euler: ArrayLike, seq: str) -> Array:
    """(..., len(seq)) angles in radians -> (..., 3, 3). `seq` as in SciPy: "xyz" extrinsic, "XYZ" intrinsic.

    One to three axes. Extrinsic angles turn about the fixed axes in the order given, intrinsic ones about
    the moving axes.
    """
    if not (1 <= len(seq) <= 3 and (set(seq) <= set("xyz") or set(seq) <= set("XYZ"))):
        raise FoundryError(
            f"'{seq}' is no Euler sequence: one to three of x, y, z (extrinsic) or of X, Y, Z (intrinsic)"
        )
    euler_n, dtype = _to_float64(euler, (len(seq),))
    turns = [_about_axis("xyz".index(axis), euler_n[..., i]) for i, axis in enumerate(seq.lower())]
    if seq.islower():
        turns.reverse()
    matrix_33 = turns[0]
    for turn in turns[1:]:
        matrix_33 = multiply(matrix_33, turn)
    return matrix_33.astype(dtype, copy=False)


def matrix_to_euler(matrix: ArrayLike, seq: str) -> Array:
    """(..., 3, 3) -> (..., 3) angles in radians of a sequence of three axes, no two in turn the same.

    The first and third angle lie in [-pi, pi], the second in [-pi/2, pi/2], or in [0, pi] where the first
    axis comes again as the third. Where the first and third turn about one line, any share of it is right.
    """
    matrix_33, dtype = _to_float64(matrix, (3, 3))
    if len(seq) != 3 or not (set(seq) <= set("xyz") or set(seq) <= set("XYZ")) or seq[1] in (seq[0], seq[2]):
        raise FoundryError(
            f"'{seq}' is no Euler sequence that every rotation has: three of x, y, z (extrinsic) or of "
            "X, Y, Z (intrinsic), no two in turn equal"
        )
    # Extrinsic angles are intrinsic ones in reverse: R = R_i(a) R_j(b) R_k(c).
    i, j, k = ("xyz".index(axis) for axis in (seq[::-1].lower() if seq.islower() else seq.lower()))
    other = 3 - i - j if i == k else k
    e = 1.0 if (i, j, other) in ((0, 1, 2), (1, 2, 0), (2, 0, 1)) else -1.0
    m = np.moveaxis(matrix_33, (-2, -1), (0, 1))
    if i == k:
        b = np.arctan2(np.hypot(m[i, j], m[i, other]), m[i, i])
        c = np.arctan2(m[i, j], e * m[i, other])
        turned = np.cos(c) * m[:, j] - e * np.sin(c) * m[:, other]
    else:
        b = np.arctan2(e * m[i, k], np.hypot(m[i, i], m[i, j]))
        c = np.arctan2(-e * m[i, j], m[i, i])
        turned = e * np.sin(c) * m[:, i] + np.cos(c) * m[:, j]
    # The first from what the third leaves: together they are right where neither is determined alone.
    a = np.arctan2(e * turned[other], turned[j])
    angles = (c, b, a) if seq.islower() else (a, b, c)
    return np.stack(angles, axis=-1).astype(dtype, copy=False)


def axis_angle_to_matrix(axis_angle: ArrayLike) -> Array:
    """(..., 3) rotation vectors in radians -> (..., 3, 3) (Rodrigues' formula, accurate down to angle 0)."""
    vector_3, dtype = _to_float64(axis_angle, (3,))
    angle = _norm(vector_3)
    # sin(a)/a and (1-cos(a))/a^2 through sinc, which is exact at 0 and has no cancellation near it.
    a = np.sinc(angle / np.pi)
    b = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    x, y, z = np.moveaxis(vector_3, -1, 0)
    rows = (
        (1 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y),
        (b * x * y + a * z, 1 - b * (x * x + z * z), b * y * z - a * x),
        (b * x * z - a * y, b * y * z + a * x, 1 - b * (x * x + y * y)),
    )
    return _stack_rows(rows).astype(dtype, copy=False)


def matrix_to_axis_angle(matrix: ArrayLike) -> Array:
    """(..., 3, 3) -> (..., 3) rotation vectors with angle in [0, pi], full precision at 0 and at pi."""
    matrix_33, dtype = _to_float64(matrix, (3, 3))
    quaternion_4 = matrix_to_quaternion(matrix_33)
    axis_3, w = quaternion_4[..., :3], quaternion_4[..., 3]
    sine = _norm(axis_3)
    safe = np.where(sine > 0, sine, 1.0)
    factor = np.where(sine > 0, 2.0 * np.arctan2(sine, w) / safe, 2.0)
    return (axis_3 * factor[..., None]).astype(dtype, copy=False)


def _to_float64(array: ArrayLike, tail: tuple[int, ...]) -> tuple[Array, np.dtype[Any]]:
    given = np.asarray(array)
    if given.shape[-len(tail) :] != tail:
        raise FoundryError(
            f"expected an array of shape (..., {', '.join(map(str, tail))}), got {given.shape}"
        )
    dtype = given.dtype if np.issubdtype(given.dtype, np.floating) else np.dtype(np.float64)
    return given.astype(np.float64, copy=False), dtype


def _reorder(quaternion_4: Array, order: str, *, to_xyzw: bool) -> Array:
    if order not in QUATERNION_ORDERS:
        orders = " or ".join(QUATERNION_ORDERS)
        raise FoundryError(f"quaternion order '{order}' is not {orders}{nearest(order, QUATERNION_ORDERS)}")
    if order == "xyzw":
        return quaternion_4
    return np.roll(quaternion_4, -1 if to_xyzw else 1, axis=-1)


def _canonical_sign(quaternion_4: Array) -> Array:
    wxyz_4 = np.roll(quaternion_4, 1, axis=-1)
    first_nonzero = np.argmax(wxyz_4 != 0, axis=-1)
    leading = np.take_along_axis(wxyz_4, first_nonzero[..., None], axis=-1)
    return np.where(leading < 0, -quaternion_4, quaternion_4)


def _about_axis(axis: int, angle: Array) -> Array:
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix_33 = np.zeros((*angle.shape, 3, 3))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix_33[..., axis, axis] = 1.0
    matrix_33[..., i, i], matrix_33[..., i, j] = cosine, -sine
    matrix_33[..., j, i], matrix_33[..., j, j] = sine, cosine
    return matrix_33


def _stack_rows(rows: tuple[tuple[Array, ...], ...]) -> Array:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _unit_scale(vector_3: Array) -> Array:
    """Scaled so that the largest component is 1, or exactly zero where all of them are negligible."""
    largest = np.max(np.abs(vector_3), axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.where(largest < _ZERO, 0.0, vector_3 / np.maximum(largest, _ZERO))


def _perpendicular(vector_3: Array) -> Array:
    """The coordinate axis most perpendicular to the vector, made orthogonal to it; the x axis for zero."""
    length_squared = _dot(vector_3, vector_3)[..., None]
    axis_3 = np.eye(3)[np.argmin(np.abs(vector_3), axis=-1)]
    along = _dot(axis_3, vector_3)[..., None] / np.where(length_squared > 0, length_squared, 1.0)
    return axis_3 - along * vector_3


def _dot(a_n: Array, b_n: Array) -> Array:
    products = a_n * b_n
    total = products[..., 0]
    for k in range(1, products.shape[-1]):
        total = total + products[..., k]
    return np.asarray(total)


def _norm(vector_n: Array) -> Array:
    return np.asarray(np.sqrt(_dot(vector_n, vector_n)))


def _cross(a_3: Array, b_3: Array) -> Array:
    (ax, ay, az), (bx, by, bz) = np.moveaxis(a_3, -1, 0), np.moveaxis(b_3, -1, 0)
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)
