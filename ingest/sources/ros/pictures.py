"""The second pass through a bag: the pictures of its cameras, frame by frame, each decoded when it comes.

Legend: N frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.source_episode import Encoded, Picture
from robot_foundry.ingest.sources.ros.bags.bag import Bag, Message
from robot_foundry.ingest.sources.ros.bags.damage import Damage
from robot_foundry.ingest.sources.ros.gather import Gathered, Window
from robot_foundry.ingest.sources.ros.messages.depth import depth_of, png_of
from robot_foundry.ingest.sources.ros.messages.packets import Packets
from robot_foundry.ingest.sources.ros.placed import UNREADABLE, Placed, picture_in
from robot_foundry.ingest.sources.ros.sinks import CameraSink

# Pictures that wait for those of other cameras. A camera that is further behind belongs to no frame.
MOST_WAITING_BYTES = 1 << 29
MOST_DEPTH_BYTES = 1 << 30


class _Waiting:
    """The pictures of one camera that frames still need, by their numbers in the stream."""

    def __init__(self, sink: CameraSink, shown_N: NDArray[np.int64]) -> None:
        self.ordinals = {ordinal: place for place, ordinal in enumerate(sink.series.ordinals)}
        self.shown: list[int] = shown_N.tolist()
        self.last_use = {place: frame for frame, place in enumerate(self.shown) if place >= 0}
        self.sink = sink
        self.packets = Packets() if sink.stated.video else None
        self.pictures: dict[int, NDArray[np.uint8] | Encoded] = {}

    def place_of(self, ordinal: int) -> int | None:
        """Where a message of the topic stands in the stream, if a frame needs it."""
        place = self.ordinals.get(ordinal)
        return place if place in self.last_use else None

    def take(self, message: Message, ordinal: int) -> int:
        """Keep what the message shows, if a frame needs it; what comes is how many bytes that takes."""
        assert message.channel.decode is not None
        if self.packets is None:
            place = self.place_of(ordinal)
            if place is None:
                return 0
            picture = picture_in(message.raw, message.channel, self.sink)
            if isinstance(picture, Encoded):  # out of the memory of its chunk
                picture = Encoded(bytes(picture.data), picture.format, picture.size)
            self.pictures[place] = picture
            return _size(picture)
        try:
            return self.show(self.packets.frames(message.channel.decode(message.raw), ordinal))
        except UNREADABLE:  # as in the first pass, where it was counted
            return 0

    def show(self, frames: Iterable[tuple[int, Any]]) -> int:
        """Keep decoded pictures of a video that frames need; what comes is how many bytes they take."""
        taken = 0
        for ordinal, frame in frames:
            place = self.place_of(ordinal)
            if place is not None and self.packets is not None:
                self.pictures[place] = self.packets.pixels(frame)
                taken += _size(self.pictures[place])
        return taken

    def has(self, frame: int) -> bool:
        place = self.shown[frame]
        return place < 0 or place in self.pictures

    def pop(self, frame: int) -> Picture:
        place = self.shown[frame]
        if place < 0:
            return None
        picture = self.pictures[place]
        if self.last_use[place] == frame:
            del self.pictures[place]
        return picture


def pictures_of(
    bag: Bag, gathered: Gathered, shown: Mapping[str, NDArray[np.int64]], names: Sequence[str], window: Window
) -> Iterator[list[Picture]]:
    """Of each frame, the picture of each camera of `names`, or None.

    Each is read where it lies or, if one has no place, all in one pass in the order of the bag.
    """
    sinks = gathered.sinks.cameras
    placed = [Placed(bag, sinks[name], shown[name]) for name in names]
    if placed and all(camera.has_all() for camera in placed):
        for frame in range(placed[0].num_frames):
            yield [camera.picture(frame) for camera in placed]
        return
    waiting = {name: _Waiting(sinks[name], shown[name]) for name in names}
    by_topic: dict[str, list[_Waiting]] = defaultdict(list)
    for name in names:
        by_topic[gathered.names[sinks[name].stated.topic]].append(waiting[name])
    num_frames, frame, held = (len(shown[names[0]]) if names else 0), 0, 0
    for message, ordinal in _messages(bag, gathered, {name: sinks[name] for name in names}, window):
        for one in by_topic[message.channel.topic]:
            held += one.take(message, ordinal)
        if held > MOST_WAITING_BYTES:
            held = sum(_size(picture) for one in waiting.values() for picture in one.pictures.values())
        if held > MOST_WAITING_BYTES:
            behind = next(name for name in names if not waiting[name].has(frame))
            raise Refused(
                f"the pictures of camera '{behind}' come so late that those of others fill the memory"
            )
        while frame < num_frames and all(one.has(frame) for one in waiting.values()):
            yield [one.pop(frame) for one in waiting.values()]
            frame += 1
        if frame == num_frames:
            return
    for one in waiting.values():
        if one.packets is not None:
            one.show(one.packets.rest())
    # A frame before any message, or all of them, may need no picture at all.
    while frame < num_frames and all(one.has(frame) for one in waiting.values()):
        yield [one.pop(frame) for one in waiting.values()]
        frame += 1
    if frame < num_frames:
        raise Refused("its pictures are not those of the first time it was read")


def depth_arrays(
    bag: Bag, gathered: Gathered, shown: Mapping[str, NDArray[np.int64]], window: Window
) -> dict[str, NDArray[Any]]:
    """Of each depth camera the PNG files of its frames, one after the other, and the length [N] of each."""
    sinks = gathered.sinks.depth
    waiting = {name: _Waiting(sink, shown[name]) for name, sink in sinks.items()}
    found: dict[str, dict[int, bytes]] = defaultdict(dict)
    num_bytes = 0
    for message, ordinal in _messages(bag, gathered, sinks, window) if sinks else ():
        for name, sink in sinks.items():
            if gathered.names[sink.stated.topic] == message.channel.topic:
                place = waiting[name].place_of(ordinal)
                if place is not None:
                    found[name][place] = _depth(message)
                    num_bytes += len(found[name][place])
        if num_bytes > MOST_DEPTH_BYTES:
            raise Refused(
                f"its depth maps take more than {MOST_DEPTH_BYTES} bytes: cut it by content.ros.episodes"
            )
    arrays: dict[str, NDArray[Any]] = {}
    for name in sinks:
        files = [found[name].get(int(place), b"") for place in shown[name]]
        arrays[f"{name}/values"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"{name}/lengths"] = np.array([len(file) for file in files], np.int64)
    return arrays


def _messages(
    bag: Bag, gathered: Gathered, sinks: Mapping[str, CameraSink], window: Window
) -> Iterator[tuple[Message, int]]:
    """Messages of the cameras, each with its number among those of its topic, as in the first pass."""
    topics = {gathered.names[sink.stated.topic] for sink in sinks.values()}
    counts: dict[str, int] = defaultdict(int)
    if not topics:
        return
    for message in bag.messages(topics, Damage(), window.start, window.stop):
        topic = message.channel.topic
        yield message, counts[topic]
        counts[topic] += 1


def _depth(message: Message) -> bytes:
    assert message.channel.decode is not None
    try:
        return png_of(depth_of(message.channel.decode(message.raw)))
    except UNREADABLE as error:
        raise Refused(f"a depth map of {message.channel.topic} cannot be decoded: {error}") from error


def _size(picture: NDArray[np.uint8] | Encoded) -> int:
    return len(picture.data) if isinstance(picture, Encoded) else picture.nbytes
