"""Write one shard: its tar, unit by unit, and the index last, which marks the shard whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

from robot_foundry.catalog.manifest import Quarantined
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import is_whole
from robot_foundry.ingest.kind import IngestKind, Shard, UnitTars, kind_of
from robot_foundry.ingest.plan import PlannedShard
from robot_foundry.ingest.shards.adoption import adopt
from robot_foundry.ingest.shards.spool import Spool
from robot_foundry.ingest.shards.survey import LackingTar, cache_survey, cached_survey, survey
from robot_foundry.ingest.sources import Refused, SourceFile, Unit
from robot_foundry.ingest.sources.base import copied_into
from robot_foundry.ingest.spec.spec import SourceSpec
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.in_order import in_order
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.shards.index import write_index
from robot_foundry.shards.segments import Segment
from robot_foundry.shards.tar import TarWriter

# Shards that are on their way to the disk while one is read.
MOST_BEHIND = 1
SWITCH_S = 0.0005


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard."""

    store: Store
    dataset: str
    spec: SourceSpec
    planned: PlannedShard

    @property
    def kind(self) -> IngestKind:
        return kind_of(self.spec)


def write_shards(tasks: Iterable[ShardTask]) -> Iterator[tuple[PlannedShard, Shard]]:
    """What was planned and the shard of each task in order, written if they are not there yet, whole.

    The same task gives the same bytes anywhere. While a shard reaches the disk, the next one is read. A file
    that is remote is fetched once for all units that follow each other in it.
    """
    with _brisk_threads(), _AtHand() as at_hand, ThreadPoolExecutor(1) as finishing:
        spare: list[BytesIO] = []
        filled = ((task.planned, _filled(task, at_hand, spare)) for task in tasks)
        yield from in_order(finishing, filled, MOST_BEHIND)


@contextmanager
def _brisk_threads() -> Iterator[None]:
    """Threads that hash and write need the interpreter for an instant between two blocks.

    By default they wait 5 ms for it, longer than they work on a block, and nothing runs beside the reading.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def write_batch(tasks: Sequence[ShardTask]) -> list[tuple[PlannedShard, Shard]]:
    """All of `write_shards`, for a worker."""
    return list(write_shards(tasks))


class _AtHand:
    """Keeps the file of the last unit on this machine while units of the same file follow.

    Of its companions, which each unit may have others of, those stay that the next unit has as well.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._file: SourceFile | None = None
        self._local: SourceFile | None = None
        self._beside: dict[SourceFile, SourceFile] = {}

    def __enter__(self) -> _AtHand:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def unit(self, unit: Unit) -> Unit:
        """The unit in a local file."""
        if not unit.file.is_remote:
            return unit
        file = replace(unit.file, companions=())
        if self._file != file or self._local is None:
            self._stack.close()
            self._file, self._local = file, self._stack.enter_context(file.at_hand())
            self._beside = {}
        companions = self._companions(unit.file.companions, Path(self._local.root))
        return replace(unit, file=replace(self._local, companions=companions))

    def _companions(self, wanted: Sequence[SourceFile], folder: Path) -> tuple[SourceFile, ...]:
        for file in self._beside.keys() - set(wanted):
            del self._beside[file]
            (folder / file.path).unlink()
        lacking = [file for file in wanted if file not in self._beside]
        self._beside.update(zip(lacking, copied_into(folder, lacking), strict=True))
        return tuple(self._beside[file] for file in wanted)


def _filled(task: ShardTask, at_hand: _AtHand, spare: list[BytesIO]) -> Callable[[], Shard]:
    """Read the source into the shard's tar; what is returned has the shard reach the disk."""
    key = task.planned.shard_key
    existing = _existing(task, at_hand)
    if existing is not None:
        return lambda: existing
    refused = []
    with ExitStack() as stack:
        tar = stack.enter_context(new_tar(task.store, task.dataset, key, spare))
        for unit in task.planned.units:
            # A unit may fail at its last sample; only whole ones reach the tar.
            with Spool() as spool:
                try:
                    _read(unit, at_hand, task, spool)
                except Refused as error:
                    refused.append(Quarantined(unit.name, error.message))
                    continue
                for name, data in spool.members():
                    tar.add(name, data)
        opened = stack.pop_all()

    def finish() -> Shard:
        opened.close()
        return _surveyed(task, tuple(refused), reused=False)

    return finish


@contextmanager
def new_tar(
    store: Store, dataset: str, shard_key: str, spare: list[BytesIO] | None = None
) -> Iterator[TarWriter]:
    """A tar to write, which is there with its index if all went well, and else not at all."""
    with store.storage.writer(store.shard_tar(dataset, shard_key)) as file:
        tar = TarWriter(file, spare)
        yield tar
        summary = tar.close()
    kill_point("shard-tar-written")
    store.storage.write(store.shard_index(dataset, shard_key), write_index(summary.members))


def _existing(task: ShardTask, at_hand: _AtHand) -> Shard | None:
    """A shard of an earlier run that is there with all its tars.

    Reasons for refusals are cached; without the cache they are found anew.
    """
    store, dataset, key = task.store, task.dataset, task.planned.shard_key
    if not all(is_whole(store, dataset, part) for part in task.planned.shard_keys):
        return None
    cached = cached_survey(task.kind, store, dataset, key)
    try:
        shard = cached or survey(task.kind, store, dataset, key)
    except LackingTar:
        return None
    # Those that were adopted are not planned, and may have been moved since.
    if not all(is_whole(store, dataset, tar.key) for tar in shard.segments):
        return None
    if cached is not None:
        return cached
    held = {block.unit for block in shard.blocks}
    missing = [unit for unit in task.planned.units if unit.name not in held]
    refused = (Quarantined(unit.name, _reason(unit, at_hand, task)) for unit in missing)
    return _surveyed(task, tuple(refused), reused=True)


def _surveyed(task: ShardTask, refused: tuple[Quarantined, ...], *, reused: bool) -> Shard:
    """What the tar holds, read back from it, with the refusals; kept in the cache."""
    held = survey(task.kind, task.store, task.dataset, task.planned.shard_key)
    shard = replace(held, refused=refused, reused=reused)
    cache_survey(task.kind, task.store, shard)
    kill_point("shard-done")
    return shard


def _reason(unit: Unit, at_hand: _AtHand, task: ShardTask) -> str:
    try:
        with Spool() as spool:
            _read(unit, at_hand, task, spool)
    except Refused as error:
        return error.message
    raise FoundryError(
        f"the shard that should hold {unit.name} was written without it, and now it can be read",
        hint="delete the shard's index in the store and run the same command again",
    )


def _read(unit: Unit, at_hand: _AtHand, task: ShardTask, spool: Spool) -> None:
    """Read the unit's members into `spool` in the tar's order, its segments into their own tars."""
    local = at_hand.unit(unit)

    def segment(part: Segment) -> AbstractContextManager[TarWriter] | None:
        is_there = is_whole(task.store, task.dataset, part.shard_key)
        return None if is_there else new_tar(task.store, task.dataset, part.shard_key)

    planned, adopted = task.planned, partial(adopt, task.store, task.dataset, unit.file, local.file)
    task.kind.write(
        local, task.spec, UnitTars(planned.shard_key, planned.segments, spool.add, segment, adopted)
    )
