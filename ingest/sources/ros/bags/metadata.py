"""What metadata.yaml says of a ROS 2 bag: its parts, in their order, and how many messages they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.bag_files import METADATA

LARGEST = 16 << 20
SECTION = "rosbag2_bagfile_information"


@dataclass(frozen=True)
class Metadata:
    """`parts` are names of files in their order, `counts` messages by topic. `compression` is none, or what
    is compressed: file or message.
    """

    parts: tuple[str, ...]
    num_messages: int
    counts: Mapping[str, int]
    compression: str


def read_metadata(path: Path) -> Metadata:
    """What the file says. Refused if it is no metadata.yaml of a bag."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if path.stat().st_size > LARGEST:
        raise Refused(f"its {METADATA} has {path.stat().st_size} bytes")
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))[SECTION]
        return _metadata(values)
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"its {METADATA} is not YAML: {' '.join(str(error).split())}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(
            f"its {METADATA} is none of a bag ({type(error).__name__}: {error}): move it away to go without"
        ) from error


def _metadata(values: Any) -> Metadata:
    counts: dict[str, int] = {}
    for entry in values["topics_with_message_count"]:
        name = str(entry["topic_metadata"]["name"])
        counts[name] = counts.get(name, 0) + int(entry["message_count"])
    return Metadata(
        # Of old versions the paths begin with the folder, which may be called otherwise by now.
        tuple(PurePosixPath(str(path)).name for path in values["relative_file_paths"]),
        int(values["message_count"]),
        counts,
        str(values.get("compression_mode") or "none").lower(),
    )
