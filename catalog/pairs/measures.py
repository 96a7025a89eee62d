"""What can be asked of the pictures of pairs: numbers of each pair, by the sizes that the table has.

Legend: E pairs, N pictures of all pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Measures:
    """Of the pictures of each pair; what has no meaning for a pair without pictures is not valid there.

    num_images_E  how many it has
    width_E, height_E  of the first, in pixels; `encoding_E` of the first
    min_side_E    the shortest side of any, in pixels
    max_aspect_E  of the most elongated one the longer side over the shorter
    """

    num_images_E: NDArray[np.int32]
    width_E: pa.Array
    height_E: pa.Array
    min_side_E: pa.Array
    max_aspect_E: pa.Array
    encoding_E: pa.Array


def measures_of(pairs: pa.Table) -> Measures:
    """Those of the rows of a table of pairs."""
    width_N, height_N = (flat(pairs, name).to_numpy() for name in ("width", "height"))
    num_E = pc.list_value_length(pairs["width"].combine_chunks()).to_numpy(zero_copy_only=False)
    num_E = num_E.astype(np.int32)
    has_E = num_E > 0
    first_E = np.cumsum(num_E) - num_E
    start_e = first_E[has_E]
    shorter_N, longer_N = np.minimum(width_N, height_N), np.maximum(width_N, height_N)
    encodings = flat(pairs, "encoding")
    return Measures(
        num_E,
        _where(has_E, width_N[start_e], pa.int32()),
        _where(has_E, height_N[start_e], pa.int32()),
        _where(has_E, _reduced(np.minimum, shorter_N, start_e), pa.int32()),
        _where(has_E, _reduced(np.maximum, longer_N / np.maximum(shorter_N, 1), start_e), pa.float64()),
        encodings.take(pa.array(np.where(has_E, first_E, 0), mask=~has_E)),
    )


def flat(pairs: pa.Table, name: str) -> pa.Array:
    """The values of all pairs in a column of lists, one behind the other."""
    return pairs[name].combine_chunks().flatten()


def _reduced(ufunc: np.ufunc, value_N: NDArray, start_e: NDArray) -> NDArray:
    return ufunc.reduceat(value_N, start_e) if len(start_e) else value_N[:0]


def _where(has_E: NDArray[np.bool_], value_e: NDArray, kind: pa.DataType) -> pa.Array:
    """The values, in order, of those pairs that have one."""
    value_E = np.zeros(len(has_E), value_e.dtype)
    value_E[has_E] = value_e
    return pa.array(value_E, kind, mask=~has_E)
