"""A first section `content.ros` for a bag: its pictures, numbers and texts by their types, and a rate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from robot_foundry.checks.finding import listed
from robot_foundry.ingest.inspect.evidence.names import words
from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused
from robot_foundry.ingest.sources.ros.bags.bag import Bag, open_bag
from robot_foundry.ingest.sources.ros.bags.damage import Damage
from robot_foundry.ingest.sources.ros.bags.definitions import Undecodable, full_type
from robot_foundry.ingest.sources.ros.messages.images import COMPRESSED, IMAGE
from robot_foundry.ingest.sources.ros.messages.packets import TYPES as VIDEO_TYPES
from robot_foundry.ingest.sources.ros.options import (
    LINEAR,
    NEAREST,
    PRESENT_PARTS,
    PREVIOUS,
    CameraTopic,
    FrameChain,
    Matching,
    Numbers,
    NumberTopic,
    RosOptions,
    TextTopic,
)
from robot_foundry.ingest.sources.ros.overview import OPTIONS, bags_at
from robot_foundry.ingest.sources.ros.times.sync import NANOSECONDS
from robot_foundry.ingest.sources.ros.times.tf import TF_STATIC, TOPICS, Tree
from robot_foundry.runtime.errors import FoundryError

# Of each type the fields that hold its numbers, a stream each.
NUMBERS: Mapping[str, tuple[str, ...]] = {
    "sensor_msgs/msg/JointState": ("position",),
    "geometry_msgs/msg/PoseStamped": ("pose",),
    "geometry_msgs/msg/Pose": ("position", "orientation"),
    "geometry_msgs/msg/PoseWithCovarianceStamped": ("pose.pose",),
    "geometry_msgs/msg/TransformStamped": ("transform",),
    "geometry_msgs/msg/TwistStamped": ("twist",),
    "geometry_msgs/msg/Twist": ("linear", "angular"),
    "geometry_msgs/msg/WrenchStamped": ("wrench",),
    "nav_msgs/msg/Odometry": ("pose.pose",),
    "std_msgs/msg/Float64": ("data",),
    "std_msgs/msg/Float32": ("data",),
    "std_msgs/msg/Float64MultiArray": ("data",),
    "std_msgs/msg/Float32MultiArray": ("data",),
}
JOINTS, STRING, BOOL = "sensor_msgs/msg/JointState", "std_msgs/msg/String", "std_msgs/msg/Bool"
# Types that tell of others, or of the recorder.
BESIDE = ("sensor_msgs/msg/CameraInfo", "rcl_interfaces/msg/Log", "rosgraph_msgs/msg/Log")
# Messages that are looked at for names of joints and frames; and a topic with fewer is no stream.
MOST_PEEKED, FEWEST_MESSAGES, MOST_NAMED = 4000, 10, 12
_TOOL = {"tool", "tool0", "tcp", "ee", "eef", "gripper", "hand", "flange", "effector"}
_COMMANDS = {"command", "cmd", "target", "goal", "desired", "action", "setpoint"}
_DEPTH = {"depth", "disparity"}
DEFAULT_HZ = 10.0


@dataclass
class _Draft:
    cameras: dict[str, CameraTopic] = field(default_factory=dict)
    depth: dict[str, CameraTopic] = field(default_factory=dict)
    streams: dict[str, Numbers] = field(default_factory=dict)
    texts: dict[str, TextTopic] = field(default_factory=dict)
    attributes: dict[str, TextTopic] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def named(self, topic: str) -> str:
        """A name that no other array has, of the last words of the topic that are not its transport's."""
        kept = [word for word in words(topic) if word not in ("compressed", "image", "raw", "rect", "msg")]
        name = re.sub("[^a-z0-9_]", "_", "_".join(kept))[:30].strip("_") or "stream"
        name = name if name[0].isalpha() else f"s_{name}"
        taken = {
            *self.cameras,
            *self.depth,
            *self.streams,
            *self.texts,
            *self.attributes,
            "timestamp",
            "messages",
        }
        return next(n for n in (name, *(f"{name}_{i}" for i in range(2, 999))) if n not in taken)


def options_of_bag(place: str | Path) -> tuple[Content, Mapping[str, str], list[str]]:
    """`content` with the section `ros` for the first bag at the place, evidence by its keys, and remarks."""
    try:
        file = bags_at(place)[0]
        with file.at_hand() as here, open_bag(here, OPTIONS) as bag:
            return _drafted(bag)
    except FoundryError as error:
        return Content(options=RosOptions(rate=DEFAULT_HZ)), {}, [error.message]


