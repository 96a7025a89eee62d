"""Examples that are walked must hold what protocol buffers find in them, whoever wrote them, and however."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from robot_foundry.ingest.sources.rlds import example_wire
from robot_foundry.ingest.sources.rlds.example_wire import features

KINDS = {
    "bytes_list": (tf_feature_pb2.BytesList, st.binary(max_size=300)),
    "float_list": (tf_feature_pb2.FloatList, st.floats(width=32, allow_nan=False)),
    "int64_list": (tf_feature_pb2.Int64List, st.integers(-(2**63), 2**63 - 1)),
}


def feature_of(kind, values):
    if kind is None:
        return tf_feature_pb2.Feature()
    return tf_feature_pb2.Feature(**{kind: KINDS[kind][0](value=values)})


def example_of(named):
    listed = {name: feature_of(kind, values) for name, (kind, values) in named.items()}
    return tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=listed)).SerializeToString()


def plain(found):
    return {
        name: (f.kind, [bytes(v) if f.kind == "bytes_list" else v for v in f.values])
        for name, f in found.items()
    }


def by_protocol_buffers(record):
    told = {}
    for name, feature in tf_example_pb2.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        told[name] = (kind, [] if kind is None else list(getattr(feature, kind).value))
    return told


LISTS = st.one_of(
    st.tuples(st.none(), st.just([])),
    *(st.tuples(st.just(kind), st.lists(values, max_size=4)) for kind, (_, values) in KINDS.items()),
)
EXAMPLES = st.dictionaries(st.text(max_size=5), LISTS, max_size=5).map(example_of)


@given(EXAMPLES)
def test_any_example_holds_what_protocol_buffers_find(record):
    assert plain(features(record)) == by_protocol_buffers(record)


@given(EXAMPLES, EXAMPLES)
def test_examples_joined_end_to_end_are_merged_as_protocol_buffers_do(first, second):
    assert plain(features(first + second)) == by_protocol_buffers(first + second)


@given(EXAMPLES, st.data())
def test_damage_is_found_where_protocol_buffers_find_it(record, data):
    damaged = bytearray(record)
    for _ in range(data.draw(st.integers(1, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        expected = by_protocol_buffers(damaged)
    except DecodeError:
        with pytest.raises(DecodeError):
            features(damaged)
    else:
        # As text, because damage makes NaN; the maps of protocol buffers have no order.
        assert repr(sorted(plain(features(damaged)).items())) == repr(sorted(expected.items()))


def test_a_serialised_example_is_walked_and_its_bytes_are_not_copied(monkeypatch):
    monkeypatch.delattr(example_wire, "_decoded")
    named = {"image": ("bytes_list", [b"a" * 200, b""]), "x": ("float_list", [1.5]), "none": (None, [])}
    record = example_of(named)
    found = features(record)
    assert plain(found) == named | {"none": (None, [])}
    assert all(value.obj is record for value in found["image"].values)
