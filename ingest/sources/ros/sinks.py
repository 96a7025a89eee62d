"""What is kept of each message on the first pass through a bag: times and numbers; of pictures times alone.

Legend: M messages of one stream in the order in which they were received, d numbers of each.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.alike import Alike
from robot_foundry.ingest.sources.ros.messages.depth import depth_of
from robot_foundry.ingest.sources.ros.messages.fields import numbers_at, quaternions_at, stamp_of, text_at
from robot_foundry.ingest.sources.ros.messages.images import Size, size_of
from robot_foundry.ingest.sources.ros.messages.packets import Packets
from robot_foundry.ingest.sources.ros.options import CameraTopic, NumberTopic, RosOptions, TextTopic
from robot_foundry.ingest.sources.ros.times.tf import TF_STATIC, TOPICS, Tree
from robot_foundry.shards.images import Headers

# Entries of an attribute that comes from a CameraInfo: ROS 1 writes the matrices in capitals.
MATRICES = ("k", "d", "r", "p")


class Sink(Protocol):
    """A stream of the spec. `topics` are as the spec names them."""

    @property
    def topics(self) -> tuple[str, ...]: ...

    def take(self, message: Any, topic: str, received_ns: int, ordinal: int) -> None:
        """Keep what is wanted of the message, the `ordinal`th of its topic.

        Undecodable if it holds nothing of the kind, NotOfThis if it is none of the stream's.
        """
        ...


@dataclass
class Series:
    """Times of the messages of a stream, in ns, and which of its topic each is."""

    stamps: array[int] = field(default_factory=lambda: array("q"))
    received: array[int] = field(default_factory=lambda: array("q"))
    ordinals: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.stamps)

    def add(self, message: Any, received_ns: int, ordinal: int) -> None:
        self.add_times(stamp_of(message), received_ns, ordinal)

    def add_times(self, stamp_ns: int, received_ns: int, ordinal: int) -> None:
        self.stamps.append(stamp_ns)
        self.received.append(received_ns)
        self.ordinals.append(ordinal)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Stamps, times of receipt and ordinals [M]."""
        return tuple(np.array(values, np.int64) for values in (self.stamps, self.received, self.ordinals))  # type: ignore[return-value]


@dataclass
class NumberSink:
    """`width` numbers of each message; `quaternions` are the first columns of those among them."""

    name: str
    stated: NumberTopic
    series: Series = field(default_factory=Series)
    values: array[float] = field(default_factory=lambda: array("d"))
    width: int = 0
    quaternions: tuple[int, ...] = ()

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.stated.topic,)

    @property
    def num_bytes(self) -> int:
        return len(self.series) * (3 + self.width) * 8

    def take(self, message: Any, topic: str, received_ns: int, ordinal: int) -> None:
        numbers_d = self.numbers(message)
        if not self.width:
            self.width = len(numbers_d)
            if not self.stated.names:
                self.quaternions = tuple(quaternions_at(message, self.stated.field))
        if len(numbers_d) != self.width:
            raise Undecodable(
                f"it has {len(numbers_d)} numbers under '{self.stated.field}', and the first has {self.width}"
            )
        self.series.add(message, received_ns, ordinal)
        self.values.extend(numbers_d.tolist())

    def numbers(self, message: Any) -> NDArray[np.float64]:
        """Those that are wanted of the message [d]. Undecodable or NotOfThis as `take`."""
        return numbers_at(message, self.stated.field, self.stated.names)

    def rows(self) -> NDArray[np.float64]:
        """[M, d]"""
        return np.array(self.values, np.float64).reshape(-1, max(self.width, 1))


