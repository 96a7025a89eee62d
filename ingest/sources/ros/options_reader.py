"""Strict reading of the section `content.ros` of a spec."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from robot_foundry.ingest.robot.spec.spec import camera_name
from robot_foundry.ingest.sources.ros.options import (
    ALL_PARTS,
    AUTO,
    CLOCKS,
    LINEAR,
    MATCHES,
    NEAREST,
    PRESENT_PARTS,
    PREVIOUS,
    TYPESTORES,
    CameraTopic,
    Episodes,
    FrameChain,
    Matching,
    Numbers,
    NumberTopic,
    RosOptions,
    Service,
    TextTopic,
)
from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.section import NONE, REQUIRED
from robot_foundry.runtime.errors import nearest

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# What every episode has beside the arrays of the spec.
TAKEN = ("timestamp", "messages")
CAMERAS = "cameras"
BOUNDARIES = ("gap", "trigger", "service", "times")


def read_options(section: checks.Section) -> RosOptions:
    """The section `content.ros`."""
    default = RosOptions()
    read = RosOptions(
        rate=section.take("rate", checks.optional(checks.positive), None),
        frames=section.take("frames", checks.optional(checks.text), None),
        clock=section.take("clock", checks.choice(CLOCKS), AUTO),
        cameras=dict(_cameras(section, CAMERAS)),
        streams={name: _numbers(entry) for name, entry in _entries(section, "streams")},
        depth=dict(_cameras(section, "depth")),
        extra={name: _number_topic(entry, (NEAREST,)) for name, entry in _entries(section, "extra")},
        texts={name: _text_topic(entry) for name, entry in _entries(section, "texts")},
        attributes={name: _text_topic(entry) for name, entry in _entries(section, "attributes")},
        beside=section.take("beside", _patterns, {}),
        episodes=_episodes(section),
        definitions=section.take("definitions", checks.texts, ()),
        typestore=section.take("typestore", checks.choice(TYPESTORES), default.typestore),
        split=section.take("split", checks.boolean, default.split),
        parts=section.take("parts", checks.choice((ALL_PARTS, PRESENT_PARTS)), default.parts),
    )
    section.close()
    _check_frames(section, read)
    _check_names(section, read)
    return read


def _check_frames(section: checks.Section, read: RosOptions) -> None:
    if section.broken:
        return
    if (read.rate is None) == (read.frames is None):
        section.report(
            "rate", "give either the frames a second, or `frames`, the stream whose messages they are"
        )
    names = (*read.cameras, *(name for name, of in read.streams.items() if isinstance(of, NumberTopic)))
    if read.frames is not None and read.frames not in names:
        listed = ", ".join(names) or "none"
        section.report(
            "frames", f"'{read.frames}' is none of its streams{nearest(read.frames, names)} ({listed})"
        )
    if any(name == read.frames and of.optional for name, of in read.cameras.items()):
        section.report("frames", f"'{read.frames}' is optional, and a bag without it would have no frames")
    if not read.streams:
        section.report("streams", "names no stream")


def _check_names(section: checks.Section, read: RosOptions) -> None:
    arrays = [*read.streams, *read.extra, *read.depth]
    for name in dict.fromkeys(arrays):
        if arrays.count(name) > 1 or name in TAKEN:
            section.report(name, "is the name of more than one array")


def _entries(parent: checks.Section, name: str) -> Iterator[tuple[str, checks.Section]]:
    for key, values in parent.entries(name).items():
        section = checks.Section(values, f"{parent.path(name)}.{key}", parent.problems)
        if not NAME.fullmatch(key):
            parent.report(f"{name}.{key}", "is not a name: use a-z, 0-9 and '_', a letter first")
        elif not section.broken:
            yield key, section


def _matching(section: checks.Section, matches: Sequence[str], default: str) -> Matching:
    return Matching(
        section.take("match", checks.choice(tuple(matches)), default),
        section.take("tolerance", _tolerance, None),
        section.take("clock", checks.optional(checks.choice(CLOCKS)), None),
    )


def _cameras(parent: checks.Section, name: str) -> Iterator[tuple[str, CameraTopic]]:
    for key, section in _entries(parent, name):
        try:
            camera_name(key)
        except ValueError as error:
            parent.report(f"{name}.{key}", str(error))
        camera = CameraTopic(
            topic=section.take("topic", checks.text, REQUIRED),
            matching=_matching(section, (NEAREST, PREVIOUS), NEAREST),
            info=section.take("info", checks.optional(checks.text), None),
            optional=section.take("optional", checks.boolean, False),
            video=name == CAMERAS and section.take("video", checks.boolean, False),
        )
        section.close()
        yield key, camera


def _numbers(section: checks.Section) -> Numbers:
    if "tf" not in section.values:
        return _number_topic(section, MATCHES)
    parent, child = section.take("tf", _two_frames, REQUIRED) or ("", "")
    tolerance = section.take("tolerance", _tolerance, None)
    clock = section.take("clock", checks.optional(checks.choice(CLOCKS)), None)
    section.close()
    return FrameChain(parent, child, Matching(LINEAR, tolerance, clock))


def _number_topic(section: checks.Section, matches: Sequence[str]) -> NumberTopic:
    read = NumberTopic(
        topic=section.take("topic", checks.text, REQUIRED),
        field=section.take("field", checks.text, REQUIRED),
        names=section.take("names", checks.texts, ()),
        matching=_matching(section, matches, LINEAR if LINEAR in matches else NEAREST),
    )
    section.close()
    return read


def _text_topic(section: checks.Section) -> TextTopic:
    read = TextTopic(section.take("topic", checks.text, REQUIRED), section.take("field", checks.text, "data"))
    section.close()
    return read


def _episodes(parent: checks.Section) -> Episodes | None:
    if parent.values.get("episodes") is None:
        return parent.take("episodes", checks.optional(checks.text), None)
    section = parent.section("episodes")
    return None if section.broken else _boundaries(section)


def _boundaries(section: checks.Section) -> Episodes:
    ways = [name for name in BOUNDARIES if name in section.values]
    if len(ways) != 1:
        unknown = next((name for name in section.values if name not in BOUNDARIES), "")
        section.report(
            "gap", f"name one of {', '.join(BOUNDARIES)}{nearest(unknown, BOUNDARIES) if unknown else ''}"
        )
        return Episodes()
    if ways == ["gap"]:
        read = Episodes(
            gap=section.take("gap", checks.positive, None),
            topic=section.take("topic", checks.optional(checks.text), None),
        )
    elif ways == ["trigger"]:
        topic = section.take("trigger", checks.text, None)
        read = Episodes(
            trigger=TextTopic(topic or "", section.take("field", checks.text, "data")),
            start=section.take("start", _value, True),
            stop=section.take("stop", _value, False),
        )
    elif ways == ["service"]:
        read = _service(section)
    else:
        read = Episodes(times=section.take("times", checks.text, None))
    section.close()
    return read


def _service(section: checks.Section) -> Episodes:
    has_values = not {"start", "stop"}.isdisjoint(section.values)
    until = section.take("until", checks.optional(checks.text), None)
    field = section.take("field", checks.optional(checks.text), None)
    start, stop = section.take("start", _value, True), section.take("stop", _value, False)
    if field is not None and until is not None:
        section.report("until", "give either the service that ends an episode, or `field`, whose value tells")
    if field is None and has_values:
        section.report("field", "is missing: the field of the request whose value is `start` or `stop`")
    service = Service(section.take("service", checks.text, None) or "", until, field)
    return Episodes(service=service, start=start, stop=stop)


def _tolerance(value: Any) -> float | None:
    return math.inf if value == NONE else checks.optional(checks.positive)(value)


def _two_frames(value: Any) -> tuple[str, str]:
    frames = checks.texts(value)
    if len(frames) != 2:
        raise ValueError(f"expected [parent, child], two names of frames, got {value!r}")
    return frames[0], frames[1]


def _patterns(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"expected names of attributes and of files beside the bag, got {value!r}")
    return {checks.text(name): checks.text(pattern) for name, pattern in value.items()}


def _value(value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"expected a text, a number, true or false, got {value!r}")
