"""Pictures that are read one by one, each where its message lies in the bag.

Legend: N frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.robot.source_episode import Encoded, Picture
from robot_foundry.ingest.sources.ros.bags.bag import Bag, Channel
from robot_foundry.ingest.sources.ros.bags.container import NOWHERE
from robot_foundry.ingest.sources.ros.bags.damage import MISTYPED
from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.images import picture_of
from robot_foundry.ingest.sources.ros.sinks import CameraSink
from robot_foundry.shards.errors import CorruptImage

UNREADABLE: tuple[type[Exception], ...] = (Undecodable, CorruptImage, *MISTYPED)


class Placed:
    """The pictures of one camera, of which the last one is kept, for the next frame may show it again.

    `shown_N` are their numbers in the stream by frame, -1 for none.
    """

    def __init__(self, bag: Bag, sink: CameraSink, shown_N: NDArray[np.int64]) -> None:
        self._bag, self._channels, self._sink = bag, bag.channels, sink
        self._shown = shown_N.tolist()
        self._last: tuple[int, Picture] = (-1, None)
        self.num_frames = len(shown_N)

    def has_all(self) -> bool:
        """Whether all pictures that frames show have a place, and are read without those before."""
        if self._sink.stated.video:
            return False
        places = self._sink.lies_at[1]
        return all(number < 0 or places[number] != NOWHERE for number in self._shown)

    def picture(self, frame: int) -> Picture:
        number = self._shown[frame]
        if number != self._last[0]:
            self._last = number, (None if number < 0 else self._read(number))
        return self._last[1]

    def _read(self, number: int) -> Picture:
        channels, places, sizes = self._sink.lies_at
        channel = self._channels[channels[number]]
        return picture_in(self._bag.read(channel, places[number], sizes[number]), channel, self._sink)


def picture_in(raw: Any, channel: Channel, sink: CameraSink) -> NDArray[np.uint8] | Encoded:
    """The picture of a message, one of those that the sink took; a JPEG may share its memory."""
    for alike in sink.alike:
        encoded = alike.encoded(raw)
        if encoded is not None:
            return encoded
    assert channel.decode is not None
    try:
        return picture_of(channel.decode(raw), sink.headers.probe)
    except UNREADABLE as error:
        raise Refused(f"a picture of {channel.topic} cannot be decoded: {error}") from error
