"""DROID's raw recordings: a folder with trajectory.h5, metadata_<uuid>.json and recordings/MP4/<serial>.mp4.

SVO files need the camera maker's own software and are not read. Of a stereo video the left view is taken, and
`<serial>-stereo.mp4` only where `<serial>.mp4` is not there.

Legend: N rows of the trajectory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
from numpy.typing import NDArray

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, SourceFile, Texts, Unit
from robot_foundry.ingest.sources.droid.layouts import DROID_RAW
from robot_foundry.ingest.sources.droid.recorded_cameras import (
    STEREO,
    TIMES,
    VIDEO,
    View,
    camera_names,
    read_json,
    serial_of,
    view_of,
)
from robot_foundry.ingest.sources.hdf5 import hdf5
from robot_foundry.ingest.sources.hdf5.layouts import StatedPlaces
from robot_foundry.ingest.sources.hdf5.recognition import Hdf5Layout
from robot_foundry.ingest.sources.hdf5.stated_places import TIMESTAMP, episode_structure
from robot_foundry.ingest.sources.hdf5.structure import read
from robot_foundry.ingest.sources.robot import video
from robot_foundry.ingest.sources.robot.clock import Clock, clock_of
from robot_foundry.ingest.sources.robot.lengths import fitted
from robot_foundry.ingest.sources.robot.shared import UNASKED, chosen
from robot_foundry.ingest.sources.robot.source_episode import SourceCamera, SourceEpisode
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.robot.names import episode_key

TRAJECTORY = "trajectory.h5"
METADATA = re.compile(r"metadata_[^/]*\.json")
BESIDE = re.compile(rf"{METADATA.pattern}|recordings/MP4/[^/]+(\.mp4|{TIMES})")
ANNOTATIONS = re.compile(r"(.*/)?(aggregated-annotations[^/]*|droid_language_annotations)\.json")
PLACES = StatedPlaces(length="action/cartesian_position")
# Rows of these arrays answer to each other one by one.
PER_ROW = ("action/", "observation/robot_state/")
STEP_START = "observation/timestamp/control/step_start"
# JPEG takes about this many times the bytes of H.264; only the planner uses it.
BLOW_UP = 12


class DroidRaw(Hdf5Layout):
    """See `Layout`."""

    declared = DROID_RAW
    version = 2
    advice = "this is a DROID trajectory: use `foundry-data ingest droid_raw`"

    def recognises(self, file: h5py.File, demos: Sequence[str], *, is_asked: bool) -> bool:
        return PLACES.length in file

    def claims(self, path: str) -> bool:
        return path.rpartition("/")[2] == TRAJECTORY

    def companions(self, path: str, listed: Collection[str]) -> tuple[str, ...]:
        folder = path.removesuffix(TRAJECTORY)
        beside = [
            name for name in listed if name.startswith(folder) and BESIDE.fullmatch(name[len(folder) :])
        ]
        return tuple(name for name in beside if STEREO not in name or name.replace(STEREO, "") not in beside)

    def shared(self, listed: Collection[str]) -> tuple[str, ...]:
        annotations = (path for path in listed if ANNOTATIONS.fullmatch(path))
        return tuple(sorted(annotations, key=lambda path: (path.rpartition("/")[2], path)))

    def texts(self, path: str, content: bytes) -> Mapping[str, Texts]:
        """The release's annotations, {uuid: {"language_instruction1": text, …}}: of up to three people."""
        try:
            annotations = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise _no_annotations(path, str(error)) from error
        if not isinstance(annotations, dict):
            raise _no_annotations(path, "it is no JSON object")
        for episode, texts in annotations.items():
            if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
                raise _no_annotations(path, f"'{episode}' has no texts by name")
        return {
            episode: tuple((kind, _whole(text)) for kind, text in texts.items() if text.strip())
            for episode, texts in annotations.items()
        }

    def codecs(self, content: Content) -> dict[str, str]:
        return video.codec_versions()

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        """From the metadata alone; the trajectory is looked at when the shard is written."""
        episode = str(_metadata(file).get("uuid") or PurePosixPath(file.path).parent.name or "trajectory")
        videos = sum(companion.size for companion in file.companions if companion.path.endswith(VIDEO))
        key = episode_key(file.path, episode)
        return [Unit(file, episode, key, file.size + BLOW_UP * videos, alone=True, whole_file=True)], []

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[SourceEpisode]:
        metadata = _metadata(unit.file)
        with unit.file.local() as path, hdf5.open_file(path) as opened:
            self.check_layout(opened)
            bare = replace(content, cameras=None, pixels={})
            contents = read(episode_structure(opened["/"], PLACES, bare), bare)
            num_frames, arrays = contents.num_frames, contents.arrays
            _check_rows(arrays, num_frames)
            views, left_out = _views(path, unit.file, metadata, arrays, num_frames, content)
            clock = _clock(arrays, num_frames, content)
            streams = [fitted(view.pictures(), num_frames, view.video.name) for view in views]
            yield SourceEpisode(
                num_frames=num_frames,
                fps=clock.fps,
                fps_source=clock.fps_source,
                start_ns=clock.start_ns,
                cameras=[view.camera for view in views],
                arrays={**arrays, TIMESTAMP: clock.timestamp_N},
                attributes={
                    **contents.attributes,
                    **_outcome(unit.file.path),
                    **metadata,
                    **hdf5.attributes(opened.attrs),
                },
                environment={"images_matched_by": {v.camera.name: v.matched_by for v in views}},
                left_out={**contents.left_out, **left_out},
                remarks=contents.remarks,
                frames=zip(*streams, strict=True) if streams else iter(()),
                steps_text=contents.spans,
            )