def _drafted(bag: Bag) -> tuple[Content, Mapping[str, str], list[str]]:
    draft, told = _Draft(), [f"the bag {remark}" for remark in bag.remarks]
    first, last = bag.span
    seconds = max(last - first, 1) / NANOSECONDS
    joints, tree = _peeked(bag)
    for topic in bag.topics:
        channels = [channel for channel in bag.channels if channel.topic == topic]
        count = bag.num_messages(topic)
        problem = next((channel.problem for channel in channels if channel.problem), None)
        if problem is not None:
            told.append(f"'{topic}' cannot be read: its type {problem}")
        elif count:
            _take(draft, topic, full_type(channels[0].type), count, count / seconds, joints)
    _take_tool(draft, tree)
    rate = _rate(draft)
    if not draft.streams:
        told.append("no topic holds numbers of a type that is known, so there is no stream to draft")
    if draft.left_out:
        told.append(
            f"nothing is drafted of {listed(draft.left_out, MOST_NAMED)}: docs/ros.md says how to name more"
        )
    options = RosOptions(
        rate=rate,
        cameras=draft.cameras,
        depth=draft.depth,
        streams=draft.streams,
        texts=draft.texts,
        attributes=draft.attributes,
        parts=PRESENT_PARTS,
    )
    return Content(options=options), draft.notes, told


def _take(
    draft: _Draft, topic: str, kind: str, count: int, hz: float, joints: Mapping[str, tuple[str, ...]]
) -> None:
    """Add the topic to what its type says that it is."""
    name, held = draft.named(topic), set(words(topic))
    if kind in (IMAGE, COMPRESSED, *VIDEO_TYPES) and count > 1:
        camera = CameraTopic(topic, Matching(NEAREST), video=kind in VIDEO_TYPES)
        where = draft.depth if held & _DEPTH else draft.cameras
        where[name] = camera
        draft.notes[f"{'depth' if held & _DEPTH else 'cameras'}.{name}"] = f"high: {count} messages of {kind}"
        if where is draft.cameras:
            draft.rates[name] = hz
    elif kind in NUMBERS and count >= FEWEST_MESSAGES:
        match = PREVIOUS if held & _COMMANDS else LINEAR
        for path in NUMBERS[kind]:
            name = name if len(NUMBERS[kind]) == 1 else draft.named(f"{topic}/{path}")
            draft.streams[name] = NumberTopic(topic, path, Matching(match), joints.get(topic, ()))
            draft.notes[f"streams.{name}"] = f"high: {count} messages of {kind}, {hz:.3g} a second"
            draft.rates.setdefault(name, hz)
    elif kind == STRING:
        draft.texts[name] = TextTopic(topic)
        draft.notes[f"texts.{name}"] = f"high: {count} texts"
    elif kind == BOOL and count < FEWEST_MESSAGES:
        draft.attributes[name] = TextTopic(topic)
        draft.notes[f"attributes.{name}"] = f"medium: {count} messages of {BOOL}"
    elif topic not in TOPICS and kind not in BESIDE:
        draft.left_out.append(f"{topic} ({kind}, {count} messages)")


def _peeked(bag: Bag) -> tuple[dict[str, tuple[str, ...]], Tree]:
    """Names of the joints of each topic by its first message, and the transforms that come first."""
    joints: dict[str, tuple[str, ...]] = {}
    of_joints = {c.topic for c in bag.channels if full_type(c.type) == JOINTS and c.decode}
    of_tf = {c.topic for c in bag.channels if c.topic in TOPICS and c.decode}
    tree, seen = Tree(), 0
    for message in islice(bag.messages(of_joints | of_tf, Damage()), MOST_PEEKED):
        topic, decode = message.channel.topic, message.channel.decode
        if decode is None or topic in joints:
            continue
        try:
            decoded = decode(message.raw)
            if topic in of_tf:
                tree.take(decoded, message.received_ns, seen, is_static=topic == TF_STATIC)
            else:
                joints[topic] = _names(decoded)
        except (Undecodable, Refused):
            continue
        seen += 1
    return joints, tree


def _names(message: Any) -> tuple[str, ...]:
    names = tuple(str(name) for name in getattr(message, "name", ()))
    return names if len(names) == len(set(names)) == len(getattr(message, "position", ())) else ()


def _take_tool(draft: _Draft, tree: Tree) -> None:
    """The pose of the frame that is called a tool's, in the frame above all that moves."""
    children = {edge.parent for edge in tree.edges.values()}
    leaves = [child for child in tree.edges if child not in children and set(words(child)) & _TOOL]
    leaves = leaves or [child for child in tree.edges if set(words(child)) & _TOOL]
    for leaf in leaves[:2]:
        root, passed = leaf, [leaf]
        while root in tree.edges and tree.edges[root].parent not in passed:
            root = tree.edges[root].parent
            passed.append(root)
        if root != leaf:
            name = draft.named(leaf)
            draft.streams[name] = FrameChain(root, leaf, Matching(LINEAR))
            draft.notes[f"streams.{name}"] = f"medium: '{leaf}' is a tool's frame by its name, in tf"


def _rate(draft: _Draft) -> float:
    """Frames as often as the slowest camera has pictures, else as the slowest stream of numbers, to 50 Hz."""
    of_cameras = [draft.rates[name] for name in draft.cameras]
    rates = of_cameras or [hz for name, hz in draft.rates.items() if name in draft.streams] or [DEFAULT_HZ]
    slowest = min(rates)
    rate = float(max(1, round(min(slowest, 50.0))))
    whose = "camera" if of_cameras else "stream of numbers"
    draft.notes["rate"] = (
        f"low: the slowest {whose} has {slowest:.3g} messages a second; choose what you train at"
    )
    return rate
