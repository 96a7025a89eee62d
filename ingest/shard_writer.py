"""Write one shard: its tar, episode by episode, and the index last, which marks the shard whole.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from typing import Any

from robot_foundry.catalog.opening import is_whole
from robot_foundry.catalog.store import Store
from robot_foundry.ingest.plan import Group
from robot_foundry.ingest.robot.pictures import Pictures
from robot_foundry.ingest.sources import Data, Picture, Refused, SourceEpisode, SourceFile, Unit, layout
from robot_foundry.ingest.spec.spec import Spec
from robot_foundry.ingest.spool import Spool
from robot_foundry.ingest.survey import Shard, cache_survey, cached_survey, survey
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.shards import keys
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.index import write_index
from robot_foundry.shards.segments import Segment
from robot_foundry.shards.tar import TarWriter

EPISODE_FORMAT = 1
# Shards that are on their way to the disk while one is read.
MOST_BEHIND = 1
SWITCH_S = 0.0005


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard."""

    store: Store
    dataset: str
    spec: Spec
    group: Group

    def index_path(self, shard_key: str) -> str:
        return self.store.shard_index(self.dataset, shard_key)


def write_shards(tasks: Iterable[ShardTask]) -> Iterator[tuple[Group, Shard]]:
    """The group and shard of each task in order, written if they are not there yet, whole.

    The same task gives the same bytes anywhere. While a shard reaches the disk, the next one is read. A file
    that is remote is fetched once for all units that follow each other in it.
    """
    with _brisk_threads(), _AtHand() as at_hand, ThreadPoolExecutor(1) as finishing:
        behind: deque[tuple[Group, Future[Shard]]] = deque()
        spare: list[BytesIO] = []
        for task in tasks:
            behind.append((task.group, finishing.submit(_filled(task, at_hand, spare))))
            if len(behind) > MOST_BEHIND:
                group, finished = behind.popleft()
                yield group, finished.result()
        for group, finished in behind:
            yield group, finished.result()


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


def write_batch(tasks: Sequence[ShardTask]) -> list[tuple[Group, Shard]]:
    """All of `write_shards`, for a worker."""
    return list(write_shards(tasks))


class _AtHand:
    """Keeps the file of the last unit on this machine while units of the same file follow."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._file: SourceFile | None = None
        self._local: SourceFile | None = None

    def __enter__(self) -> _AtHand:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def unit(self, unit: Unit) -> Unit:
        """The unit in a local file."""
        if not unit.file.is_remote:
            return unit
        if self._file != unit.file or self._local is None:
            self._stack.close()
            self._file, self._local = unit.file, self._stack.enter_context(unit.file.at_hand())
        return replace(unit, file=self._local)


def _filled(task: ShardTask, at_hand: _AtHand, spare: list[BytesIO]) -> Callable[[], Shard]:
    """Read the source into the shard's tar; what is returned has the shard reach the disk."""
    key = task.group.shard_key
    if all(is_whole(task.store, task.dataset, part) for part in task.group.shard_keys):
        shard = _existing(task, at_hand)
        return lambda: shard
    refused = []
    with ExitStack() as stack:
        tar = stack.enter_context(_tar(task, key, spare))
        for unit in task.group.units:
            # An episode may fail at its last frame; only whole ones reach the tar.
            with Spool() as spool:
                try:
                    _read(at_hand.unit(unit), task, spool)
                except Refused as error:
                    refused.append((unit.name, error.message))
                    continue
                for name, data in spool.members():
                    tar.add(name, data)
        opened = stack.pop_all()

    def finish() -> Shard:
        opened.close()
        return _surveyed(task, tuple(refused), reused=False)

    return finish


@contextmanager
def _tar(task: ShardTask, shard_key: str, spare: list[BytesIO] | None = None) -> Iterator[TarWriter]:
    """A tar to write, which is there with its index if all went well, and else not at all."""
    storage = task.store.storage
    with storage.writer(task.store.shard_tar(task.dataset, shard_key)) as file:
        tar = TarWriter(file, spare)
        yield tar
        summary = tar.close()
    kill_point("shard-tar-written")
    storage.write(task.index_path(shard_key), write_index(summary.members))


def _existing(task: ShardTask, at_hand: _AtHand) -> Shard:
    """A shard of an earlier run. Reasons for refusals are cached; without the cache they are found anew."""
    cached = cached_survey(task.store, task.dataset, task.group.shard_key)
    if cached is not None:
        return cached
    held = {item.key for item in survey(task.store, task.dataset, task.group.shard_key).episodes}
    missing = [unit for unit in task.group.units if unit.key not in held]
    return _surveyed(
        task, tuple((unit.name, _reason(at_hand.unit(unit), task)) for unit in missing), reused=True
    )


def _surveyed(task: ShardTask, refused: tuple[tuple[str, str], ...], *, reused: bool) -> Shard:
    """What the tar holds, read back from it, with the refusals; kept in the cache."""
    found = survey(task.store, task.dataset, task.group.shard_key)
    shard = replace(found, refused=refused, reused=reused)
    cache_survey(task.store, shard)
    kill_point("shard-done")
    return shard


