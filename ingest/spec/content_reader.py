"""Strict reading of the `content` part of a spec."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.quantities import REQUIRED
from robot_foundry.ingest.spec.spec import ALL_CAMERAS, Content, Encoding, PixelSetting, Places, Time
from robot_foundry.shards.robot.names import CAMERA

PLACES_LAYOUT = "hdf5"
FLIPS = ("none", "vertical", "horizontal", "both")
ORDERS = ("rgb", "bgr")
UNITS = ("s", "ms", "us", "ns")
AXES = ("HWC", "CHW", "HW")
EXTRA_ROWS = ("next_state",)
WITHOUT_PIXELS = ("droid_raw", "robosuite")
# Layouts whose arrays carry lengths of their own; rows of the others answer to each other one by one.
OF_OWN_LENGTHS = ("aloha", "hdf5", "libero", "robomimic", "robosuite")


def read_content(section: checks.Section, layout: str | None) -> Content:
    """What goes into the tars; `layout` is the spec's, None if that is wrong itself."""
    default = Content()
    encoding = section.section("encoding")
    read = Content(
        cameras=section.take("cameras", _cameras, default.cameras),
        encoding=Encoding(
            format=encoding.take("format", checks.choice(("jpeg",)), default.encoding.format),
            quality=encoding.take("quality", checks.integer(1, 100), default.encoding.quality),
        ),
        resize=section.take("resize", checks.optional(_size), default.resize),
        flip=section.take("flip", _by_camera(FLIPS), {}),
        channel_order=section.take("channel_order", _by_camera(ORDERS), {}),
        rename=section.take("rename", _renamed, {}),
        pixels=_pixels(section, layout),
        extra_row=_extra_row(section, layout),
        skip=section.take("skip", checks.texts, default.skip),
        fps=section.take("fps", checks.optional(checks.positive), default.fps),
        default_fps=section.take("default_fps", checks.positive, default.default_fps),
        shard_bytes=section.take("shard_bytes", checks.integer(1, 1 << 40), default.shard_bytes),
        hdf5=_places(section, layout),
    )
    encoding.close()
    section.close()
    return read


def _pixels(content: checks.Section, layout: str | None) -> dict[str, PixelSetting]:
    read = {}
    if "pixels" in content.values and layout in WITHOUT_PIXELS:
        content.report("pixels", f"is for arrays of images, of which the layout {layout} has none")
    for pattern, values in content.entries("pixels").items():
        section = checks.Section(values, f"{content.path('pixels')}.{pattern}", content.problems)
        axes = section.take("axes", checks.optional(checks.choice(AXES)), None)
        read[pattern] = PixelSetting(axes, section.take("range", checks.optional(_range), None))
        section.close()
    return read


def _extra_row(content: checks.Section, layout: str | None) -> str | None:
    told: str | None = content.take("extra_row", checks.optional(checks.choice(EXTRA_ROWS)), None)
    if told is not None and layout is not None and layout not in OF_OWN_LENGTHS:
        content.report("extra_row", f"belongs to the layouts {', '.join(OF_OWN_LENGTHS)}")
    return told


def _places(content: checks.Section, layout: str | None) -> Places | None:
    is_needed = layout == PLACES_LAYOUT
    is_there = "hdf5" in content.values
    if layout is not None and is_there and not is_needed:
        content.report("hdf5", f"belongs to the layout {PLACES_LAYOUT}; the layout {layout} knows its places")
    if not is_there and not is_needed:
        content.known.append("hdf5")
        return None
    section = content.section("hdf5", required=True)
    time = section.section("time") if section.values.get("time") is not None else None
    read = Places(
        length=section.take("length", checks.text, REQUIRED) if is_there else "",
        episodes=section.take("episodes", checks.optional(checks.text), None),
        images=section.take("images", _images, ()),
        time=None if time is None else _time(time),
    )
    section.values.pop("time", None)
    section.known.append("time")
    section.close()
    return read


def _time(section: checks.Section) -> Time:
    read = Time(
        key=section.take("key", checks.text, REQUIRED),
        unit=section.take("unit", checks.choice(UNITS), "s"),
        epoch=section.take("epoch", checks.boolean, False),
    )
    section.close()
    return read


def _cameras(value: Any) -> tuple[str, ...] | None:
    return None if value == "all" else checks.texts(value)


def _size(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"expected [height, width], got {value!r}")
    check = checks.integer(1, 8192)
    return check(value[0]), check(value[1])


def _range(value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"expected the numbers of [black, white], got {value!r}")
    black, white = checks.number(value[0]), checks.number(value[1])
    if black == white:
        raise ValueError(f"expected two unlike numbers of black and white, got {value!r}")
    return black, white


def _by_camera(choices: tuple[str, ...]) -> Callable[[Any], dict[str, str]]:
    check = checks.choice(choices)

    def read(value: Any) -> dict[str, str]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return {ALL_CAMERAS: check(value)}
        return {checks.text(camera): check(choice) for camera, choice in value.items()}

    return read


def _renamed(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"expected source names and stored names, got {value!r}")
    names = {checks.text(source): _camera_name(name) for source, name in value.items()}
    for name in names.values():
        if list(names.values()).count(name) > 1:
            raise ValueError(f"gives the name '{name}' twice")
    return names


def _camera_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(CAMERA, value):
        raise ValueError(f"{value!r} is not a camera name: use 1 to 40 of the characters a-z, 0-9 and '_'")
    return value


def _images(value: Any) -> tuple[str, ...] | dict[str, str]:
    if isinstance(value, dict):
        return {_camera_name(name): checks.text(path) for name, path in value.items()}
    return checks.texts(value)
