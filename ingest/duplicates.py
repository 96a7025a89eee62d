"""Which groups of a source (documents, pairs) are equal to earlier ones: the first of equal ones stays.

Workers hash the groups of units, and keep the hashes in the cache of the store under what the units are, so
that a later run reads only what is new. Then repeats are found partition by partition, so that memory holds
the hashes of some groups, never of all.

Legend: D groups, U units, 2 halves of a hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryDirectory
from typing import Any, Protocol, TypeVar

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.plan import grouped
from robot_foundry.ingest.sources import Refused, Unit
from robot_foundry.ingest.sources.base import UNKNOWN
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.runtime.canonical import digest_of
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.parallel import Workers
from robot_foundry.runtime.progress import Progress
from robot_foundry.runtime.storage.storage import Storage

HASH_BYTES, COUNT_BYTES, CRC_BYTES = 16, 8, 4
# So many hashes are compared at once, in some 100 bytes each.
MOST_AT_ONCE = 1 << 22
READ_BYTES = 1 << 24
_RECORD = np.dtype([("half_2", "<u8", 2), ("ordinal", "<u8")])
# Of a group in its unit, as `Unit.dropped` has it.
NUMBER = np.dtype("<u4")
T = TypeVar("T")


class Hashing(Protocol):
    """What a kind compares of the groups of its units; it goes to workers.

    `name` is that of what is compared, in the plural, and of its folder in the cache. `decisive` is JSON of
    all but the units that decides the hashes.
    """

    @property
    def name(self) -> str: ...

    @property
    def decisive(self) -> dict[str, Any]: ...

    def hashes(self, unit: Unit) -> Iterator[bytes]:
        """HASH_BYTES of each usable group of the unit, which lies in local files, in order.

        Refused, at any of them, if the unit is.
        """
        ...


@dataclass(frozen=True)
class Hashes:
    """The hashes of the usable groups of some units, at `path` in the cache, and how many each has."""

    path: str
    count_U: tuple[int, ...]

    def blocks(self, cache: Storage) -> Iterator[NDArray[np.uint64]]:
        """The hashes [D, 2], some at once."""
        end = sum(self.count_U) * HASH_BYTES
        for start in range(0, end, READ_BYTES):
            data = cache.read_range(self.path, start, min(READ_BYTES, end - start))
            yield np.frombuffer(data, "<u8").reshape(-1, 2)


def without_duplicates(
    groups: Sequence[Sequence[Unit]],
    hashing: Hashing,
    workers: Workers,
    cache: Storage,
    *,
    quiet: bool = True,
    most_at_once: int = MOST_AT_ONCE,
) -> tuple[list[list[Unit]], int]:
    """The units with the numbers of their duplicates in `dropped`, and how many these are in all.

    Some units are what one worker hashes in one go, and what is kept together: those of a shard, best. Units
    need the fingerprints of their files. The same sources give the same result however they are put together.
    """
    by_group: dict[int, Hashes] = {}
    with Progress(sum(map(len, groups)), "units", f"compare {hashing.name}", quiet=quiet) as progress:
        for index, found in workers.map(partial(hashes_of, hashing=hashing, cache=cache), groups):
            by_group[index] = found
            progress.advance(len(groups[index]))
    in_order = [by_group[index] for index in range(len(groups))]
    count_U = np.array([count for hashes in in_order for count in hashes.count_U], np.uint64)
    blocks = (block for hashes in in_order for block in hashes.blocks(cache))
    ordinal_D = repeated(blocks, int(count_U.sum()), most_at_once)
    end_U = np.cumsum(count_U)
    of_units = np.split(ordinal_D, np.searchsorted(ordinal_D, end_U)[:-1])
    dropped = (
        (of_unit_D - start).astype(NUMBER).tobytes()
        for of_unit_D, start in zip(of_units, end_U - count_U, strict=True)
    )
    return [[replace(unit, dropped=next(dropped)) for unit in group] for group in groups], len(ordinal_D)


def compared(
    units: Sequence[Unit], spec: SourceSpec, hashing: Hashing, store: Store, workers: Workers, *, quiet: bool
) -> list[Unit]:
    """`without_duplicates` of the units of a plan, those of a shard together; see `IngestKind.compared`."""
    groups = list(grouped(units, spec))
    without, _ = without_duplicates(groups, hashing, workers, store.storage, quiet=quiet)
    return [unit for group in without for unit in group]


def marked(unit: Unit, usable: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Each of the unit's usable groups, and whether it is equal to an earlier one and left out.

    FoundryError, at the end, if the unit has fewer groups than when they were compared.
    """
    dropped = iter(np.frombuffer(unit.dropped, NUMBER).tolist())
    upcoming = next(dropped, None)
    for number, group in enumerate(usable):
        is_dropped = number == upcoming
        if is_dropped:
            upcoming = next(dropped, None)
        yield group, is_dropped
    if upcoming is not None:
        raise FoundryError(
            f"{unit.name} no longer has all that was compared with other units",
            hint="run the same command when the source is complete",
        )


def hashes_of(units: Sequence[Unit], hashing: Hashing, cache: Storage) -> Hashes:
    """The hashes of the units' usable groups, from the cache or computed and put there."""
    path = _path(units, hashing)
    count_U = _kept(cache, path, len(units))
    if count_U is None:
        count_U = _computed(units, hashing, cache, path)
    return Hashes(path, count_U)


