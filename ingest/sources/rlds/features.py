"""The features of a TFDS dataset, and their values in a tf.train.Example, without TensorFlow.

features.json is read as the protocol buffer that it is (`tensorflow_datasets.core.proto`). The feature
classes of tensorflow-datasets are not used: some of them need TensorFlow, and making one imports whatever
module the file names. How an Example lays out values follows tensorflow-datasets' example_serializer.py:
names joined by '/', sequences flattened, sequences in sequences as `<name>/ragged_flat_values` with
`ragged_row_lengths_<k>`.

Legend: T steps, N values of one list.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Data, Refused
from robot_foundry.ingest.sources.rlds.example_wire import BYTES, FLOATS, INTEGERS, features

NUMBER, TEXT, IMAGE, PACKED, UNREAD = "number", "text", "image", "packed", "unread"
STEPS = "steps"
DEEPEST = 32
# A packed tensor may take this much memory.
LARGEST_TENSOR = 64 * 1024 * 1024
TEXT_TYPES = ("string", "object", "str")
NUMBER_TYPES = {"bool", "bfloat16", *(f"float{bits}" for bits in (16, 32, 64))}
NUMBER_TYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
RAGGED_VALUES, RAGGED_LENGTHS = "ragged_flat_values", "ragged_row_lengths_"


@dataclass(frozen=True)
class Leaf:
    """One feature. `path` is its name in an Example.

    `shape` is of one element (None: any), `lengths` are those of the sequences around it, outermost first.
    `encoding` is that of packed tensors. Records may lack an `optional` one. `note` says why an unread
    feature is not read.
    """

    path: str
    kind: str
    dtype: str = ""
    shape: tuple[int | None, ...] = ()
    lengths: tuple[int | None, ...] = ()
    encoding: str = ""
    optional: bool = False
    note: str = ""

    @property
    def per_step(self) -> bool:
        return self.path.startswith(f"{STEPS}/")

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which an Example holds it."""
        if self.kind == PACKED and self.shape.count(None) > 1:
            return f"{self.path}/value", f"{self.path}/shape"
        if len(self.lengths) < 2:
            return (self.path,)
        ranks = range(len(self.lengths) - 1)
        return (f"{self.path}/{RAGGED_VALUES}", *(f"{self.path}/{RAGGED_LENGTHS}{rank}" for rank in ranks))


@lru_cache(maxsize=8)
def read_features(text: bytes) -> tuple[Leaf, ...]:
    """The leaves in features.json, by name. Refused if it describes no episodes of steps."""
    from google.protobuf import json_format
    from tensorflow_datasets.core.proto import feature_pb2

    try:
        values = json.loads(text)
        if isinstance(values, dict) and "type" in values:
            raise Refused("features.json is in the form that tensorflow-datasets wrote before version 4.3")
        root = json_format.ParseDict(values, feature_pb2.Feature(), ignore_unknown_fields=True)
    except (ValueError, json_format.ParseError, RecursionError) as error:
        raise Refused(f"features.json is damaged ({' '.join(str(error).split())[:200]})") from error
    steps = root.features_dict.features.get(STEPS)
    if steps is None or steps.WhichOneof("content") != "sequence":
        raise Refused("features.json has no sequence 'steps', so its records are no episodes")
    leaves = tuple(sorted(_leaves(root, "", ()), key=lambda leaf: leaf.path))
    names = [name for leaf in leaves for name in leaf.names]
    if len(set(names)) < len(names):
        raise Refused("features.json gives one name to two features")
    return leaves


def _leaves(feature: Any, path: str, lengths: tuple[int | None, ...]) -> Iterator[Leaf]:
    if path.count("/") > DEEPEST or len(lengths) > DEEPEST:
        raise Refused(f"features.json nests features more than {DEEPEST} deep")
    content = feature.WhichOneof("content")
    if content == "features_dict":
        for name in feature.features_dict.features:
            inner = feature.features_dict.features[name]
            yield from _leaves(inner, f"{path}/{name}" if path else name, lengths)
    elif content == "sequence":
        length = feature.sequence.length
        yield from _leaves(feature.sequence.feature, path, (*lengths, length if length >= 0 else None))
    else:
        yield _leaf(feature, content, path, lengths)


