"""Digests against NumPy: rank errors, exactness, merges in any order, bytes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_foundry.normalization.digest import COMPRESSION, EXACT_VALUES, Digest
from robot_foundry.runtime.errors import FoundryError

NUM_VALUES = 1_000_000
NUM_LEAVES = 2_000
PERCENTILES = (1, 2, 5, 25, 50, 75, 95, 98, 99)
MAX_RANK_ERROR = 0.02  # percentage points


def gaussian(rng, n):
    return rng.normal(size=n)


def heavy_tailed(rng, n):
    return rng.normal(size=n) * np.where(rng.random(n) < 1e-3, 1e4, 1.0)


def bimodal(rng, n):
    return np.where(rng.random(n) < 0.4, rng.normal(-3, 0.1, n), rng.normal(3, 0.1, n))


def binary_gripper(rng, n):
    return (rng.random(n) < 0.3).astype(np.float32)


def constant(rng, n):
    return np.full(n, 0.1)


def mostly_zero(rng, n):
    return np.where(rng.random(n) < 0.9, 0.0, rng.normal(size=n))


def gripper_open_almost_always(rng, n):
    return np.where(rng.random(n) < 0.995, 1.0, rng.random(n))


def one_nan(rng, n):
    values = rng.normal(size=n)
    values[n // 3] = np.nan
    return values


def log_normal_float32(rng, n):
    return rng.lognormal(0, 3, n).astype(np.float32)


DISTRIBUTIONS = [
    gaussian,
    heavy_tailed,
    bimodal,
    binary_gripper,
    constant,
    mostly_zero,
    gripper_open_almost_always,
    one_nan,
    log_normal_float32,
]


def rank_errors(values, digest):
    """How far the ranks that each estimate covers are from the rank asked for, in percentage points."""
    ordered = np.sort(values[np.isfinite(values)].astype(np.float64))
    asked = np.array(PERCENTILES, np.float64)
    estimates = digest.percentile(asked)
    low = np.searchsorted(ordered, estimates, "left") / len(ordered) * 100
    high = np.searchsorted(ordered, estimates, "right") / len(ordered) * 100
    return np.maximum(0, np.maximum(low - asked, asked - high))


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_percentiles_of_a_million_values_and_of_merged_leaves(distribution):
    rng = np.random.default_rng(0)
    values = distribution(rng, NUM_VALUES)
    whole = Digest.of(values)
    leaves = [Digest.of(part) for part in np.array_split(values, NUM_LEAVES)]
    merged = Digest.merge_all(leaves)
    finite = values[np.isfinite(values)].astype(np.float64)
    for digest in (whole, merged):
        assert rank_errors(values, digest).max() <= MAX_RANK_ERROR
        assert digest.count == len(finite)
        assert digest.num_nan == NUM_VALUES - len(finite)
        assert (digest.min, digest.max) == (finite.min(), finite.max())
        assert digest.mean == pytest.approx(finite.mean(), abs=1e-13 * np.abs(finite).max())
        assert digest.std == pytest.approx(finite.std(), rel=1e-12, abs=1e-15)
        assert len(digest.to_bytes()) < 12.5 * COMPRESSION + 200

    order = rng.permutation(NUM_LEAVES)
    assert Digest.merge_all([leaves[i] for i in order]).to_bytes() == merged.to_bytes()
    assert Digest.merge_all(reversed(leaves)).to_bytes() == merged.to_bytes()


def test_merging_many_compressed_leaves_in_any_order_gives_the_same_bits():
    rng = np.random.default_rng(1)
    values = np.round(mostly_zero(rng, NUM_LEAVES * 700), 4)
    leaves = [Digest.of(part) for part in values.reshape(NUM_LEAVES, 700)]
    leaves += [Digest.of(rng.normal(size=EXACT_VALUES + 100)) for _ in range(100)]
    assert not leaves[-1].is_exact
    merged = Digest.merge_all(leaves).to_bytes()
    for _ in range(3):
        assert Digest.merge_all([leaves[i] for i in rng.permutation(len(leaves))]).to_bytes() == merged


@pytest.mark.parametrize("share_open", [0.005, 0.3, 0.985, 0.995])
def test_a_binary_gripper_is_exact(share_open):
    values = (np.random.default_rng(2).random(100_000) < share_open).astype(np.float32)
    for digest in (
        Digest.of(values),
        Digest.merge_all(Digest.of(part) for part in np.array_split(values, 50)),
    ):
        expected = np.quantile(values, np.array(PERCENTILES) / 100, method="inverted_cdf")
        np.testing.assert_array_equal(digest.percentile(np.array(PERCENTILES)), expected)
        assert digest.is_exact
        assert digest.cdf(0.0) == pytest.approx(1 - values.mean(dtype=np.float64), abs=1e-15)


def test_a_constant_is_exact_even_beside_other_values():
    digest = Digest.merge_all([Digest.of(np.full(7, 0.1)), Digest.of(np.full(9, 0.1))])
    assert (digest.mean, digest.std, digest.percentile(50)) == (0.1, 0.0, 0.1)
    noise = np.random.default_rng(3).normal(size=100_000)
    mixed = Digest.of(np.where(np.arange(100_000) % 2 == 0, 0.1, noise))
    assert not mixed.is_exact
    assert mixed.percentile(60) == 0.1


def test_float32_far_from_zero_keeps_its_deviation():
    values = (1e4 + np.random.default_rng(4).normal(0, 0.01, 200_000)).astype(np.float32)
    assert Digest.of(values).std == pytest.approx(values.astype(np.float64).std(), rel=1e-9)


def test_what_is_not_finite_is_counted_apart():
    digest = Digest.of([1.0, np.nan, np.inf, 2.0, -np.inf, -np.inf, np.nan])
    assert (digest.count, digest.num_nan, digest.num_posinf, digest.num_neginf) == (2, 2, 1, 2)
    assert (digest.min, digest.max, digest.mean) == (1, 2, 1.5)
    merged = Digest.merge_all([digest, Digest.of([np.nan]), Digest.of([])])
    assert (merged.count, merged.num_nan, merged.num_posinf, merged.num_neginf) == (2, 3, 1, 2)


def test_no_values_have_no_statistics():
    for digest in (
        Digest.of([]),
        Digest.merge_all([]),
        Digest.merge_all([Digest.of([])] * 3),
        Digest.of([np.nan]),
    ):
        assert digest.count == 0
        assert math.isnan(digest.percentile(50)) and math.isnan(digest.mean) and math.isnan(digest.min)
        assert math.isnan(digest.std) and math.isnan(digest.cdf(0.0))
        assert Digest.from_bytes(digest.to_bytes()) == digest
    assert Digest.merge_all([Digest.of([]), Digest.of([3.0])]) == Digest.of([3.0])


values_1 = arrays(
    np.float64,
    st.integers(0, 40),
    elements=st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf]),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(values_1, max_size=6), st.randoms(use_true_random=False))
def test_merge_laws(parts, random):
    leaves = [Digest.of(part) for part in parts]
    merged = Digest.merge_all(leaves)
    shuffled = random.sample(leaves, len(leaves))
    assert Digest.merge_all(shuffled).to_bytes() == merged.to_bytes()
    assert Digest.from_bytes(merged.to_bytes()).to_bytes() == merged.to_bytes()

    everything = np.concatenate([*parts, np.empty(0)])
    finite = everything[np.isfinite(everything)]
    assert merged.count == finite.size
    assert merged.num_nan == np.isnan(everything).sum()
    if finite.size:
        expected = np.quantile(finite, [0, 1], method="inverted_cdf")
        np.testing.assert_array_equal(merged.percentile([0, 100]), expected)
        scale = np.abs(finite).max()
        assert merged.mean == pytest.approx(finite.mean(), abs=1e-12 * scale)
        # Squares of what is smaller than 1e-154 are no normal numbers any more, in both.
        assert merged.std == pytest.approx(finite.std(), abs=max(1e-7 * scale, 1e-154))
        assert set(merged.percentile(np.linspace(0, 100, 33))) <= set(finite)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(EXACT_VALUES, 20_000), st.sampled_from([0, 2, 17]))
def test_percentiles_and_shares_are_monotone_and_agree(seed, count, decimals):
    values = np.round(np.random.default_rng(seed).standard_t(2, count), decimals)
    digest = Digest.of(values)
    asked = np.linspace(0, 100, 201)
    found = digest.percentile(asked)
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (values.min(), values.max())
    shares = digest.cdf(np.sort(values))
    assert (np.diff(shares) >= 0).all() and shares[-1] == 1 and digest.cdf(values.min() - 1) == 0
    assert (digest.cdf(found) * 100 >= asked - 1e-9).all()


def test_long_input_is_digested_in_chunks():
    values = np.random.default_rng(5).normal(size=2_500_000).astype(np.float32)
    digest = Digest.of(values)
    assert digest.count == values.size
    assert rank_errors(values, digest).max() <= MAX_RANK_ERROR
    assert digest.mean == pytest.approx(values.mean(dtype=np.float64), abs=1e-12)


def test_scalar_and_array_questions():
    digest = Digest.of(np.arange(11))
    assert isinstance(digest.percentile(50), float) and digest.percentile(50) == 5
    assert digest.percentile(np.array([[0.0, 50.0], [90.0, 100.0]])).shape == (2, 2)
    assert digest.cdf(4) == pytest.approx(5 / 11)
    with pytest.raises(FoundryError, match="between 0 and 100"):
        digest.percentile(101)
    with pytest.raises(FoundryError, match="between 0 and 100"):
        digest.percentile(float("nan"))


def test_bytes_have_not_changed():
    golden = Digest.of([0.0, 1.0, 1.0, 2.5, np.nan]).to_bytes()
    assert golden[:4] == b"FTD1"
    assert golden.hex() == (
        "46544431"  # magic
        "04" "03000000"  # bytes a weight, centroids
        "0400000000000000" "0100000000000000" "0000000000000000" "0000000000000000"  # count, NaN, +inf, -inf
        "000000000000f23f" "0000000000800940"  # mean 1.125, M2 3.1875
        "0000000000000000" "0000000000000440"  # min, max
        "0000000000000000" "000000000000f03f" "0000000000000440"  # values
        "01000000" "02000000" "01000000"  # weights
        "e0"  # points
    )  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"FTD2" + data[4:],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:9] + b"\x09" + data[10:],
        lambda data: data[:4] + b"\x05" + data[5:],
        lambda data: data[:73] + data[81:89] + data[73:81] + data[89:],
    ],
)
def test_damaged_bytes_are_refused(damage):
    data = Digest.of([0.0, 1.0, 1.0, 2.5]).to_bytes()
    with pytest.raises(FoundryError, match="digest"):
        Digest.from_bytes(damage(data))
