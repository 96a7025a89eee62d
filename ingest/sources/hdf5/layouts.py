"""The layouts of HDF5 files as specs name them; readers and h5py are imported when a source is read.

One that recognises a file comes before those that would take it for theirs as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from robot_foundry.ingest.robot.spec.spec import camera_name
from robot_foundry.ingest.sources.declared import ROBOT
from robot_foundry.ingest.sources.robot.robot_layout import OptionsSection, RobotLayout
from robot_foundry.ingest.spec import section as checks
from robot_foundry.ingest.spec.section import REQUIRED

CONTAINER = "HDF5"
UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True)
class Time:
    """The array of times of the frames, in `unit` (s, ms, us, ns); since 1970 if `epoch`, else since any."""

    key: str
    unit: str = "s"
    epoch: bool = False


@dataclass(frozen=True)
class StatedPlaces:
    """Where things lie in the files: the options of the layout `hdf5`, see `LayoutOptions`.

    `episodes` is a shell pattern of groups such as `data/*`; None if a file is one episode. The other paths
    are inside an episode: `length` of an array with one row a frame, `images` shell patterns of image arrays,
    or such arrays by camera name.
    """

    section: ClassVar[str] = "hdf5"
    length: str
    episodes: str | None = None
    images: tuple[str, ...] | Mapping[str, str] = ()
    time: Time | None = None

    @property
    def arrays(self) -> frozenset[str]:
        # Of `length` the rows are counted, and its numbers are nobody's yet.
        return frozenset([self.time.key] if self.time else [])

    @property
    def image_patterns(self) -> tuple[tuple[str, str], ...]:
        patterns = () if isinstance(self.images, Mapping) else self.images
        return tuple((f"content.{self.section}.images", pattern) for pattern in patterns)

    def to_json(self) -> dict[str, Any]:
        images, time = self.images, self.time
        return {
            "length": self.length,
            "episodes": self.episodes,
            "images": list(images) if isinstance(images, tuple) else dict(images),
            "time": None if time is None else {"key": time.key, "unit": time.unit, "epoch": time.epoch},
        }


def read_places(section: checks.Section) -> StatedPlaces:
    """The section `content.hdf5`."""
    time = section.section("time") if section.values.get("time") is not None else None
    read = StatedPlaces(
        length=section.take("length", checks.text, REQUIRED),
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


def _images(value: Any) -> tuple[str, ...] | dict[str, str]:
    if isinstance(value, dict):
        return {camera_name(name): checks.text(path) for name, path in value.items()}
    return checks.texts(value)


LIBERO = RobotLayout("libero", "robot_foundry.ingest.sources.hdf5.libero:Libero", CONTAINER, ROBOT)
ROBOMIMIC = RobotLayout(
    "robomimic", "robot_foundry.ingest.sources.hdf5.robomimic:Robomimic", CONTAINER, ROBOT
)
ROBOSUITE = RobotLayout(
    "robosuite",
    "robot_foundry.ingest.sources.hdf5.robosuite:Robosuite",
    CONTAINER,
    ROBOT,
    has_images=False,
    has_image_arrays=False,
)
ALOHA = RobotLayout("aloha", "robot_foundry.ingest.sources.hdf5.aloha:Aloha", CONTAINER, ROBOT)
HDF5 = RobotLayout(
    StatedPlaces.section,
    "robot_foundry.ingest.sources.hdf5.stated_places:Hdf5Places",
    CONTAINER,
    ROBOT,
    options=OptionsSection(read_places, others="knows its places", page="docs/hdf5.md"),
)
LAYOUTS = (LIBERO, ROBOMIMIC, ROBOSUITE, ALOHA, HDF5)
