"""Strict reading of the `content` part of a spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robot_foundry.ingest.robot.spec.spec import (
    ALL_CAMERAS,
    Content,
    Encoding,
    LayoutOptions,
    PixelSetting,
    camera_name,
)
from robot_foundry.ingest.sources import LAYOUTS
from robot_foundry.ingest.sources.robot.robot_layout import RobotLayout
from robot_foundry.ingest.spec import section as checks

FLIPS = ("none", "vertical", "horizontal", "both")
ORDERS = ("rgb", "bgr")
AXES = ("HWC", "CHW", "HW")
EXTRA_ROWS = ("next_state",)


def robot_layouts() -> dict[str, RobotLayout]:
    """The layouts of robot data by name."""
    return {name: declared for name, declared in LAYOUTS.items() if isinstance(declared, RobotLayout)}


def read_content(section: checks.Section, layout: RobotLayout | None) -> Content:
    """What goes into the tars; `layout` is the spec's, None if that is wrong itself.

    Which of the options a layout understands, it declares itself.
    """
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
        options=_options(section, layout),
    )
    encoding.close()
    section.close()
    return read


def _pixels(content: checks.Section, layout: RobotLayout | None) -> dict[str, PixelSetting]:
    read = {}
    if "pixels" in content.values and layout is not None and not layout.has_image_arrays:
        content.report("pixels", f"is for arrays of images, of which the layout {layout.name} has none")
    for pattern, values in content.entries("pixels").items():
        section = checks.Section(values, f"{content.path('pixels')}.{pattern}", content.problems)
        axes = section.take("axes", checks.optional(checks.choice(AXES)), None)
        read[pattern] = PixelSetting(axes, section.take("range", checks.optional(_range), None))
        section.close()
    return read


def _extra_row(content: checks.Section, layout: RobotLayout | None) -> str | None:
    meaning: str | None = content.take("extra_row", checks.optional(checks.choice(EXTRA_ROWS)), None)
    if meaning is not None and layout is not None and not layout.has_own_lengths:
        takers = sorted(name for name, declared in robot_layouts().items() if declared.has_own_lengths)
        content.report("extra_row", f"belongs to the layouts {', '.join(takers)}")
    return meaning


def _options(content: checks.Section, layout: RobotLayout | None) -> LayoutOptions | None:
    """What the layout alone understands. Sections of other layouts are read for their problems."""
    options = None
    for name, declared in robot_layouts().items():
        if declared.options is None:
            continue
        is_own, is_there = declared is layout, name in content.values
        if layout is not None and is_there and not is_own:
            others = f"the layout {layout.name} {declared.options.others}"
            content.report(name, f"belongs to the layout {name}; {others}")
        if is_there:
            options = declared.options.read(content.section(name))
            continue
        content.known.append(name)
        if is_own and not content.broken:
            content.report(name, "is missing")
    return options


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
    names = {checks.text(source): camera_name(name) for source, name in value.items()}
    for name in names.values():
        if list(names.values()).count(name) > 1:
            raise ValueError(f"gives the name '{name}' twice")
    return names
