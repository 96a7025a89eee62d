"""The cameras of an episode: videos that show it, alone or with others, and columns of embedded images.

Legend: N frames of the episode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, SourceFile
from robot_foundry.ingest.sources.lerobot.dataset import Dataset
from robot_foundry.ingest.sources.lerobot.info import VIDEO
from robot_foundry.ingest.sources.lerobot.places import VideoFiles, filled
from robot_foundry.ingest.sources.lerobot.rows import has_paths, images
from robot_foundry.ingest.sources.lerobot.tables import Span
from robot_foundry.ingest.sources.robot.lengths import check_length, fitted
from robot_foundry.ingest.sources.robot.named_columns import plain
from robot_foundry.ingest.sources.robot.shared import NO_IMAGE, is_skipped
from robot_foundry.ingest.sources.robot.shared_video import SharedVideo, Times, shared_video
from robot_foundry.ingest.sources.robot.source_episode import Encoded, Picture, SourceCamera
from robot_foundry.shards import images as codecs

LACKING = "is declared in meta/info.json, and its video is not there"
MISSING = "meta/info.json declares its video, and it is not there"
DEPTH = "it is a depth map in a video, which is not read"
IN_FILES = "its images are in files beside the data, and embedded ones and videos are read"
# Times of frames that lie further off the rate than this share of a step are told.
OFF_GRID = 0.5
LONGEST_NAME = 40


@dataclass(frozen=True)
class Views:
    """Cameras with the pictures [N] of each, why others have none, and what is told of those that have."""

    cameras: list[SourceCamera] = field(default_factory=list)
    pictures: dict[str, Iterable[Picture]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)


def camera_names(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each key, or all of it where two end alike: observation.images.top → top."""
    listed = sorted(keys)
    short = {key: plain(key.rpartition(".")[2])[-LONGEST_NAME:].strip("_") or "camera" for key in listed}
    counts = Counter(short.values())
    return {
        key: name if counts[name] == 1 else plain(key)[-LONGEST_NAME:].strip("_") or "camera"
        for key, name in short.items()
    }


def video_keys(dataset: Dataset) -> list[str]:
    """The features that are videos, in the order of info.json."""
    return [key for key, feature in dataset.info.features.items() if feature.dtype == VIDEO]


def asked_videos(dataset: Dataset, content: Content) -> set[str]:
    """The features that are videos which the spec asks for, as far as they are read."""
    keys = [key for key in video_keys(dataset) if not is_skipped(key, content.skip)]
    named = camera_names(keys)
    wanted = (key for key in keys if content.cameras is None or named[key] in content.cameras)
    return {key for key in wanted if not dataset.info.features[key].is_depth}


def videos_of(dataset: Dataset, episode: int, videos: VideoFiles) -> dict[str, str | None]:
    """The path of the video of each feature that shows the episode, None where it is not there."""
    listed = dataset.listed(episode)
    spans: Mapping[str, Span] = {} if listed is None else listed.spans
    found: dict[str, str | None] = {}
    for key in video_keys(dataset):
        span = spans.get(key)
        if span is None:
            place = videos.of_episode(key, episode)
        else:
            place = videos.of_several(key, span.chunk, span.file)
        found[key] = place or _by_template(dataset, key, episode, span, videos)
    return found


