"""ROS bags: recordings of topics, each at its own rate, brought onto the times of frames.

A bag is read twice: for times and numbers, and for pictures, which then come one by one.

Legend: N frames.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import LARGEST, Refused, SourceFile, Unit
from robot_foundry.ingest.sources.robot import video
from robot_foundry.ingest.sources.robot.clock import clock_of
from robot_foundry.ingest.sources.robot.shared import MOST_FRAMES, NO_PICTURES, chosen
from robot_foundry.ingest.sources.robot.source_episode import EpisodeLayout, SourceCamera, SourceEpisode
from robot_foundry.ingest.sources.ros import tallies
from robot_foundry.ingest.sources.ros.bags.bag import Bag, open_bag
from robot_foundry.ingest.sources.ros.bags.bag_files import METADATA, gathered, is_storage, part_order, stem
from robot_foundry.ingest.sources.ros.bags.definitions import full_type
from robot_foundry.ingest.sources.ros.episodes.boundaries import Part, parts_of, told_of, window_of
from robot_foundry.ingest.sources.ros.episodes.triggers import topics_of
from robot_foundry.ingest.sources.ros.gather import Gathered, Window, gather, names_in
from robot_foundry.ingest.sources.ros.lacking import without_lacking
from robot_foundry.ingest.sources.ros.layouts import ROS
from robot_foundry.ingest.sources.ros.messages.images import COMPRESSED, IMAGE
from robot_foundry.ingest.sources.ros.messages.packets import TYPES
from robot_foundry.ingest.sources.ros.options import BAG, FrameChain, RosOptions
from robot_foundry.ingest.sources.ros.pictures import depth_arrays, pictures_of
from robot_foundry.ingest.sources.ros.times.sync import NANOSECONDS
from robot_foundry.ingest.sources.ros.times.synced import Synced, spans_of, synced
from robot_foundry.shards.robot.names import episode_key

WHOLE = Window()
TIMESTAMP = "timestamp"
# Of topics of pictures or depth maps.
UNNAMED = "holds pictures or depth maps, and no camera of content.ros names it"
OF_PICTURES = (IMAGE, COMPRESSED, *TYPES)
LARGEST_TEXT = 1 << 20
# Frames may be denser in one part of a bag than in others, and its clocks may not agree.
SURELY_SHORT = 2.0


class Ros(EpisodeLayout):
    """See `EpisodeLayout`."""

    declared = ROS
    version = 2

    def claims(self, path: str) -> bool:
        return is_storage(path)

    def together(
        self, claimed: Sequence[str], listed: Collection[str], content: Content
    ) -> Sequence[tuple[str, Sequence[str]]]:
        return gathered(claimed, listed, _options(content))

    def codecs(self, content: Content) -> dict[str, str]:
        import PIL

        has_video = any(camera.video for camera in _options(content).cameras.values())
        of_depth = {"pillow": PIL.__version__}
        return {**of_depth, **video.codec_versions()} if has_video else of_depth

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        options = _options(content)
        with file.at_hand() as here, open_bag(here, options) as bag:
            options = _options(without_lacking(content, bag))
            encodes = content.changes_pixels or _has_pixels(bag, options)
            whole = options.episodes is None
            parts = [Part(WHOLE)] if whole else parts_of(bag, options, here)
            units, refused = [], []
            for part in parts:
                name = _name_of(file) if whole else part.id
                num_bytes = file.num_bytes // len(parts)
                is_large = num_bytes > LARGEST * content.shard_bytes
                try:
                    names = names_in(bag, options)
                    # Only of what may be too long for one tar, for it takes another pass.
                    is_large = is_large or _may_be_long(bag, options, part.window, names)
                    count = (
                        len(synced(gather(bag, options, part.window), options).frames) if is_large else None
                    )
                except Refused as error:
                    refused.append((f"{file.path}#{name}", error.message))
                    continue
                units.append(
                    Unit(
                        file,
                        name,
                        episode_key(file.path, name),
                        num_bytes,
                        alone=len(parts) == 1,
                        num_samples=count,
                        encodes=encodes,
                        whole_file=whole,
                    )
                )
            return units, refused

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[SourceEpisode]:
        options = _options(content)
        window = WHOLE if options.episodes is None else window_of(unit.id)
        with unit.file.at_hand() as here, open_bag(here, options) as bag:
            content = without_lacking(content, bag)
            options = _options(content)
            found = gather(bag, options, window)
            told = {**_beside(here, options), **told_of(unit.id, options, here)}
            yield _episode(bag, found, synced(found, options), content, window, told)


def _options(content: Content) -> RosOptions:
    assert isinstance(content.options, RosOptions)
    return content.options


def _may_be_long(bag: Bag, options: RosOptions, window: Window, names: Mapping[str, str]) -> bool:
    """Whether an episode may have more frames than one tar holds, by what the bag says of itself alone."""
    first, last = bag.span
    start = first if window.start is None else max(first, window.start)
    stop = last if window.stop is None else min(last, window.stop)
    lasts_ns = max(stop - start, 0)
    if options.rate is not None:
        expected = options.rate * lasts_ns / NANOSECONDS
    else:
        stated = {**options.cameras, **options.streams}[str(options.frames)]
        assert not isinstance(stated, FrameChain)
        expected = bag.num_messages(names[stated.topic]) * lasts_ns / max(last - first, 1)
    return SURELY_SHORT * expected > MOST_FRAMES


def _name_of(file: SourceFile) -> str:
    """The folder of a recording that has one for itself, else the file without its ending."""
    if METADATA not in {PurePosixPath(item.path).name for item in file.companions}:
        return stem(file.path)
    # The folder itself may be the source, and then has no name here: that of its parts without a number.
    return PurePosixPath(file.path).parent.name or part_order(file.path)[0]


def _has_pixels(bag: Bag, options: RosOptions) -> bool:
    """Whether pictures or depth maps of it are encoded here, as far as the types of topics tell."""
    if any(camera.video for camera in options.cameras.values()):
        return True
    topics = {bag.named(camera.topic) for camera in (*options.cameras.values(), *options.depth.values())}
    return any(channel.topic in topics and full_type(channel.type) == IMAGE for channel in bag.channels)


def _episode(
    bag: Bag, found: Gathered, made: Synced, content: Content, window: Window, told: dict[str, str]
) -> SourceEpisode:
    options = _options(content)
    cameras = chosen([_camera(found, name) for name in options.cameras], content)
    names = [camera.name for camera in cameras]
    without = "the section content.ros says which times these are"
    where = "content.ros.rate" if options.rate is not None else f"content.ros.frames: {options.frames}"
    clock = clock_of((where, made.frames, "ns", without), len(made.frames), content, epoch=True)
    if options.rate is not None and content.fps is None:
        clock = replace(clock, fps=options.rate, fps_source=where)
    texts = {
        name: spans_of(sink, found, made.frames, options.clock) for name, sink in found.sinks.texts.items()
    }
    attributes = {**told, **_last_values(found), **_infos(found)}
    arrays = {**made.arrays, **depth_arrays(bag, found, made.shown, window), TIMESTAMP: clock.timestamp_N}
    borders = topics_of(bag, options.episodes) - found.tallies.keys()
    left_out = _left_out(bag, {*found.tallies, *borders})
    return SourceEpisode(
        num_frames=len(made.frames),
        fps=clock.fps,
        fps_source=clock.fps_source,
        start_ns=clock.start_ns,
        cameras=cameras,
        arrays=arrays,
        attributes={**attributes, "ros": _account(bag, found, made, borders)},
        environment={},
        left_out=left_out,
        remarks=_remarks(bag, found, made, left_out),
        frames=pictures_of(bag, found, made.shown, names, window) if names else (),
        steps_text=[(start, end, name, text) for name in texts for start, end, text in texts[name]],
    )


def _left_out(bag: Bag, taken: set[str]) -> dict[str, str]:
    """Why no other topic that has messages is read."""
    pictures = {channel.topic for channel in bag.channels if full_type(channel.type) in OF_PICTURES}
    others = (topic for topic in bag.topics if topic not in taken and bag.num_messages(topic))
    return {topic: UNNAMED if topic in pictures else NO_PICTURES for topic in others}


def _camera(found: Gathered, name: str) -> SourceCamera:
    sink = found.sinks.cameras[name]
    assert sink.size is not None
    return SourceCamera(name, sink.stated.topic, sink.size.height, sink.size.width)


def _account(bag: Bag, found: Gathered, made: Synced, borders: set[str]) -> dict[str, Any]:
    """What became of every message, and what was measured of every stream."""
    damage = found.damage
    broken = {**damage.lost, **dict.fromkeys(damage.unknown)}
    others = [topic for topic in bag.topics if topic not in found.tallies and topic not in borders]
    return {
        "topics": {topic: tally.to_json() for topic, tally in sorted(found.tallies.items())},
        "unmapped": {topic: bag.num_messages(topic) for topic in others},
        "streams": made.measures,
        **({"borders": {topic: bag.num_messages(topic) for topic in sorted(borders)}} if borders else {}),
        **({"broken": broken} if broken else {}),
    }


def _remarks(bag: Bag, found: Gathered, made: Synced, left_out: Mapping[str, str]) -> dict[str, str]:
    of_bag = [*bag.remarks]
    if found.damage.lost or found.damage.unknown:
        reason = next(iter((*found.damage.lost, *found.damage.unknown)))
        of_bag.append(f"has messages that are lost, for {reason}")
    empty = {
        name: "has no message near some frames, whose rows stay empty"
        for name, measures in made.measures.items()
        if measures.get("empty_frames")
    }
    lost = {topic: UNNAMED for topic, why in left_out.items() if why == UNNAMED}
    told = {**lost, **tallies.remarks(found.tallies), **made.remarks}
    for name, sentence in empty.items():
        told[name] = f"{told[name]}; it {sentence}" if name in told else sentence
    return {**told, **({"the bag": "; it ".join(of_bag)} if of_bag else {})}


def _last_values(found: Gathered) -> dict[str, Any]:
    """Attributes of topics: the last message counts."""
    values = {}
    for name, sink in found.sinks.attributes.items():
        if sink.values:
            values[name] = sink.values[-1]
            found.tally(sink.stated.topic).use([sink.series.ordinals[-1]])
    return values


def _infos(found: Gathered) -> dict[str, Any]:
    """CameraInfo by camera: size, distortion and matrices."""
    infos = {name: sink.values for name, sink in found.sinks.infos.items() if sink.values}
    return {"camera_info": infos} if infos else {}


def _beside(file: SourceFile, options: RosOptions) -> dict[str, str]:
    """The texts of files beside the bag, by attribute."""
    texts = {}
    for name, pattern in options.beside.items():
        wanted = pattern.replace(BAG, stem(file.path))
        found = [item for item in file.companions if fnmatch.fnmatch(PurePosixPath(item.path).name, wanted)]
        if not found:
            continue
        path = Path(file.root, min(item.path for item in found))
        if path.stat().st_size > LARGEST_TEXT:
            raise Refused(
                f"its file {path.name} has {path.stat().st_size} bytes, more than a text beside a bag"
            )
        try:
            texts[name] = path.read_text("utf-8").strip()
        except UnicodeDecodeError as error:
            raise Refused(f"its file {path.name} is no text in UTF-8: {error}") from error
    return texts