def _leaf(feature: Any, content: str | None, path: str, lengths: tuple[int | None, ...]) -> Leaf:
    if content == "text":
        return Leaf(path, TEXT, lengths=lengths)
    if content == "class_label":
        return Leaf(path, NUMBER, "int64", lengths=lengths)
    if content == "bounding_box":
        return Leaf(path, NUMBER, "float32", (4,), lengths)
    if content == "image":
        image = feature.image
        return Leaf(path, IMAGE, image.dtype or "uint8", _shape(image.shape), lengths)
    if content == "tensor":
        tensor = feature.tensor
        shape, encoding = _shape(tensor.shape), tensor.encoding.lower() or "none"
        if tensor.dtype in TEXT_TYPES:
            return Leaf(path, TEXT, tensor.dtype, shape, lengths, optional=tensor.optional)
        kind = NUMBER if encoding == "none" else PACKED
        return Leaf(path, kind, tensor.dtype, shape, lengths, encoding, tensor.optional)
    name = feature.python_class_name.rsplit(".", 1)[-1]
    return Leaf(path, UNREAD, lengths=lengths, note=f"features of class {name or 'none'} are not read")


def _shape(shape: Any) -> tuple[int | None, ...]:
    return tuple(size if size >= 0 else None for size in shape.dimensions)


class Example:
    """The values of one record by the names of features.

    A method raises Refused where the record is not what features.json says.
    """

    def __init__(self, record: bytes) -> None:
        from google.protobuf.message import DecodeError

        try:
            self._features = features(record)
        except DecodeError as error:
            raise Refused("it is no tf.train.Example") from error

    def names(self) -> set[str]:
        return set(self._features)

    def _list(self, name: str, *kinds: str) -> Any:
        """The values under the name; an empty list has no kind in an Example, and may be absent."""
        feature = self._features.get(name)
        if feature is None or feature.kind is None:
            return ()
        if feature.kind not in kinds:
            raise Refused(f"'{name}' holds a {feature.kind}, and features.json says {kinds[0]}")
        return feature.values

    def bytes_of(self, name: str) -> Any:
        """The byte strings under the name, in order, as views of the record where that is as usual."""
        return self._list(name, BYTES)

    def numbers(self, name: str, dtype: str) -> NDArray[Any]:
        """The numbers under the name [N]. Floats are float32, as an Example holds them whatever the dtype."""
        declared = _dtype(name, dtype)
        if declared.kind not in "biu":
            return np.array(self._list(name, FLOATS), np.float32)
        values_N = np.array(self._list(name, INTEGERS), np.int64)
        if declared == np.uint64:
            return values_N.view(np.uint64)
        stored_N = values_N.astype(declared)
        if not np.array_equal(stored_N.astype(np.int64), values_N):
            raise Refused(f"'{name}' holds numbers that are no {dtype}")
        return stored_N

    def num_steps(self, leaf: Leaf) -> int | None:
        """How many steps this record has by the feature; None if the feature cannot tell."""
        if len(leaf.lengths) > 1:
            return len(self._list(f"{leaf.path}/{RAGGED_LENGTHS}0", INTEGERS))
        if leaf.kind in (IMAGE, PACKED) or (leaf.kind == TEXT and not leaf.shape):
            return len(self.bytes_of(leaf.names[0]))
        if leaf.kind in (TEXT, UNREAD) or None in leaf.shape or prod(_fixed_sizes(leaf.shape)) == 0:
            return None
        num_values, size = len(self._list(leaf.path, FLOATS, INTEGERS)), prod(_fixed_sizes(leaf.shape))
        if num_values % size:
            raise Refused(f"'{leaf.path}' has {num_values} numbers, which is no multiple of {size}")
        return num_values // size

    def arrays(self, leaf: Leaf, num_steps: int) -> dict[str, NDArray[Any]]:
        """The feature's numbers: [T, *shape], and those outside the steps without T.

        Sequences whose lengths differ stay as an Example has them, flat values and row lengths.
        """
        rank = len(leaf.lengths)
        if leaf.kind == PACKED:
            return {leaf.path: self._unpacked(leaf, num_steps)}
        if rank < 2:
            first = () if rank == 0 else (num_steps if leaf.per_step else None,)
            return {leaf.path: _shaped(leaf.path, self.numbers(leaf.path, leaf.dtype), (*first, *leaf.shape))}
        lengths = [self.numbers(name, "int64") for name in leaf.names[1:]]
        values = _shaped(leaf.path, self.numbers(leaf.names[0], leaf.dtype), (None, *leaf.shape))
        for outer, inner in zip(lengths, [*(len(each) for each in lengths[1:]), len(values)], strict=True):
            if (outer < 0).any() or outer.sum() != inner:
                raise Refused(f"the row lengths of '{leaf.path}' do not add up to its values")
        fixed = leaf.lengths[1:]
        if all(size is not None and (each == size).all() for size, each in zip(fixed, lengths, strict=True)):
            return {leaf.path: values.reshape(len(lengths[0]), *_fixed_sizes(fixed), *values.shape[1:])}
        return dict(zip(leaf.names, (values, *lengths), strict=True))

    def _unpacked(self, leaf: Leaf, num_steps: int) -> NDArray[Any]:
        """Tensors that are stored as bytes, [T, *shape] or *shape."""
        dtype, name = _dtype(leaf.path, leaf.dtype), leaf.names[0]
        if leaf.encoding not in ("bytes", "zlib") or len(leaf.lengths) > 1:
            raise Refused(f"the encoding '{leaf.encoding}' of '{leaf.path}' is not known")
        packed = self.bytes_of(name)
        shape = leaf.shape
        if len(leaf.names) > 1:
            shapes = self.numbers(leaf.names[1], "int64").reshape(-1, len(shape))
            if len(shapes) != len(packed) or len(set(map(tuple, shapes.tolist()))) > 1:
                raise Refused(f"the tensors of '{leaf.path}' have unlike shapes: skip it in the spec")
            shape = tuple(int(size) for size in shapes[0]) if len(shapes) else ()
        expected = (num_steps if leaf.per_step else len(packed)) if leaf.lengths else 1
        if not packed or len(packed) != expected:
            raise Refused(f"'{leaf.path}' has {len(packed)} tensors, not {expected}")
        tensors = [
            _shaped(leaf.path, np.frombuffer(_inflated(leaf, data, shape, dtype), dtype), shape)
            for data in packed
        ]
        if len({tensor.shape for tensor in tensors}) > 1:
            raise Refused(f"the tensors of '{leaf.path}' have unlike shapes: skip it in the spec")
        return np.stack(tensors) if leaf.lengths else tensors[0]


