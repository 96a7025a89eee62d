"""The members table of a tar: where each member's bytes lie, derived from the tar alone.

Columns: key, name (string), offset, size (uint64, of the payload in the tar), crc32c (uint32). The schema's
metadata holds `format`, `tar_sha256`, `tar_bytes` and `table_crc32c`, the checksum of all this, because Arrow
has none. Rows are in tar order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.storage.storage import Storage
from robot_foundry.shards.headers import TarScan

FORMAT = "robot_foundry.members.v1"
FIELDS = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("name", pa.string(), nullable=False),
    pa.field("offset", pa.uint64(), nullable=False),
    pa.field("size", pa.uint64(), nullable=False),
    pa.field("crc32c", pa.uint32(), nullable=False),
]
_BLOCK = 512

MemberRow = tuple[str, str, int, int, int]  # in the order of FIELDS


def members_table(rows: Sequence[MemberRow], tar_sha256: str, tar_bytes: int) -> pa.Table:
    """The rows as an Arrow table; `tar_sha256` (64 hex digits) and `tar_bytes` describe the whole tar."""
    columns: list[tuple] = list(zip(*rows, strict=True)) or [()] * len(FIELDS)
    arrays = [pa.array(column, f.type) for column, f in zip(columns, FIELDS, strict=True)]
    metadata = {"format": FORMAT, "tar_sha256": tar_sha256, "tar_bytes": str(tar_bytes)}
    metadata["table_crc32c"] = _table_crc32c(tar_sha256.encode(), str(tar_bytes).encode(), arrays)
    return pa.Table.from_arrays(arrays, schema=pa.schema(FIELDS, metadata=metadata))


def index_of_tar(fileobj: BinaryIO, where: str = "tar") -> pa.Table:
    """The members table of a tar read from its start: the same table that its writer returned.

    Any tar of uniquely named regular files can be indexed, whoever wrote it; `headers` says what is refused.
    """
    scan = TarScan(fileobj, where)
    rows: list[MemberRow] = []
    names: set[str] = set()
    for member in scan:
        if member.name in names:
            raise FoundryError(f"{where} cannot be indexed: it has two members named {member.name!r}")
        names.add(member.name)
        rows.append((member.name.split(".")[0], member.name, member.offset, member.size, member.crc32c))
    return members_table(rows, scan.sha256, scan.num_bytes)


def tar_sha256(index: pa.Table) -> str:
    """SHA-256 (64 hex digits) of the tar that the index was made from."""
    return index.schema.metadata[b"tar_sha256"].decode()


def tar_bytes(index: pa.Table) -> int:
    """Size of the tar that the index was made from."""
    return int(index.schema.metadata[b"tar_bytes"])


def write_index(table: pa.Table) -> bytes:
    """The table as one uncompressed Arrow IPC file, so that a reader can map it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()


def read_index(storage: Storage, path: str) -> pa.Table:
    """The members table at `path`, memory-mapped when local. FoundryError if it is damaged or of no use."""
    local = storage.local_path(path)
    where = str(local) if local else f"{storage.url}/{path}"
    try:
        if local and storage.exists(path):
            source = pa.memory_map(str(local))
        else:
            source = pa.BufferReader(storage.read_bytes(path))
        table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)  # before anything follows an offset in it
        table = table.combine_chunks()
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FoundryError) or (isinstance(error, OSError) and error.errno):
            raise  # not of the content: the file is not there, or the system refuses
        raise bad_index(where, f"is not a readable index: {error}") from error
    _check(table, where)
    return table


def bad_index(where: str, what: str) -> FoundryError:
    """An index that cannot be used; it can always be made anew from its tar."""
    return FoundryError(f"{where} {what}", hint="foundry-data index TAR makes it anew")


def _check(table: pa.Table, where: str) -> None:
    metadata = table.schema.metadata or {}
    if metadata.get(b"format") != FORMAT.encode():
        raise bad_index(where, f"has format {metadata.get(b'format')!r} in place of {FORMAT!r}")
    if not table.schema.equals(pa.schema(FIELDS)) or any(column.null_count for column in table.columns):
        raise bad_index(where, "does not have the columns of a members table")
    if not (metadata.get(b"tar_bytes", b"").isdigit() and len(metadata.get(b"tar_sha256", b"")) == 64):
        raise bad_index(where, "does not say which tar it belongs to")
    arrays = [column.combine_chunks() for column in table.columns]
    checksum = _table_crc32c(metadata[b"tar_sha256"], metadata[b"tar_bytes"], arrays)
    if metadata.get(b"table_crc32c") != checksum.encode():
        raise bad_index(where, "is damaged: its checksum differs")
    end = tar_bytes(table)
    offset_N, size_N = table["offset"].to_numpy(), table["size"].to_numpy()
    # Bounded before they are added, in int64: hostile values near 2^64 would wrap around.
    fits = end < 1 << 62 and bool((offset_N <= end).all() and (size_N <= end).all())
    if not fits or not _in_order(offset_N.astype(np.int64), size_N.astype(np.int64), end):
        raise bad_index(where, f"has members out of order or outside the {end} bytes of its tar")


def _in_order(offset_N: NDArray[np.int64], size_N: NDArray[np.int64], end: int) -> bool:
    """Whether each member lies after the padded one before it and a header, and inside the tar."""
    after_N = offset_N + size_N
    earliest_N = np.concatenate([[0], after_N + -after_N % _BLOCK])[:-1] + _BLOCK
    return bool((offset_N >= earliest_N).all() and (after_N <= end).all())


def _table_crc32c(tar_sha256: bytes, tar_bytes: bytes, columns: Sequence[pa.Array]) -> str:
    """8 hex digits: CRC-32C over hash and size of the tar in ASCII, each with a line end, then the columns.

    Of numbers their little-endian bytes; of text the int32 lengths, then the UTF-8.
    """
    crc = google_crc32c.value(b"%b\n%b\n" % (tar_sha256, tar_bytes))
    for column in filter(len, columns):  # an empty one may lack its buffers
        if pa.types.is_string(column.type):
            _, offsets, payload = column.buffers()
            offset_N = np.frombuffer(offsets, "<i4", len(column) + 1, 4 * column.offset)
            crc = google_crc32c.extend(crc, np.diff(offset_N).tobytes())
            crc = google_crc32c.extend(crc, bytes(payload or b"")[offset_N[0] : offset_N[-1]])
        else:
            crc = google_crc32c.extend(crc, column.to_numpy().tobytes())
    return f"{crc:08x}"