@dataclass
class CameraSink:
    """The times of pictures, or of depth maps, and the size of the first.

    `lies_at` says of each the number of its channel, its place (NOWHERE if it has none) and its number of
    bytes; `alike` tell the next pictures by those before. Of packets of video `packets` is the decoder, and
    `shown` are the messages whose pictures came out of it.
    """

    name: str
    stated: CameraTopic
    is_depth: bool = False
    series: Series = field(default_factory=Series)
    size: Size | None = None
    headers: Headers = field(default_factory=Headers)
    alike: list[Alike] = field(default_factory=list)
    lies_at: tuple[array[int], array[int], array[int]] = field(
        default_factory=lambda: (array("i"), array("q"), array("q"))
    )
    packets: Packets | None = None
    shown: set[int] = field(default_factory=set)

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.stated.topic,)

    @property
    def num_bytes(self) -> int:
        return len(self.series) * 6 * 8

    def keep_place(self, channel: int, place: int, num_bytes: int) -> None:
        """Keep where the message lies that was taken last."""
        channels, places, sizes = self.lies_at
        channels.append(channel)
        places.append(place)
        sizes.append(num_bytes)

    def take(self, message: Any, topic: str, received_ns: int, ordinal: int) -> None:
        if self.is_depth:
            depth_of(message)
        elif self.stated.video:
            self.packets = self.packets or Packets()
            self._come(self.packets.frames(message, ordinal))
        else:
            size = size_of(message, self.headers.probe)
            self.size = self.size or size
        self.series.add(message, received_ns, ordinal)

    def finish(self) -> list[int]:
        """Of video, leave out the messages whose packets gave no picture in the end: these."""
        if self.packets is None:
            return []
        self._come(self.packets.rest())
        whole, self.series, self.packets = self.series, Series(), None
        for stamp, received, ordinal in zip(whole.stamps, whole.received, whole.ordinals, strict=True):
            if ordinal in self.shown:
                self.series.add_times(stamp, received, ordinal)
        return [ordinal for ordinal in whole.ordinals if ordinal not in self.shown]

    def _come(self, frames: Iterable[tuple[int, Any]]) -> None:
        for ordinal, frame in frames:
            self.shown.add(ordinal)
            self.size = self.size or Size(frame.height, frame.width, False)


@dataclass
class TextSink:
    """Texts with their times of receipt; all are of some use, if the episode has a frame."""

    name: str
    stated: TextTopic
    series: Series = field(default_factory=Series)
    values: list[str | bool | int | float] = field(default_factory=list)

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.stated.topic,)

    def take(self, message: Any, topic: str, received_ns: int, ordinal: int) -> None:
        self.values.append(text_at(message, self.stated.field))
        self.series.add(message, received_ns, ordinal)


@dataclass
class InfoSink:
    """The first CameraInfo of a camera, and how many later ones are not as it is."""

    name: str
    topic: str
    ordinals: list[int] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    num_unlike: int = 0

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.topic,)

    def take(self, message: Any, topic: str, received_ns: int, ordinal: int) -> None:
        try:
            values = {
                "height": int(message.height),
                "width": int(message.width),
                "distortion_model": str(message.distortion_model),
                **{name: _matrix(message, name) for name in MATRICES},
            }
        except AttributeError as error:
            raise Undecodable("it is no CameraInfo") from error
        if self.values and values != self.values:
            self.num_unlike += 1
            return
        self.values = values
        self.ordinals.append(ordinal)


def _matrix(message: Any, name: str) -> list[float]:
    values = getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
    return [float(value) for value in values]


@dataclass
class TfSink:
    """All transforms, where the spec asks for a pose along them."""

    tree: Tree = field(default_factory=Tree)

    @property
    def topics(self) -> tuple[str, ...]:
        return TOPICS

    @property
    def num_bytes(self) -> int:
        return self.tree.num_bytes

    def take(self, message: Any, topic: str, received_ns: int, ordinal: int) -> None:
        self.tree.take(message, received_ns, ordinal, is_static=topic.lstrip("/") == TF_STATIC.lstrip("/"))


@dataclass(frozen=True)
class Sinks:
    """All that a spec asks of a bag."""

    cameras: dict[str, CameraSink]
    depth: dict[str, CameraSink]
    numbers: dict[str, NumberSink]
    extra: dict[str, NumberSink]
    texts: dict[str, TextSink]
    attributes: dict[str, TextSink]
    infos: dict[str, InfoSink]
    tf: TfSink | None

    @classmethod
    def of(cls, options: RosOptions) -> Sinks:
        streams = options.streams
        numbers = {name: of for name, of in streams.items() if isinstance(of, NumberTopic)}
        infos = {name: camera.info for name, camera in (*options.cameras.items(), *options.depth.items())}
        return cls(
            cameras={name: CameraSink(name, of) for name, of in options.cameras.items()},
            depth={name: CameraSink(name, of, is_depth=True) for name, of in options.depth.items()},
            numbers={name: NumberSink(name, of) for name, of in numbers.items()},
            extra={name: NumberSink(name, of) for name, of in options.extra.items()},
            texts={name: TextSink(name, of) for name, of in options.texts.items()},
            attributes={name: TextSink(name, of) for name, of in options.attributes.items()},
            infos={name: InfoSink(name, topic) for name, topic in infos.items() if topic is not None},
            tf=TfSink() if len(numbers) < len(streams) else None,
        )

    def __iter__(self) -> Iterator[Sink]:
        for group in (
            self.cameras,
            self.depth,
            self.numbers,
            self.extra,
            self.texts,
            self.attributes,
            self.infos,
        ):
            yield from group.values()
        if self.tf is not None:
            yield self.tf

    @property
    def num_bytes(self) -> int:
        return sum(getattr(sink, "num_bytes", 0) for sink in self)