def _inflated(leaf: Leaf, data: Data, shape: tuple[int | None, ...], dtype: np.dtype[Any]) -> bytes:
    is_fixed = None not in shape and all(size >= 0 for size in _fixed_sizes(shape))
    expected = prod(_fixed_sizes(shape)) * dtype.itemsize if is_fixed else LARGEST_TENSOR
    if expected > LARGEST_TENSOR:
        raise Refused(f"a tensor of '{leaf.path}' takes {expected} bytes: skip it in the spec")
    if leaf.encoding == "bytes":
        unpacked, whole = bytes(data), True
    else:
        inflate = zlib.decompressobj()
        try:
            unpacked = inflate.decompress(data, expected + 1)
        except zlib.error as error:
            raise Refused(f"a tensor of '{leaf.path}' is damaged ({error})") from error
        whole = inflate.eof
    if not whole or len(unpacked) % dtype.itemsize or (is_fixed and len(unpacked) != expected):
        raise Refused(f"a tensor of '{leaf.path}' does not have the size that features.json says")
    return unpacked


def _dtype(name: str, dtype: str) -> np.dtype[Any]:
    """NumPy's type of that name; bfloat16, which NumPy lacks, is a float like the others in an Example."""
    if dtype not in NUMBER_TYPES:
        raise Refused(f"'{name}' is of type {dtype!r}, which is no type of numbers")
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def _fixed_sizes(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size is not None)


def _shaped(name: str, values_N: NDArray[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
    """The flat values in that shape, of which one size may be open."""
    whole = prod(_fixed_sizes(shape))
    is_open = None in shape
    if shape.count(None) > 1 or (values_N.size % whole if is_open and whole else values_N.size != whole):
        expected = ", ".join("?" if size is None else str(size) for size in shape)
        raise Refused(
            f"'{name}' has {values_N.size} numbers, which do not make an array of shape [{expected}]"
        )
    if is_open and whole == 0:
        return values_N.reshape([0 if size is None else size for size in shape])
    return values_N.reshape([-1 if size is None else size for size in shape])
