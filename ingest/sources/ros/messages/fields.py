"""What a field path takes of a message: numbers, texts, and times.

A path is names of fields joined by dots, with `[i]` for an entry of a list: `pose.pose.position`,
`transforms[0].transform`. Numbers of what lies beneath are taken in the order of the definition.

Shape suffix: d numbers of one message.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.runtime.errors import nearest

STEP = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_]*)(?P<indices>(\[\d+\])*)")
QUATERNION = "geometry_msgs/msg/Quaternion"
NANOSECONDS = 1_000_000_000
# More is no low-dimensional stream (point clouds, images).
MOST_NUMBERS = 4096


class NotOfThis(Exception):
    """A message is sound, and not one of those that the stream is made of."""


def value_at(message: Any, path: str) -> Any:
    """What lies under the path. Undecodable if nothing does."""
    value = message
    for text in path.split("."):
        step = STEP.fullmatch(text)
        known = _fields(value)
        name = "" if step is None else step["name"]
        name = f"{name}_" if name not in known and f"{name}_" in known else name
        if step is None or name not in known:
            listed = ", ".join(known) or "none"
            of = "" if text == path else f": '{text}'"
            raise Undecodable(f"it has no field '{path}'{of}{nearest(text, known)} (fields: {listed})")
        value = getattr(value, name)
        for index in re.findall(r"\d+", step["indices"]):
            if not isinstance(value, list | np.ndarray) or int(index) >= len(value):
                raise Undecodable(f"it has no entry {index} under '{path}'")
            value = value[int(index)]
    return value


def numbers_at(message: Any, path: str, names: Sequence[str]) -> NDArray[np.float64]:
    """float64 [d] under the path; of `names` those alone, where the message's own list of names has them.

    Undecodable if there are none, NotOfThis if the message lacks one of the names.
    """
    numbers_d = _numbers(value_at(message, path), path)
    if not names:
        return numbers_d
    own = getattr(message, "name", None)
    if not isinstance(own, list):
        raise Undecodable("it has no list `name`, in which content.ros would look for names")
    places = {name: place for place, name in enumerate(own)}
    if any(name not in places for name in names):
        raise NotOfThis
    if len(own) != len(numbers_d):
        raise Undecodable(f"it has {len(own)} names and {len(numbers_d)} numbers under '{path}'")
    return numbers_d[[places[name] for name in names]]


def quaternions_at(message: Any, path: str) -> list[int]:
    """The first columns of all quaternions (x, y, z, w) among the numbers under the path."""
    starts, place = [], 0
    for leaf in _leaves(value_at(message, path)):
        if _type(leaf) == QUATERNION:
            starts.append(place)
            place += 4
        else:
            place += np.size(leaf)
    return starts


def text_at(message: Any, path: str) -> str | bool | int | float:
    """The text, truth or number under the path. Undecodable if it is none of these."""
    value = value_at(message, path)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bool | int | float):
        return value
    raise Undecodable(f"it has no single text or number under '{path}'")


def stamp_of(message: Any) -> int:
    """The time in its header, or in the field `timestamp` that types of Foxglove have, in ns; 0 without."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    stamp = getattr(message, "timestamp", None) if stamp is None else stamp
    if stamp is None or not (hasattr(stamp, "sec") and hasattr(stamp, "nanosec")):
        return 0
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def _numbers(value: Any, path: str) -> NDArray[np.float64]:
    parts = []
    for leaf in _leaves(value):
        if _type(leaf) == QUATERNION:
            parts.append(np.array([leaf.x, leaf.y, leaf.z, leaf.w], np.float64))
        elif isinstance(leaf, str):
            raise Undecodable(f"it has text under '{path}'")
        else:
            parts.append(np.asarray(leaf, np.float64).reshape(-1))
    size = sum(len(part) for part in parts)
    if not 0 < size <= MOST_NUMBERS:
        raise Undecodable(f"it has {size} numbers under '{path}'")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _leaves(value: Any) -> Iterator[Any]:
    """Numbers, arrays, texts and quaternions, in order."""
    if _type(value) == QUATERNION:
        yield value
    elif names := _fields(value):
        for name in names:
            yield from _leaves(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _type(value: Any) -> str:
    return str(getattr(value, "__msgtype__", ""))


def _fields(value: Any) -> list[str]:
    """Names of the fields of a message; none of anything else."""
    if not dataclasses.is_dataclass(value):
        return []
    return [entry.name for entry in dataclasses.fields(value) if entry.name != "__msgtype__"]