def _reason(unit: Unit, task: ShardTask) -> str:
    try:
        with Spool() as spool:
            _read(unit, task, spool)
    except Refused as error:
        return error.message
    raise FoundryError(
        f"the shard that should hold {unit.name} was written without it, and now it can be read",
        hint="delete the shard's index in the store and run the same command again",
    )


def _read(unit: Unit, task: ShardTask, spool: Spool) -> None:
    """Read the episode's members into `spool` in the tar's order, its segments into their own tars.

    Refused, here at any frame, leaves whole segments behind that no version names.
    """
    segments = task.group.segments
    with layout(task.spec.layout).open(unit, task.spec.content) as episode:
        pictures = Pictures(episode, task.spec.content)
        frames = enumerate(episode.frames)
        last = segments[0].start if segments else episode.num_frames
        count = _add_images(spool.add, unit, pictures, islice(frames, last))
        _check_count(count, last if episode.cameras else 0, 0, episode)
        for segment in segments:
            own = islice(frames, segment.end - segment.start)
            _write_segment(unit, task, segment, episode, pictures, own)
        if next(frames, None) is not None:
            raise Refused(f"it has more images than its {episode.num_frames} frames")
        told = episode_json(unit, episode, pictures, task.spec, segments)
        spool.add(keys.episode_json_name(unit.key), canonical_json(told))
        spool.add(keys.source_name(unit.key), write_npz(episode.arrays))


def _add_images(
    add: Callable[[str, Data], None],
    unit: Unit,
    pictures: Pictures,
    frames: Iterable[tuple[int, Sequence[Picture]]],
) -> int:
    """Add the images of these frames, and return how many frames there were."""
    count = 0
    for frame, shown in frames:
        count += 1
        key = keys.frame_key(unit.key, frame)
        for camera, encoding, data in pictures.of_frame(frame, shown):
            add(f"{key}.{keys.image_suffix(camera, encoding)}", data)
    return count


def _write_segment(
    unit: Unit,
    task: ShardTask,
    segment: Segment,
    episode: SourceEpisode,
    pictures: Pictures,
    frames: Iterator[tuple[int, Sequence[Picture]]],
) -> None:
    """The tar of a segment from its frames, which are passed over if it is there already."""
    wanted = segment.end - segment.start if episode.cameras else 0
    if is_whole(task.store, task.dataset, segment.shard_key):
        count = 0
        for frame, shown in frames:
            pictures.pass_over(frame, shown)
            count += 1
        _check_count(count, wanted, segment.start, episode)
        return
    with _tar(task, segment.shard_key) as tar:
        count = _add_images(tar.add, unit, pictures, frames)
        _check_count(count, wanted, segment.start, episode)
        told = {
            "format": EPISODE_FORMAT,
            "head": task.group.shard_key,
            "start": segment.start,
            "end": segment.end,
        }
        tar.add(keys.segment_json_name(unit.key), canonical_json(told))


def _check_count(count: int, wanted: int, start: int, episode: SourceEpisode) -> None:
    if count < wanted:
        raise Refused(f"its images end at frame {start + count} of {episode.num_frames}")


def episode_json(
    unit: Unit, episode: SourceEpisode, pictures: Pictures, spec: Spec, segments: Sequence[Segment]
) -> dict[str, Any]:
    """What the tar says about an episode beside its arrays and images, when all of these were seen."""
    source: dict[str, Any] = {"path": unit.file.path, "blake3": unit.file.blake3, "layout": spec.layout}
    if unit.file.companions:
        source["companions"] = {file.path: file.blake3 for file in unit.file.companions}
    if unit.whole_file:
        source["whole_file"] = True
    told: dict[str, Any] = {}
    texts = [[0, episode.num_frames, kind, text] for kind, text in unit.texts]
    if episode.steps_text or texts:
        told["annotations"] = [*map(list, episode.steps_text), *texts]
    if segments:
        told["segments"] = [
            {"shard": segment.shard_key, "start": segment.start, "end": segment.end} for segment in segments
        ]
    return {
        "format": EPISODE_FORMAT,
        "id": unit.episode,
        "source": source,
        **told,
        "num_frames": episode.num_frames,
        "fps": episode.fps,
        "fps_source": episode.fps_source,
        "start_ns": episode.start_ns,
        "cameras": pictures.cameras_json(),
        "attributes": _plain(episode.attributes),
        "environment": _plain(episode.environment),
        "left_out": dict(episode.left_out),
        **({"told": dict(episode.remarks)} if episode.remarks else {}),
        **({"extra_row": spec.content.extra_row} if spec.content.extra_row else {}),
    }


def _plain(value: Any) -> Any:
    """JSON from a file without what canonical JSON refuses: NaN becomes its name, half characters escapes."""
    if isinstance(value, Mapping):
        return {_plain(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