def _by_template(
    dataset: Dataset, key: str, episode: int, span: Span | None, videos: VideoFiles
) -> str | None:
    numbers = {"episode_index": episode, "episode_chunk": episode // dataset.info.chunk_size}
    if span is not None:
        numbers |= {"chunk_index": span.chunk, "file_index": span.file}
    made = filled(dataset.info.video_path or "", numbers, key)
    place = f"{dataset.prefix}{made}"
    return place if made and place in videos else None


def add_videos(
    views: Views,
    dataset: Dataset,
    episode: int,
    files: Mapping[str, SourceFile],
    num_frames: int,
    names: Mapping[str, str],
    *,
    planar: bool,
) -> None:
    """Those of the features that are named as cameras, as planes where they can be if `planar`.

    Refused for a video that is damaged or far from as long as the episode.
    """
    listed = dataset.listed(episode)
    for key, place in videos_of(dataset, episode, VideoFiles(files)).items():
        if key not in names:
            continue
        if dataset.info.features[key].is_depth:
            views.left_out[key], views.remarks[key] = DEPTH, "is a depth map in a video, which is not read"
            continue
        if place is None:
            views.left_out[key] = MISSING
            views.remarks[key] = LACKING
            continue
        span = None if listed is None else listed.spans.get(key)
        video = _opened(files[place], place.removeprefix(dataset.prefix), key)
        first, count = _shown(video.times, span, num_frames, place, dataset.info.fps)
        unused = check_length(key, count, num_frames)
        views.left_out.update({} if unused is None else {key: unused})
        if off := _off_grid(video.times, first, min(count, num_frames), dataset.info.fps):
            views.remarks[key] = off
        views.cameras.append(SourceCamera(names[key], key, video.times.height, video.times.width))
        views.pictures[key] = fitted(
            video.frames(first, min(count, num_frames), planar=planar), num_frames, key
        )


def _opened(file: SourceFile, name: str, key: str) -> SharedVideo:
    """The video of a feature. Refused, with how to go on without it, where it cannot be opened."""
    try:
        return shared_video(Path(file.root, file.path), file.size, file.stamp, name)
    except Refused as error:
        raise Refused(f"{error.message} (--set 'content.skip=[{key}]' goes without this camera)") from error


def _shown(
    times: Times, span: Span | None, num_frames: int, place: str, fps: float | None
) -> tuple[int, int]:
    """Number of the first frame of the episode in its video, and how many frames are its own."""
    if span is None:
        return 0, len(times)
    if span.start_s is None:
        raise Refused(f"meta/episodes does not say where in '{place}' it begins (from_timestamp)")
    step_s = 1.0 / fps if fps else float(times.seconds_M[-1]) / max(1, len(times) - 1)
    first = times.at(span.start_s, step_s / 2)
    end = first + num_frames if span.end_s is None else times.at(span.end_s, step_s / 2)
    return first, max(0, min(end, len(times)) - first)


def _off_grid(times: Times, first: int, count: int, fps: float | None) -> str | None:
    """That frames of the video do not follow its rate, so that their number and not their time decides."""
    seconds_N = times.seconds_M[first : first + count]
    if not fps or len(seconds_N) < 2:
        return None
    drift = max(abs(float(s - seconds_N[0]) - n / fps) for n, s in enumerate(seconds_N))
    if drift <= OFF_GRID / fps:
        return None
    return f"has frames off the rate of {fps:g} Hz in its video: frame i is taken for row i"


def add_images(views: Views, key: str, name: str, path: Path, rows: tuple[int, int]) -> None:
    """A column of embedded images, as they are. Refused for the first that is no JPEG or PNG."""
    encoded = images(path, key, *rows)
    headers, blank = codecs.Headers(), 0
    for data in encoded:
        if data:
            first = _probed(key, blank, data, headers)
            break
        blank += 1
    else:
        views.left_out[key] = NO_IMAGE
        if has_paths(path, key, *rows):
            views.left_out[key], views.remarks[key] = IN_FILES, f"is not read: {IN_FILES}"
        return
    assert first.size is not None
    views.cameras.append(SourceCamera(name, key, *first.size))
    rest = (_probed(key, blank + 1 + n, data, headers) if data else None for n, data in enumerate(encoded))
    views.pictures[key] = chain([None] * blank, [first], rest)


def _probed(key: str, frame: int, data: bytes, headers: codecs.Headers) -> Encoded:
    try:
        encoding, height, width = headers.probe(data)
    except codecs.CorruptImage as error:
        raise Refused(f"image {frame} of {key}: {error.message}") from error
    return Encoded(data, codecs.FORMATS[encoding], (height, width))
