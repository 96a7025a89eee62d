import hashlib
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_foundry.runtime.canonical import canonical_json, digest_of, sha256_hex
from robot_foundry.runtime.errors import FoundryError

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)


def shuffled(value, rng):
    if isinstance(value, dict):
        items = [(name, shuffled(item, rng)) for name, item in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


@given(values)
def test_any_json_reader_gets_the_value_back(value):
    assert json.loads(canonical_json(value)) == value


@given(values, st.integers())
def test_the_order_of_insertion_is_not_part_of_the_value(value, seed):
    assert canonical_json(shuffled(value, random.Random(seed))) == canonical_json(value)


@given(values, values)
def test_unlike_values_have_unlike_bytes(a, b):
    assert (canonical_json(a) == canonical_json(b)) == (repr(shuffled_keys(a)) == repr(shuffled_keys(b)))


def shuffled_keys(value):
    """A form in which `repr` tells 1 from 1.0 and True, and ignores the order of keys."""
    if isinstance(value, dict):
        return {"dict": [(name, shuffled_keys(value[name])) for name in sorted(value)]}
    return [shuffled_keys(item) for item in value] if isinstance(value, list) else value


def test_the_bytes_are_those_of_the_format():
    value = {"é": [1, 1.0, -0.0, 1e-7, True, None], "a": {"c": "\n☃", "b": (2, 3)}}

    expected = '{"a":{"b":[2,3],"c":"\\n☃"},"é":[1,1.0,-0.0,1e-07,true,null]}'.encode()
    assert canonical_json(value) == expected
    assert digest_of(value) == hashlib.sha256(expected).hexdigest()[:32]
    assert sha256_hex(memoryview(b"abc")).startswith("ba7816bf8f01cfea414140de5dae2223")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [0, float("nan")]}, r"nan at \$\.a\[1\]"),
        (float("inf"), r"inf at \$"),
        ({"a": {1: 2}}, r"text keys, got 1 at \$\.a"),
        ([np.int64(3)], r"int64 at \$\[0\]"),
        ({"a": b"x"}, r"bytes at \$\.a"),
        ({"a": {3}}, r"set at \$\.a"),
        (["\ud800"], r"surrogate .* at \$\[0\]"),
        ({"\ud800": 1}, r"surrogate .* at \$"),
    ],
)
def test_what_json_cannot_say_exactly_is_refused_by_place(value, place):
    with pytest.raises(FoundryError, match=place):
        canonical_json(value)
