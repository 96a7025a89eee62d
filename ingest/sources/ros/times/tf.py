"""Poses of one frame in another along the transforms of tf, looked up at the times of frames.

Legend: N frames, K transforms of one edge.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable
from robot_foundry.ingest.sources.ros.messages.fields import NANOSECONDS
from robot_foundry.ingest.sources.ros.options import LINEAR, FrameChain
from robot_foundry.ingest.sources.ros.times.clocks import Clocked, Times, clocked
from robot_foundry.ingest.sources.ros.times.sync import Used, match, rows, tolerance_ns
from robot_foundry.normalization import pose, rotation
from robot_foundry.runtime.errors import nearest

TF, TF_STATIC = "/tf", "/tf_static"
TOPICS = (TF, TF_STATIC)
COLUMNS = 7  # x y z, and a quaternion x y z w


@dataclass
class Edge:
    """The transforms of a frame in its parent: times, numbers, and which message of its topic each is of."""

    parent: str
    is_static: bool
    stamps: array[int] = field(default_factory=lambda: array("q"))
    received: array[int] = field(default_factory=lambda: array("q"))
    ordinals: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass
class Tree:
    """All transforms of a bag by child frame. A frame keeps the parent, and the topic, that it had first."""

    edges: dict[str, Edge] = field(default_factory=dict)
    strays: dict[str, int] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(len(edge.stamps) * (3 + COLUMNS) * 8 for edge in self.edges.values())

    def take(self, message: Any, received_ns: int, ordinal: int, *, is_static: bool) -> None:
        """Undecodable if it is no TFMessage."""
        transforms = getattr(message, "transforms", None)
        if not isinstance(transforms, list):
            raise Undecodable("it holds no transforms")
        for item in transforms:
            child, parent = item.child_frame_id.lstrip("/"), item.header.frame_id.lstrip("/")
            edge = self.edges.setdefault(child, Edge(parent, is_static))
            if (edge.parent, edge.is_static) != (parent, is_static):
                self.strays[child] = self.strays.get(child, 0) + 1
                continue
            stamp, moved, turned = item.header.stamp, item.transform.translation, item.transform.rotation
            edge.stamps.append(stamp.sec * NANOSECONDS + stamp.nanosec)
            edge.received.append(received_ns)
            edge.ordinals.append(ordinal)
            edge.values.extend((moved.x, moved.y, moved.z, turned.x, turned.y, turned.z, turned.w))

    def to_root(self, frame: str) -> list[str]:
        """The frame and all above it."""
        above = [frame]
        while above[-1] in self.edges and self.edges[above[-1]].parent not in above:
            above.append(self.edges[above[-1]].parent)
        return above


@dataclass(frozen=True)
class Chain:
    """The frames whose transforms lead from `child` up, and from `parent` up, to where both meet."""

    name: str
    stated: FrameChain
    up: tuple[str, ...]
    down: tuple[str, ...]

    @property
    def moving(self) -> tuple[str, ...]:
        return (*self.up, *self.down)


def chain_of(name: str, stated: FrameChain, tree: Tree) -> Chain:
    """Refused where no transforms join the two frames."""
    known = {*tree.edges, *(edge.parent for edge in tree.edges.values())}
    child, parent = stated.child.lstrip("/"), stated.parent.lstrip("/")
    for frame in (parent, child):
        if frame not in known:
            raise Refused(
                f"no transform of it names the frame '{frame}' of its stream '{name}'{nearest(frame, known)}"
            )
    from_child, from_parent = tree.to_root(child), tree.to_root(parent)
    meeting = next((frame for frame in from_child if frame in from_parent), None)
    if meeting is None:
        raise Refused(f"no transforms of it lead from '{parent}' to '{child}', of its stream '{name}'")
    up, down = from_child[: from_child.index(meeting)], from_parent[: from_parent.index(meeting)]
    return Chain(name, stated, tuple(up), tuple(down))


def clocked_edges(chain: Chain, tree: Tree, clock: str) -> dict[str, Clocked]:
    """Every moving edge of the chain on the clock; static ones have no times."""
    made = {}
    for frame in chain.moving:
        edge = tree.edges[frame]
        if not edge.is_static:
            stamps, received = np.array(edge.stamps, np.int64), np.array(edge.received, np.int64)
            made[frame] = clocked(stamps, received, clock, f"{chain.name} ({edge.parent} to {frame})")
    return made


def looked_up(
    chain: Chain, tree: Tree, clocks: Mapping[str, Clocked], frames_N: Times
) -> tuple[NDArray[np.float64], dict[str, Used]]:
    """[N, 7] positions and quaternions x y z w, NaN where one is not known; and what each edge gave."""
    total_N44 = np.broadcast_to(np.eye(4), (len(frames_N), 4, 4))
    used = {}
    for frame, is_up in _steps(chain):
        edge = tree.edges[frame]
        values_K7 = np.array(edge.values, np.float64).reshape(-1, COLUMNS)
        if frame in clocks:
            within = tolerance_ns(chain.stated.matching, clocks[frame])
            used[frame] = match(frames_N, clocks[frame].times, LINEAR, within)
            values_N7 = rows(values_K7[clocks[frame].places], used[frame], LINEAR, (3,))
        else:
            values_N7 = np.broadcast_to(values_K7[-1], (len(frames_N), COLUMNS))
        step_N44 = pose.make(values_N7[:, :3], rotation.quaternion_to_matrix(values_N7[:, 3:]))
        total_N44 = pose.compose(step_N44, total_N44) if is_up else pose.relative(step_N44, total_N44)
    quaternion_N4 = rotation.matrix_to_quaternion(total_N44[:, :3, :3])
    return np.concatenate([total_N44[:, :3, 3], quaternion_N4], axis=1), used


def _steps(chain: Chain) -> Iterator[tuple[str, bool]]:
    """From the child to where both meet, and then down to the parent: each frame, and whether it leads up."""
    yield from ((frame, True) for frame in chain.up)
    yield from ((frame, False) for frame in reversed(chain.down))