def _metadata(file: SourceFile) -> dict[str, Any]:
    """What metadata_<uuid>.json says; nothing if there is none."""
    for companion in file.companions:
        name = companion.path.rpartition("/")[2]
        if METADATA.fullmatch(name):
            with companion.local() as path:
                metadata = read_json(path, name)
            if not isinstance(metadata, dict):
                raise Refused(f"its file '{name}' is not a JSON object")
            return {str(key): value for key, value in metadata.items()}
    return {}


def _no_annotations(path: str, reason: str) -> FoundryError:
    return FoundryError(
        f"{path} holds no annotations by recording: {reason}",
        hint="fetch it anew, or move it away to go on without",
    )


def _whole(text: str) -> str:
    """Without halves of characters, which JSON can hold and UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _outcome(path: str) -> dict[str, Any]:
    """Success by the folder that recordings are sorted into, for a trajectory that does not say."""
    parts = PurePosixPath(path).parts
    return {"success": "success" in parts} if ("success" in parts) != ("failure" in parts) else {}


def _check_rows(arrays: Mapping[str, NDArray[Any]], num_frames: int) -> None:
    for name, values in arrays.items():
        if name.startswith(PER_ROW) and values.shape[:1] != (num_frames,):
            raise Refused(
                f"its lengths disagree: {PLACES.length} has {num_frames} rows, {name} has {len(values)}"
            )


def _clock(arrays: Mapping[str, NDArray[Any]], num_frames: int, content: Content) -> Clock:
    if STEP_START not in arrays:
        return clock_of(None, num_frames, content)
    without = f"--set 'content.skip=[{STEP_START}]' goes by the rate"
    measured = STEP_START, arrays[STEP_START], "ms", without
    return clock_of(measured, num_frames, content, epoch=True)


def _views(
    trajectory: Path,
    file: SourceFile,
    metadata: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    num_frames: int,
    content: Content,
) -> tuple[list[View], dict[str, str]]:
    """The cameras that the spec asks for, and why what of others is left out."""
    folder = PurePosixPath(file.path).parent
    beside = {str(PurePosixPath(item.path).relative_to(folder)) for item in file.companions}
    videos = {serial_of(name): name for name in sorted(beside) if name.endswith(VIDEO)}
    names = camera_names(list(videos), metadata, arrays)
    cameras = [SourceCamera(name, videos[serial], 0, 0) for serial, name in names.items()]
    wanted = chosen(cameras, content)
    left_out = {c.array: UNASKED for c in cameras if c not in wanted}
    views = []
    for camera in wanted:
        opened = video.open_video(trajectory.parent / camera.array, camera.array)
        times = camera.array.removesuffix(VIDEO) + TIMES
        times_M = read_json(trajectory.parent / times, times) if times in beside else None
        view, unused = view_of(camera.name, opened, serial_of(camera.array), times_M, arrays, num_frames)
        left_out |= {} if unused is None else {camera.array: unused}
        views.append(view)
    return views, left_out
