"""Digests as the `tdigest` package writes and reads them: `TDigest.to_dict` and `update_from_dict`.

    {"n": 1000.0, "delta": 0.01, "K": 25, "centroids": [{"m": mean, "c": weight}, …]}    means rising

Out, nothing that the format can hold is lost. It has no room for exact points, the minimum and maximum, M2 or
counts of NaN and infinities; read back, they are what the centroids alone tell. The package is needed for
`to_tdigest` alone (extra `interop`). Its own answers are for continuous data: a gripper of {0, 1} gets a p1
between the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_foundry.normalization.digest import Digest
from robot_foundry.runtime.errors import FoundryError

DELTA, K = 0.01, 25  # the package's own defaults: how far its next update compresses


def to_centroids(digest: Digest, *, delta: float = DELTA, k: int = K) -> dict[str, Any]:
    """The dict that `tdigest.TDigest().update_from_dict` reads; plain numbers, so it is JSON too."""
    centroids = [
        {"m": float(value), "c": float(weight)}
        for value, weight in zip(digest.values, digest.weights, strict=True)
    ]
    return {"n": float(digest.count), "delta": delta, "K": k, "centroids": centroids}


def from_centroids(data: Mapping[str, Any]) -> Digest:
    """The digest of what `tdigest.TDigest.to_dict` gave; `n`, `delta` and `K` may be absent.

    Weights there may be fractions: they become whole numbers whose running sum is off by at most a half.
    Minimum and maximum are the outer means. Only a centroid of weight 1 is known to be one exact value.

    Raises FoundryError for anything but finite means and positive weights that agree with `n`.
    """
    means, weights = _checked(data)
    order = np.argsort(means, kind="stable")
    means, weights = means[order] + 0.0, weights[order]
    cumulative = np.rint(np.cumsum(weights)).astype(np.int64)
    starts = np.flatnonzero(np.diff(means, prepend=np.nan) != 0)  # equal means are one centroid
    last = np.append(starts, len(means))[1:] - 1
    whole = np.diff(cumulative[last], prepend=np.int64(0))
    values, whole = means[starts][whole > 0], whole[whole > 0]
    if not len(values):
        return Digest.of(())
    count = int(whole.sum())
    mean = math.fsum(values * whole) / count
    return Digest(
        count=count,
        num_nan=0,
        num_posinf=0,
        num_neginf=0,
        mean=mean,
        m2=math.fsum(whole * (values - mean) ** 2),
        min=float(means[0]),
        max=float(means[-1]),
        values=values,
        weights=whole,
        points=whole == 1,
    )


def to_tdigest(digest: Digest, *, delta: float = DELTA, k: int = K) -> Any:
    """A `tdigest.TDigest` of these centroids; it may merge neighbours as it takes them in."""
    try:
        from tdigest import TDigest
    except ImportError as error:
        raise FoundryError(
            "the package tdigest is not installed", hint="pip install 'robot-foundry[interop]'"
        ) from error
    return TDigest(delta, k).update_from_dict(to_centroids(digest, delta=delta, k=k))


def _checked(data: Mapping[str, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    try:
        pairs = [(float(centroid["m"]), float(centroid["c"])) for centroid in data["centroids"]]
        stated = None if data.get("n") is None else float(data["n"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FoundryError(
            'no centroids of a t-digest: expected {"n": …, "centroids": [{"m": mean, "c": weight}, …]}'
        ) from error
    means, weights = np.array(pairs, np.float64).reshape(-1, 2).T
    for i, (mean, weight) in enumerate(pairs):
        if not math.isfinite(mean) or not (math.isfinite(weight) and weight > 0):
            raise FoundryError(f"centroid {i} of a t-digest has the mean {mean} and the weight {weight}")
    total = math.fsum(weights)
    if stated is not None and not math.isclose(stated, total, rel_tol=1e-6, abs_tol=1e-6):
        raise FoundryError(f"a t-digest states n = {stated:g}, its centroids weigh {total:g}")
    return means, weights