def repeated(blocks: Iterable[NDArray[np.uint64]], total: int, most_at_once: int) -> NDArray[np.uint64]:
    """The ordinals, ascending, of the hashes [D, 2] in `blocks` that are equal to one before them.

    More than `most_at_once` in `total` are parted by their first bits into temporary files.
    """
    num_parts = 1 << max(0, -(-total // most_at_once) - 1).bit_length()
    records = _numbered(blocks, most_at_once)
    if num_parts == 1:
        return np.sort(_repeated(records))
    with TemporaryDirectory(prefix="robot-foundry-") as folder:
        paths = [Path(folder, str(number)) for number in range(num_parts)]
        _part(records, paths)
        found = [_repeated(_read(path, most_at_once)) for path in paths]
    return np.sort(np.concatenate(found))


def _numbered(blocks: Iterable[NDArray[np.uint64]], most_at_once: int) -> Iterator[NDArray]:
    ordinal = 0
    for block in blocks:
        for start in range(0, len(block), most_at_once):
            hash_D2 = block[start : start + most_at_once]
            record_D = np.empty(len(hash_D2), _RECORD)
            record_D["half_2"] = hash_D2
            record_D["ordinal"] = np.arange(ordinal, ordinal + len(hash_D2), dtype=np.uint64)
            ordinal += len(hash_D2)
            yield record_D


def _part(records: Iterable[NDArray], paths: Sequence[Path]) -> None:
    """Write each record to the file that the first bits of its hash tell."""
    shift = np.uint64(64 - (len(paths).bit_length() - 1))
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for record_D in records:
            part_D = record_D["half_2"][:, 0] >> shift
            order_D = np.argsort(part_D, kind="stable")
            bounds = np.searchsorted(part_D[order_D], np.arange(len(paths) + 1, dtype=np.uint64))
            for number in range(len(paths)):
                files[number].write(record_D[order_D[bounds[number] : bounds[number + 1]]].tobytes())


def _read(path: Path, most_at_once: int) -> Iterator[NDArray]:
    with path.open("rb") as file:
        while len(record_D := np.fromfile(file, _RECORD, most_at_once)):
            yield record_D


def _repeated(records: Iterable[NDArray]) -> NDArray[np.uint64]:
    """The ordinals of what is equal to an earlier record. Held are the unlike ones and one block."""
    seen_D = np.empty(0, _RECORD)
    found = [np.empty(0, np.uint64)]
    for record_D in records:
        both_D = np.concatenate([seen_D, record_D])
        half_D2 = both_D["half_2"]
        order_D = np.lexsort((half_D2[:, 1], half_D2[:, 0]))  # stable, so the first of equal ones is first
        half_D2 = half_D2[order_D]
        is_again_D = np.concatenate([[False], (half_D2[1:] == half_D2[:-1]).all(1)])
        found.append(both_D["ordinal"][order_D[is_again_D]])
        seen_D = both_D[order_D[~is_again_D]]
    return np.concatenate(found)


def _path(units: Sequence[Unit], hashing: Hashing) -> str:
    assert all(unit.file.blake3 != UNKNOWN for unit in units)
    files = [[unit.file.path, unit.id, unit.file.fingerprint] for unit in units]
    return f"cache/{hashing.name}/{digest_of({**hashing.decisive, 'units': files})}.hashes"


def _kept(cache: Storage, path: str, num_units: int) -> tuple[int, ...] | None:
    """The counts at the end of a file of hashes; None if there is none that is whole."""
    if not cache.exists(path):
        return None
    end, crc = cache.size(path) - CRC_BYTES, 0
    tail = num_units * COUNT_BYTES
    if end < tail:
        return None
    for start in range(0, end, READ_BYTES):
        crc = google_crc32c.extend(crc, cache.read_range(path, start, min(READ_BYTES, end - start)))
    if cache.read_range(path, end, CRC_BYTES) != crc.to_bytes(CRC_BYTES):
        return None
    counts = np.frombuffer(cache.read_range(path, end - tail, tail), "<u8").tolist()
    return tuple(counts) if sum(counts) * HASH_BYTES == end - tail else None


def _computed(units: Sequence[Unit], hashing: Hashing, cache: Storage, path: str) -> tuple[int, ...]:
    counts: list[int] = []
    with cache.writer(path) as file:
        crc = 0
        for unit in _at_hand(units):
            count = 0
            for block in _hashed(unit, hashing):
                file.write(block)
                crc = google_crc32c.extend(crc, block)
                count += len(block) // HASH_BYTES
            counts.append(count)
        tail = np.array(counts, "<u8").tobytes()
        file.write(tail)
        file.write(google_crc32c.extend(crc, tail).to_bytes(CRC_BYTES))
    return tuple(counts)


def _at_hand(units: Sequence[Unit]) -> Iterator[Unit]:
    """Each unit in a local file; a remote one is fetched once for the units that follow each other in it."""
    for file, members in groupby(units, lambda unit: unit.file):
        with file.at_hand() as local:
            yield from (replace(unit, file=local) for unit in members)


def _hashed(unit: Unit, hashing: Hashing) -> Iterator[bytes]:
    """Hashes of the unit's groups, many at once; none of a unit that is refused, as in its shard.

    That it is refused may show at its last group, so they wait, beyond a few on disk.
    """
    with SpooledTemporaryFile(READ_BYTES) as spool:
        try:
            for found in hashing.hashes(unit):
                spool.write(found)
        except Refused:
            return
        spool.seek(0)
        while block := spool.read(READ_BYTES):
            yield block
