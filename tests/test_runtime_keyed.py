import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robot_foundry.runtime.keyed import generator, key, mix64, uniform

MASK = (1 << 64) - 1
parts = st.lists(st.integers() | st.text(st.characters(exclude_categories=["Cs"])), max_size=5)
words = st.integers(0, MASK)


def splitmix64(x):
    """The published C code, in exact integers."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


@given(parts, parts)
def test_unlike_parts_have_unlike_keys(a, b):
    assert (key(*a) == key(*b)) == (a == b)


def test_parts_are_typed_and_separated():
    assert len({key(1), key("1"), key("1", ""), key("", "1"), key(11), key(1, 1), key(), key(-1)}) == 8
    assert key(np.int64(7), "a") == key(7, "a")


def test_a_key_is_the_blake2b_of_type_length_and_value():
    typed = b"s" + (7).to_bytes(8, "little") + b"episode" + b"i" + (1).to_bytes(8, "little") + b"3"

    assert key("episode", 3) == int.from_bytes(hashlib.blake2b(typed, digest_size=8).digest(), "little")


@pytest.mark.parametrize("part", [1.0, b"x", None])
def test_a_part_of_another_type_is_refused(part):
    with pytest.raises(TypeError):
        key(part)


@given(st.lists(words, min_size=1, max_size=20), words)
def test_mix64_is_two_rounds_of_the_published_finaliser(x, k):
    mixed = mix64(np.array(x, dtype=np.uint64), k)

    assert mixed.tolist() == [splitmix64(splitmix64(value) ^ k) for value in x]


@given(words)
def test_uniform_does_not_depend_on_what_else_is_asked(k):
    index = np.arange(1000).reshape(10, 100)
    whole = uniform(k, index)

    assert whole.shape == index.shape
    assert whole[3, 7] == uniform(k, np.array(307))
    assert ((whole >= 0) & (whole < 1)).all()


def test_uniform_is_uniform_and_independent_between_neighbouring_keys():
    index = np.arange(20_000)
    a, b = uniform(1, index), uniform(2, index)

    assert stats.kstest(a, "uniform").pvalue > 0.01
    assert stats.kstest(np.diff(a) % 1.0, "uniform").pvalue > 0.01
    assert abs(stats.pearsonr(a, b).statistic) < 0.03


def test_a_generator_depends_on_its_parts_alone():
    np.random.seed(0)
    first = generator("noise", 5).standard_normal(4)
    np.random.seed(1)

    assert (first == generator("noise", 5).standard_normal(4)).all()
    assert (first != generator("noise", 6).standard_normal(4)).all()
