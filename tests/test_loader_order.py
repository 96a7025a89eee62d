import hashlib
from fractions import Fraction
from itertools import pairwise
from math import ceil, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_foundry.catalog.components import Component, Mixture
from robot_foundry.loader.interleave import Interleave
from robot_foundry.loader.order import ORDER_VERSION, SPANS_PER_CHUNK, Order
from robot_foundry.loader.permutation import permute
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.keyed import key


def mixture(*parts, lanes=64, span=64):
    """Components of (weight, num_samples)."""
    return Mixture(
        tuple(
            Component(f"data{i}", f"data{i}", f"{i:032x}", str(Fraction(weight)), {}, size)
            for i, (weight, size) in enumerate(parts)
        ),
        lanes,
        span,
    )


def weights_strategy(max_size=6, max_weight=10**6):
    counts = st.lists(st.integers(1, max_weight), min_size=1, max_size=max_size)
    return counts.map(lambda counts: [Fraction(count, sum(counts)) for count in counts])


def test_the_order_never_changes():
    # If this fails, every run that is resumed sees other samples: raise ORDER_VERSION and say so.
    made = mixture(("1/2", 300_000), ("3/10", 70_001), ("1/5", 1000))
    k = np.concatenate([np.arange(20_000), 10**6 + np.arange(20_000), 2**42 - 1 - np.arange(20_000)])
    found = hashlib.sha256()
    for values in Order(made, seed=7).at(k):
        found.update(values.astype("<i8").tobytes())
    assert ORDER_VERSION == 1
    assert found.hexdigest() == "55d884f5945d9bcbe1d3d49294d95f185a41e1bff681ec8363b8cf8e2b48d7a6"


@settings(max_examples=25, deadline=None)
@given(weights_strategy(), st.integers(0, 2**41))
def test_every_prefix_holds_each_weight_within_the_number_of_datasets(weights, far):
    interleave = Interleave(weights)
    for first in (0, far):
        k = first + np.arange(3000, dtype=np.int64)
        component, ordinal = interleave.at(k)
        for i, weight in enumerate(weights):
            taken = component == i
            # The ordinal says how many came before k; between two of its own positions a count stays.
            assert np.array_equal(np.diff(ordinal[taken]), np.ones(max(0, taken.sum() - 1)))
            assert first > 0 or not taken.any() or ordinal[taken][0] == 0
            for at, count in zip(k[taken].tolist(), ordinal[taken].tolist(), strict=True):
                assert abs(count - weight * at) <= len(weights)
                assert abs(count + 1 - weight * (at + 1)) <= len(weights)


@settings(max_examples=30, deadline=None)
@given(weights_strategy(), st.lists(st.integers(0, 2**42 - 1), min_size=1, max_size=50))
def test_a_position_is_found_again_from_its_component_and_ordinal(weights, k):
    interleave = Interleave(weights)
    k = np.unique(np.array(k, np.int64))
    component, ordinal = interleave.at(k)
    for i in range(len(weights)):
        taken = component == i
        assert np.array_equal(interleave.positions(i, ordinal[taken]), k[taken])


def test_every_global_batch_holds_its_share():
    dataset, _, _ = Order(mixture(("3/5", 10_000), ("2/5", 500)), seed=0).at(np.arange(256 * 100))
    of_first = (dataset.reshape(100, 256) == 0).sum(axis=1)
    assert np.abs(of_first - 0.6 * 256).max() <= 1


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 700)), min_size=1, max_size=3),
    st.sampled_from([1, 2, 3, 8]),
    st.sampled_from([1, 4, 5]),
    st.integers(0, 2**60),
)
def test_every_epoch_holds_every_sample_exactly_once(parts, lanes, span, seed):
    total = sum(weight for weight, _ in parts)
    made = mixture(*((Fraction(w, total), size) for w, size in parts), lanes=lanes, span=span)
    dataset, epoch, sample = Order(made, seed=seed).at(np.arange(6000))
    for i, (_, size) in enumerate(parts):
        taken = dataset == i
        epochs, samples = epoch[taken], sample[taken]
        assert (np.diff(epochs) >= 0).all()
        for number in range(int(epochs.max(initial=0))):
            assert np.array_equal(np.sort(samples[epochs == number]), np.arange(size))
        last = samples[epochs == epochs.max(initial=0)]
        assert len(np.unique(last)) == len(last)


