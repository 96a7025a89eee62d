"""Cameras that a spec calls optional, of bags that lack them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.ros.bags.bag import Bag
from robot_foundry.ingest.sources.ros.options import CameraTopic, RosOptions


def without_lacking(content: Content, bag: Bag) -> Content:
    """The same without the optional cameras of which the bag has no message."""
    options = content.options
    assert isinstance(options, RosOptions)
    cameras, depth = (_there(group, bag) for group in (options.cameras, options.depth))
    return replace(content, options=replace(options, cameras=cameras, depth=depth))


def _there(cameras: Mapping[str, CameraTopic], bag: Bag) -> dict[str, CameraTopic]:
    return {name: of for name, of in cameras.items() if not of.optional or _has_message(bag, of.topic)}


def _has_message(bag: Bag, topic: str) -> bool:
    name = bag.named(topic)
    return name is not None and bag.num_messages(name) > 0
