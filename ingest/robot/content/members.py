"""What an episode becomes in a shard: its images frame by frame, what is known of it, and its source arrays.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from robot_foundry.ingest.kind import UnitTars
from robot_foundry.ingest.robot.content.pictures import Pictures
from robot_foundry.ingest.robot.spec.spec import Spec
from robot_foundry.ingest.sources import LAYOUTS, Data, Refused, Unit
from robot_foundry.ingest.sources.base import LARGEST
from robot_foundry.ingest.sources.robot.shared import MOST_FRAMES
from robot_foundry.ingest.sources.robot.source_episode import EpisodeLayout, Picture, SourceEpisode
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.robot import names
from robot_foundry.shards.segments import Segment

EPISODE_FORMAT = 1


def reader_of(spec: Spec) -> EpisodeLayout:
    """The reader of the source of a robot spec."""
    reader: EpisodeLayout = LAYOUTS[spec.layout].reader_class()()
    return reader


def bounds(unit: Unit, spec: Spec) -> list[int]:
    """Where the unit's frames are cut: [0, N] for not at all. What is not known before reading is not cut."""
    num_frames = unit.num_samples or 0
    if not reader_of(spec).declared.has_images or num_frames < 2:
        return [0, num_frames]
    most_bytes = LARGEST * spec.content.shard_bytes
    parts = max(math.ceil(num_frames / MOST_FRAMES), math.ceil(unit.num_bytes / most_bytes))
    parts = min(parts, num_frames)
    return [num_frames * part // parts for part in range(parts + 1)]


def write_episode(unit: Unit, spec: Spec, tars: UnitTars) -> None:
    """Read the episode's members into its tar in their order, its segments into their own tars.

    Refused, here at any frame, leaves whole segments behind that no version names.
    """
    segments = tars.segments
    with reader_of(spec).open(unit, spec.content) as episode:
        pictures = Pictures(episode, spec.content)
        frames = enumerate(episode.frames)
        last = segments[0].start if segments else episode.num_frames
        count = _add_images(tars.add, unit, pictures, islice(frames, last))
        _check_count(count, last if episode.cameras else 0, 0, episode)
        for segment in segments:
            of_segment = islice(frames, segment.end - segment.start)
            _write_segment(unit, tars, segment, episode, pictures, of_segment)
        if next(frames, None) is not None:
            raise Refused(f"it has more images than its {episode.num_frames} frames")
        about = episode_json(unit, episode, pictures, spec, segments)
        tars.add(names.episode_json_name(unit.key), canonical_json(about))
        tars.add(names.source_name(unit.key), write_npz(episode.arrays))


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
        key = names.frame_key(unit.key, frame)
        for camera, encoding, data in pictures.of_frame(frame, shown):
            add(f"{key}.{names.image_suffix(camera, encoding)}", data)
    return count


def _write_segment(
    unit: Unit,
    tars: UnitTars,
    segment: Segment,
    episode: SourceEpisode,
    pictures: Pictures,
    frames: Iterator[tuple[int, Sequence[Picture]]],
) -> None:
    """The tar of a segment from its frames, which are passed over if it is there already."""
    wanted = segment.end - segment.start if episode.cameras else 0
    opened = tars.segment(segment)
    if opened is None:
        count = 0
        for frame, shown in frames:
            pictures.pass_over(frame, shown)
            count += 1
        _check_count(count, wanted, segment.start, episode)
        return
    with opened as tar:
        count = _add_images(tar.add, unit, pictures, frames)
        _check_count(count, wanted, segment.start, episode)
        about = {
            "format": EPISODE_FORMAT,
            "head": tars.shard_key,
            "start": segment.start,
            "end": segment.end,
        }
        tar.add(names.segment_json_name(unit.key), canonical_json(about))


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
    optional: dict[str, Any] = {}
    texts = [[0, episode.num_frames, kind, text] for kind, text in unit.texts]
    if episode.steps_text or texts:
        optional["annotations"] = [*map(list, episode.steps_text), *texts]
    if segments:
        optional["segments"] = [
            {"shard": segment.shard_key, "start": segment.start, "end": segment.end} for segment in segments
        ]
    return {
        "format": EPISODE_FORMAT,
        "id": unit.id,
        "source": source,
        **optional,
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
