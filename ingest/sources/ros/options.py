"""What a spec says of ROS bags: which topics are cameras, arrays and texts, and how they come onto one clock.

docs/ros.md lists every key of the section `content.ros`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

NEAREST, PREVIOUS, LINEAR, SLERP = "nearest", "previous", "linear", "slerp"
MATCHES = (NEAREST, PREVIOUS, LINEAR, SLERP)
AUTO, HEADER, RECEIVE = "auto", "header", "receive"
CLOCKS = (AUTO, HEADER, RECEIVE)
ALL_PARTS, PRESENT_PARTS = "all", "present"
TYPESTORES = (
    "ros2_dashing",
    "ros2_eloquent",
    "ros2_foxy",
    "ros2_galactic",
    "ros2_humble",
    "ros2_iron",
    "ros2_jazzy",
    "ros2_kilted",
)
# In place of the name in a pattern of files that lie beside a bag.
BAG = "{bag}"


@dataclass(frozen=True)
class Matching:
    """How messages become the rows of frames.

    `tolerance` is how far in seconds a message may be from the frame that uses it; None: twice the median
    step of its stream, infinity: any. `clock` says whose time counts, None: that of the section.
    """

    match: str
    tolerance: float | None = None
    clock: str | None = None

    def to_json(self) -> dict[str, Any]:
        tolerance = "none" if self.tolerance == math.inf else self.tolerance
        return {"match": self.match, "tolerance": tolerance, "clock": self.clock}


@dataclass(frozen=True)
class CameraTopic:
    """A topic of Image or CompressedImage, or of packets of `video`; `info` is that of its CameraInfo.

    Bags may lack an `optional` one.
    """

    topic: str
    matching: Matching
    info: str | None = None
    video: bool = False
    optional: bool = False

    def to_json(self) -> dict[str, Any]:
        values = {"topic": self.topic, **self.matching.to_json(), "info": self.info}
        return {**values, **{name: True for name in ("video", "optional") if getattr(self, name)}}


@dataclass(frozen=True)
class NumberTopic:
    """The numbers under the path `field` of the messages of a topic.

    `names` picks and orders entries by the message's own list of names, as of JointState.
    """

    topic: str
    field: str
    matching: Matching
    names: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        names = list(self.names)
        return {"topic": self.topic, "field": self.field, "names": names, **self.matching.to_json()}


@dataclass(frozen=True)
class FrameChain:
    """The pose of the frame `child` in the frame `parent`, along the transforms of tf."""

    parent: str
    child: str
    matching: Matching

    def to_json(self) -> dict[str, Any]:
        values = self.matching.to_json()
        del values["match"]
        return {"tf": [self.parent, self.child], **values}


@dataclass(frozen=True)
class TextTopic:
    """The text (or, of an attribute, the text, truth or number) under a path of the messages of a topic."""

    topic: str
    field: str = "data"

    def to_json(self) -> dict[str, Any]:
        return {"topic": self.topic, "field": self.field}


@dataclass(frozen=True)
class Service:
    """Requests of a service of ROS 2, as of `ros2 bag record --all-services`.

    `field` is a path of the request whose value counts. Without it each request of `begin` is a start, and
    each of the service `until` a stop.
    """

    begin: str
    until: str | None = None
    field: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"service": self.begin, "until": self.until, "field": self.field}


@dataclass(frozen=True)
class Episodes:
    """Where episodes begin and end in a bag; one way of four.

    `gap`: at a pause of more seconds than this of the messages of `topic`, None: of all that are read.
    `trigger`: where the value of that topic is `start` and `stop`, `service`: that of its requests.
    `times`: as rows of a CSV file beside the bag say, a shell pattern of its name.
    """

    gap: float | None = None
    topic: str | None = None
    trigger: TextTopic | None = None
    service: Service | None = None
    start: Any = True
    stop: Any = False
    times: str | None = None

    def to_json(self) -> dict[str, Any]:
        if self.gap is not None:
            return {"gap": self.gap, "topic": self.topic}
        if self.trigger is not None:
            trigger = self.trigger
            values = {"trigger": trigger.topic, "field": trigger.field}
            return {**values, "start": self.start, "stop": self.stop}
        if self.service is not None:
            values = {"start": self.start, "stop": self.stop} if self.service.field is not None else {}
            return {**self.service.to_json(), **values}
        return {"times": self.times}


Numbers = NumberTopic | FrameChain


@dataclass(frozen=True)
class RosOptions:
    """The options of the layout `ros`, see `LayoutOptions`.

    Frames are `rate` a second, or those of the camera or stream `frames`. `streams` are arrays of one row a
    frame, `extra` arrays at their own rate, `depth` maps of a camera. `texts` are of spans of frames,
    `attributes` of the episode (the last message counts), `beside` patterns of text files by attribute.
    `definitions` are patterns of .msg files, `typestore` has the types of bags without any. `split` joins
    numbered files that no metadata.yaml lists; `parts` says whether all that it lists must be there.
    """

    section: ClassVar[str] = "ros"
    rate: float | None = None
    frames: str | None = None
    clock: str = AUTO
    cameras: Mapping[str, CameraTopic] = field(default_factory=dict)
    streams: Mapping[str, Numbers] = field(default_factory=dict)
    depth: Mapping[str, CameraTopic] = field(default_factory=dict)
    extra: Mapping[str, NumberTopic] = field(default_factory=dict)
    texts: Mapping[str, TextTopic] = field(default_factory=dict)
    attributes: Mapping[str, TextTopic] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    episodes: Episodes | None = None
    definitions: tuple[str, ...] = ()
    typestore: str = "ros2_humble"
    split: bool = False
    parts: str = ALL_PARTS

    @property
    def arrays(self) -> frozenset[str]:
        return frozenset()

    @property
    def image_patterns(self) -> tuple[tuple[str, str], ...]:
        return ()

    def clock_of(self, matching: Matching) -> str:
        return matching.clock or self.clock

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, Mapping):
                value = {
                    key: item if isinstance(item, str) else item.to_json() for key, item in value.items()
                }
            elif isinstance(value, Episodes):
                value = value.to_json()
            elif isinstance(value, tuple):
                value = list(value)
            values[option.name] = value
        return values