def test_positions_can_be_asked_for_in_any_order_and_company():
    made = mixture(("2/3", 90_000), ("1/3", 300))
    k = np.random.default_rng(0).integers(0, 200_000, 2000)
    whole = Order(made, seed=3).at(k)
    fresh = Order(made, seed=3)
    for pick in (slice(None, None, -1), slice(5, 400), slice(0, 1), slice(0, 0)):
        for all_of_it, part in zip(whole, fresh.at(k[pick]), strict=True):
            assert np.array_equal(all_of_it[pick], part)


@pytest.mark.parametrize("parts", [[("1", 200_000)], [("3/5", 150_000), ("2/5", 90_000)]])
@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_a_rank_alone_reads_its_spans(parts, world):
    made = mixture(*parts)
    k = np.arange(400_000)
    dataset, epoch, sample = Order(made, seed=0).at(k)
    rank = (k % made.lanes) // (made.lanes // world)
    read = taken = 0
    for i in range(len(parts)):
        for r in range(world):
            mine = np.sort(sample[(dataset == i) & (rank == r) & (epoch == 0)])
            # Runs that a gap of less than a span interrupts are read as one.
            gaps = np.diff(mine)
            read += 1 + np.where(gaps < made.span, gaps, 1).sum()
            taken += len(mine)
    assert read / taken <= 1.05


def test_counts_stand_in_for_those_that_are_selected():
    k = np.arange(5000)
    made = mixture(("3/4", 1000), ("1/4", 90_000))
    found = Order(made, seed=3, counts=[70, 20_000]).at(k)
    expected = Order(mixture(("3/4", 70), ("1/4", 20_000)), seed=3).at(k)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_seeds_epochs_and_datasets_have_unlike_orders():
    def epochs(seed, name):
        component = Component(name, name, "0" * 32, "1", {}, 1000)
        _, _, sample = Order(Mixture((component,)), seed=seed).at(np.arange(3000))
        return [tuple(part) for part in sample.reshape(3, 1000)]

    orders = [order for seed in range(3) for name in ("a", "b") for order in epochs(seed, name)]
    assert len(set(orders)) == len(orders)


