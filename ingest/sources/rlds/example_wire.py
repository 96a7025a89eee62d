"""The features of a serialised tf.train.Example, its byte strings as views of the record.

    Example  1: Features      Feature    1: BytesList, 2: FloatList or 3: Int64List
    Features 1: Entry …       BytesList  1: bytes …
    Entry    1: name, 2: Feature

Protocol buffers copy each value twice, and images are most of a record. Here is walked what serialisers
write: every name once, and every field in its place. Whatever else the format allows is left to protocol
buffers, which know what it means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BYTES, FLOATS, INTEGERS = "bytes_list", "float_list", "int64_list"
# The tag of a field that is a run of bytes: its number, and the wire type 2. Behind it lies the length.
FIRST, SECOND, THIRD = (number << 3 | 2 for number in (1, 2, 3))
LONGEST_LENGTH = 63  # bits


@dataclass(frozen=True)
class Feature:
    """The values of one feature; `kind` is None, and there are none, where the record does not say it."""

    kind: str | None
    values: Sequence[Any]


class _Unusual(Exception):
    """The record is damaged, or in a form that is not walked."""


def features(record: bytes) -> dict[str, Feature]:
    """The features by name. google.protobuf.message.DecodeError if the record is no Example."""
    from google.protobuf.message import DecodeError

    try:
        return _walked(memoryview(record))
    except (_Unusual, DecodeError):
        return _decoded(record)


def _decoded(record: bytes) -> dict[str, Feature]:
    """By protocol buffers alone."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = {}
    for name, feature in tf_example_pb2.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        features[name] = Feature(kind, () if kind is None else getattr(feature, kind).value)
    return features


def _walked(record: memoryview) -> dict[str, Feature]:
    by_name: dict[str, Feature] = {}
    (listed,) = _messages(record, FIRST)
    for tag, entry in _fields(listed):
        encoded, feature = _messages(entry, FIRST, SECOND)
        name = _text(encoded)
        if tag != FIRST or name in by_name:
            raise _Unusual
        by_name[name] = _feature(feature)
    return by_name


def _feature(message: memoryview) -> Feature:
    from tensorflow_datasets.proto import tf_feature_pb2

    if not message:
        return Feature(None, ())
    ((tag, values),) = _several(message, 1)
    if tag == FIRST:
        return Feature(BYTES, _strings(values))
    if tag == SECOND:
        return Feature(FLOATS, tf_feature_pb2.FloatList.FromString(values.tobytes()).value)
    if tag == THIRD:
        return Feature(INTEGERS, tf_feature_pb2.Int64List.FromString(values.tobytes()).value)
    raise _Unusual


def _messages(message: memoryview, *tags: int) -> list[memoryview]:
    """The fields of a message that has just those of the tags, in that order."""
    fields = _several(message, len(tags))
    if tuple(tag for tag, _ in fields) != tags:
        raise _Unusual
    return [field for _, field in fields]


def _several(message: memoryview, count: int) -> list[tuple[int, memoryview]]:
    fields = list(_fields(message))
    if len(fields) != count:
        raise _Unusual
    return fields


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Tag and bytes of each field, all of which must be runs of bytes."""
    start, size = 0, len(message)
    while start < size:
        tag, position, length, shift = message[start], start + 1, 0, 0
        while position < size and shift < LONGEST_LENGTH:
            byte = message[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            raise _Unusual
        start = position + length
        if tag not in (FIRST, SECOND, THIRD) or start > size:
            raise _Unusual
        yield tag, message[position:start]


def _strings(message: memoryview) -> list[memoryview]:
    """As `_fields` of a message that has the first tag alone: the images of an episode."""
    strings, start, size = [], 0, len(message)
    try:
        while start < size:
            byte, position, shift = message[start + 1], start + 2, 7
            length = byte & 0x7F
            while byte >= 0x80 and shift < LONGEST_LENGTH:
                byte = message[position]
                length |= (byte & 0x7F) << shift
                position, shift = position + 1, shift + 7
            if message[start] != FIRST or byte >= 0x80:
                raise _Unusual
            start = position + length
            strings.append(message[position:start])
    except IndexError:
        raise _Unusual from None
    if start != size:
        raise _Unusual
    return strings


def _text(encoded: memoryview) -> str:
    try:
        return encoded.tobytes().decode("utf-8")
    except UnicodeDecodeError:
        raise _Unusual from None
