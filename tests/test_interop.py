"""The centroid form of the tdigest package, out and in, and that package as an oracle."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.normalization.digest import Digest
from robot_foundry.normalization.interop import from_centroids, to_centroids, to_tdigest
from robot_foundry.runtime.errors import FoundryError

ASKED = np.array([1.0, 2, 5, 25, 50, 75, 95, 98, 99])


def rank_error(values, estimates):
    ordered = np.sort(values)
    return np.abs(np.searchsorted(ordered, estimates) / len(ordered) * 100 - ASKED).max()


@pytest.fixture(scope="module")
def tdigest():
    return pytest.importorskip("tdigest", reason="the extra interop (tdigest) is not installed")


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).normal(0.3, 2.0, 20_000)


def test_the_form_is_the_packages_own(tdigest):
    theirs = tdigest.TDigest()
    for value in (1.0, 2.0, 2.0, 5.0):
        theirs.update(value)
    assert to_centroids(Digest.of([1, 2, 2, 5])) == theirs.to_dict()


def test_the_package_reads_what_we_write(tdigest, values):
    theirs = to_tdigest(Digest.of(values))
    assert isinstance(theirs, tdigest.TDigest) and theirs.n == pytest.approx(len(values))
    assert rank_error(values, [theirs.percentile(q) for q in ASKED]) < 0.5
    again = tdigest.TDigest().update_from_dict(json.loads(json.dumps(to_centroids(Digest.of(values)))))
    assert rank_error(values, [again.percentile(q) for q in ASKED]) < 0.5


def test_we_read_what_the_package_writes(tdigest, values):
    theirs = tdigest.TDigest()
    theirs.batch_update(values)
    ours = from_centroids(theirs.to_dict())
    assert ours.count == len(values)
    assert rank_error(values, ours.percentile(ASKED)) < 0.5
    assert ours.mean == pytest.approx(values.mean(), abs=1e-3)
    assert ours.std == pytest.approx(values.std(), rel=1e-2)
    assert (ours.min, ours.max) == (theirs.percentile(0), theirs.percentile(100))
    assert Digest.from_bytes(ours.to_bytes()) == ours
    # It is a leaf like any other.
    merged = [Digest.merge_all(order) for order in ([ours, Digest.of(values)], [Digest.of(values), ours])]
    assert merged[0] == merged[1] and merged[0].count == 2 * len(values)


@pytest.mark.parametrize("shape", ["gaussian", "two humps", "long tail"])
def test_both_answer_alike_on_continuous_data(tdigest, shape):
    rng = np.random.default_rng(1)
    normal = rng.normal(size=20_000)
    values = {
        "gaussian": normal,
        "two humps": np.where(rng.random(20_000) < 0.4, normal - 5, normal + 5),
        "long tail": np.exp(2 * normal),
    }[shape]
    theirs = tdigest.TDigest()
    theirs.batch_update(values)
    ours = Digest.of(values).percentile(ASKED)
    assert rank_error(values, ours) < 0.02
    assert rank_error(values, [theirs.percentile(q) for q in ASKED]) < 0.5


counts = st.lists(st.integers(1, 10**6), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(counts, st.integers(0, 2**32))
def test_centroids_come_back(weights, seed):
    means = np.random.default_rng(seed).normal(size=len(weights))
    data = {"centroids": [{"m": float(m), "c": w} for m, w in zip(means, weights, strict=True)]}
    digest = from_centroids(data)
    assert digest.count == sum(weights)
    back = to_centroids(digest)
    assert back["n"] == sum(weights)
    order = np.argsort(means)
    assert [(c["m"], c["c"]) for c in back["centroids"]] == [(means[i], weights[i]) for i in order]
    assert from_centroids(back) == digest


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60))
def test_weights_that_are_fractions_keep_every_rank_within_a_half(weights):
    data = {"centroids": [{"m": float(i), "c": w} for i, w in enumerate(weights)]}
    digest = from_centroids(data)
    assert abs(digest.count - sum(weights)) <= 0.5
    given_sums = dict(zip(range(len(weights)), np.cumsum(weights), strict=True))
    found = np.cumsum(digest.weights)
    assert all(
        abs(total - given_sums[int(value)]) <= 0.5 for value, total in zip(digest.values, found, strict=True)
    )


def test_nothing_and_equal_means():
    assert from_centroids({"n": 0, "centroids": []}).count == 0
    assert to_centroids(Digest.of(()))["centroids"] == []
    twice = from_centroids({"centroids": [{"m": -0.0, "c": 2}, {"m": 0.0, "c": 3}, {"m": 1, "c": 1}]})
    assert twice.values.tolist() == [0, 1] and twice.weights.tolist() == [5, 1]
    assert twice.points.tolist() == [False, True]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "no centroids of a t-digest"),
        ({"centroids": [{"m": 1}]}, "no centroids of a t-digest"),
        ({"centroids": [{"m": "x", "c": 1}]}, "no centroids of a t-digest"),
        ({"centroids": [{"m": 1, "c": 1}, {"m": float("nan"), "c": 1}]}, "centroid 1 .* mean nan"),
        ({"centroids": [{"m": 1, "c": 0}]}, "centroid 0 .* weight 0"),
        ({"centroids": [{"m": 1, "c": float("inf")}]}, "weight inf"),
        ({"n": 7, "centroids": [{"m": 1, "c": 2}]}, "states n = 7, its centroids weigh 2"),
    ],
)
def test_what_is_no_digest_is_refused(data, message):
    with pytest.raises(FoundryError, match=message):
        from_centroids(data)