def test_positions_weights_and_sizes_out_of_reach_are_refused():
    order = Order(mixture(("1", 10)), seed=0)
    for k in (-1, 2**42):
        with pytest.raises(FoundryError, match="positions of an order"):
            order.at([k])
    with pytest.raises(FoundryError, match="one-dimensional"):
        order.at(3)
    with pytest.raises(FoundryError, match="common denominator"):
        Order(mixture((Fraction(1, 2**33), 10), (1 - Fraction(1, 2**33), 10)), seed=0)
    with pytest.raises(FoundryError, match="too large"):
        Order(mixture(("1", 2**45), lanes=1, span=1), seed=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_a_permutation_permutes(size, permutation_key):
    assert np.array_equal(np.sort(permute(np.arange(size), size, permutation_key)), np.arange(size))


@pytest.mark.parametrize("size", [4, 13, 64, 1000])
def test_permutations_look_random(size):
    keys = np.random.default_rng(1).integers(0, 2**63, 60_000 // size)
    places = permute(np.tile(np.arange(size), len(keys)), size, np.repeat(keys, size)).reshape(-1, size)
    # Neighbours stay neighbours once in each permutation, on average; places of a point are uniform.
    after = (places[:, 1:] == places[:, :-1] + 1).sum()
    expected = len(keys) * (size - 1) / size
    assert abs(after - expected) < 5 * sqrt(expected)
    counts = np.bincount(places[:, 0] * 4 // size, minlength=4)
    shares = np.diff([ceil(size * quarter / 4) for quarter in range(5)]) / size
    assert (np.abs(counts - len(keys) * shares) < 5 * np.sqrt(len(keys) * shares)).all()


# The algorithm of docs/order.md once more, in plain integers, one position at a time.

M64 = 2**64 - 1


def finalise(z):
    z = (z + 0x9E3779B97F4A7C15) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def mix(x, with_key):
    return finalise(finalise(x) ^ with_key)


def permuted(x, size, with_key):
    a = ceil(sqrt(size))
    b = -(-size // a)
    while True:
        one, two, one_size, two_size = x // b, x % b, a, b
        for number in range(8):
            shift = ((mix(two ^ with_key, key("feistel", number)) >> 32) * one_size) >> 32
            one = (one + shift) % one_size
            one, two, one_size, two_size = two, one, two_size, one_size
        x = one * b + two
        if x < size:
            return x


def owner(k, weights):
    rest = Fraction(1)
    for i, weight in enumerate(weights):
        share = weight / rest
        if ceil((k + 1) * share) > ceil(k * share):
            return i, ceil(k * share)
        k -= ceil(k * share)
        rest -= weight
    raise AssertionError


def derived(made, seed, num_positions):
    """The first samples of each component, as docs/order.md derives them."""
    weights = [component.fraction for component in made.components]
    owners = [owner(k, weights) for k in range(num_positions)]
    use = {name: key("order", 1, name) for name in ("epoch", "rotation", "span", "block", "chunk")}
    samples = {}
    for i, component in enumerate(made.components):
        size, span, lanes = component.num_samples, made.span, made.lanes
        positions = [k for k in range(num_positions) if owners[k][0] == i]
        blocks = 1 if size < lanes * span else -(-size // (lanes * span * SPANS_PER_CHUNK))
        for epoch in range(len(positions) // size):
            own = key("order", 1, seed, component.name, component.version_id) ^ epoch
            in_epoch = positions[epoch * size : (epoch + 1) * size]
            if size < lanes * span:
                for place, k in enumerate(in_epoch):
                    samples[k] = i, epoch, permuted(place, size, mix(own, use["epoch"]))
                continue
            borders = [block * size // blocks for block in range(blocks + 1)]
            for block, (first, end) in enumerate(pairwise(borders)):
                by_lane = sorted(in_epoch[first:end], key=lambda k: (k % lanes, k))
                for lane in range(lanes):
                    chunk = [slot for slot, k in enumerate(by_lane) if k % lanes == lane]
                    chunk_key = mix(mix(own, use["block"]) ^ (block * lanes + lane), use["chunk"])
                    for nth, slot in enumerate(chunk):
                        place = first + chunk[0] + permuted(nth, len(chunk), chunk_key)
                        row, within = divmod(place, span)
                        if row < size // span:
                            row = permuted(row, size // span, mix(own, use["span"]))
                        rotation = mix(own, use["rotation"]) % size
                        samples[by_lane[slot]] = i, epoch, (row * span + within + rotation) % size
    return samples


@pytest.mark.parametrize(
    "made",
    [
        mixture(("1", 50)),
        mixture(("1/2", 333), ("1/3", 20), ("1/6", 41), lanes=4, span=5),
        mixture(("2/5", 700), ("3/5", 131), lanes=3, span=2),
    ],
    ids=["global", "three", "many blocks"],
)
def test_the_order_is_what_the_document_says(made):
    expected = derived(made, 11, 2500)
    k = np.array(sorted(expected))
    dataset, epoch, sample = Order(made, seed=11).at(k)
    assert len(k) > 2000
    assert list(zip(dataset.tolist(), epoch.tolist(), sample.tolist(), strict=True)) == [
        expected[x] for x in k
    ]
