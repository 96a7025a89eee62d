"""Canonical tables: Arrow files that are proven when they are opened, and a digest of their values.

Legend: N rows, D dims.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.store import Store
from robot_foundry.catalog.table_file import MeasuredFile, TableFile, open_table
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError


def matrix_column(values_ND: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """float32 [N, D] as a fixed-size-list column."""
    values_ND = np.ascontiguousarray(values_ND, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values_ND.reshape(-1)), type=pa.list_(pa.float32(), values_ND.shape[1])
    )


def column_matrix(table: pa.Table, column: str) -> NDArray[np.float32]:
    """A fixed-size-list column as float32 [N, D]; a view of the Arrow buffer where it is one chunk."""
    chunked = table.column(column)
    num_dims = chunked.type.list_size
    if chunked.num_chunks == 0:
        return np.zeros((0, num_dims), np.float32)
    array = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
    return array.flatten().to_numpy(zero_copy_only=True).reshape(-1, num_dims)


def write_table(table: pa.Table) -> bytes:
    """`table` as an uncompressed Arrow IPC file of one record batch, without schema metadata."""
    sink = BytesIO()
    save_table(table.combine_chunks(), sink)
    return sink.getvalue()


def save_table(table: pa.Table, file: BinaryIO | MeasuredFile) -> None:
    """As `write_table`, into a file, with a record batch for each chunk of the table."""
    plain = table.replace_schema_metadata(None)
    with pa.ipc.new_file(file, plain.schema) as writer:
        writer.write_table(plain)


def named_table(store: Store, version: Version, name: str, file: TableFile, schema: pa.Schema) -> pa.Table:
    """The table `name` of a version, proven to be what its manifest names; FoundryError if it is not.

    It is memory-mapped where the store is local.
    """
    path = store.table(version.dataset, version.version_id, name)
    try:
        return open_table(store.storage, path, file, schema, store.proven)
    except FoundryError as error:
        raise FoundryError(
            f"table '{name}' of {version}: {error.message}", hint=f"foundry-data validate {version}"
        ) from error


def table_digest(table: pa.Table) -> str:
    """32 hex digits that depend on the names, logical types and values of the columns, in order, alone.

    Chunking, buffer padding and offsets, schema metadata, field nullability, validity bitmaps of columns
    without nulls, and 32- or 64-bit string offsets have no influence. The digest is

        digest_of({"columns": [{"name", "type", "sha256"}, …], "rows": N})

    where `sha256` is over the column's bytes in row order: N validity bytes (1 valid, 0 null), then the
    payload:

    - bool: one byte a row, 0 or 1; integers and floats: little-endian, at their width;
    - string, binary: N int64 lengths (little-endian), then all bytes (UTF-8 for strings), concatenated;
    - fixed_size_list: the column bytes (validity, payload) of its N·D child values;
    - list: N int64 lengths, then the column bytes of all child values, concatenated.

    A null holds zero bytes (value 0, length 0, all-zero list with valid children). Every NaN is the quiet NaN
    with sign 0 and payload 0 (0x7fc00000, 0x7ff8000000000000); -0.0 and 0.0 differ. `type` is bool, int8 …
    uint64, float32 (Arrow's "float"), float64, string, binary, fixed_size_list<child>[D] or list<child>.
    """
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        hasher = hashlib.sha256()
        _hash_chunks(column.chunks, column.type, hasher, name)
        columns.append({"name": name, "type": _type_name(column.type, name), "sha256": hasher.hexdigest()})
    return digest_of({"columns": columns, "rows": table.num_rows})


def _type_name(kind: pa.DataType, name: str) -> str:
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_type_name(kind.value_type, name)}>[{kind.list_size}]"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_type_name(kind.value_type, name)}>"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "binary"
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return str(kind)
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return "float32" if pa.types.is_float32(kind) else "float64"
    raise FoundryError(f"column '{name}' has type {kind}, which a canonical table cannot hold")


def _hash_chunks(chunks: Sequence[pa.Array], kind: pa.DataType, hasher: hashlib._Hash, name: str) -> None:
    """As if the chunks were one array."""
    for chunk in chunks:
        valid_N = np.asarray(chunk.is_valid().to_numpy(zero_copy_only=False), dtype=np.uint8)
        hasher.update(valid_N.tobytes())
    if pa.types.is_fixed_size_list(kind):
        _hash_chunks([_children(chunk) for chunk in chunks], kind.value_type, hasher, name)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        for chunk in chunks:
            lengths_N = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
            hasher.update(lengths_N.astype("<i8").tobytes())
        _hash_chunks([chunk.flatten() for chunk in chunks], kind.value_type, hasher, name)
    elif _type_name(kind, name) in ("string", "binary"):
        payloads = [chunk.cast(pa.large_binary()) for chunk in chunks]
        for payload in payloads:
            lengths_N = pc.fill_null(pc.binary_length(payload), 0).to_numpy(zero_copy_only=False)
            hasher.update(lengths_N.astype("<i8").tobytes())
        for payload in payloads:
            hasher.update(_joined(payload))
    else:
        for chunk in chunks:
            hasher.update(_fixed_width_bytes(chunk))


def _children(lists: pa.FixedSizeListArray) -> pa.Array:
    """The values of all lists; zeros for a list that is null."""
    if lists.null_count:
        zeros = pa.scalar([0] * lists.type.list_size, type=lists.type)
        lists = pc.if_else(lists.is_valid(), lists, zeros)
    return lists.flatten()


def _joined(array: pa.LargeBinaryArray) -> memoryview | bytes:
    """The bytes of all values, one behind the other; without a copy where no value is null."""
    if array.null_count or not len(array):
        return b"".join(value for value in array.to_pylist() if value)
    _, offsets, payload = array.buffers()
    offset_N = np.frombuffer(offsets, np.int64, len(array) + 1, 8 * array.offset)
    return memoryview(payload)[offset_N[0] : offset_N[-1]] if payload else b""


def _fixed_width_bytes(array: pa.Array) -> bytes:
    kind = array.type
    if array.null_count:
        array = pc.fill_null(array, pa.scalar(False if pa.types.is_boolean(kind) else 0, type=kind))
    values_N = array.to_numpy(zero_copy_only=False)
    if values_N.dtype == np.bool_:
        return values_N.astype(np.uint8).tobytes()
    if values_N.dtype.kind == "f" and np.isnan(values_N).any():
        values_N = np.where(np.isnan(values_N), values_N.dtype.type(np.nan), values_N)
    return values_N.astype(values_N.dtype.newbyteorder("<")).tobytes()
