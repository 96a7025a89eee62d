"""The images of a tar, decoded, against the sizes that the tar itself says its episodes have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from robot_foundry.catalog.robot.schema import Schema
from robot_foundry.catalog.store import Store
from robot_foundry.catalog.tars import open_tar
from robot_foundry.catalog.validation.table_findings import Fault
from robot_foundry.catalog.version import Version
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards import images
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.robot.names import episode_json_name, parse, segment_json_name


def decoded(
    store: Store, version: Version, shard_key: str, reader: ShardReader, schema: Schema, fault: Fault
) -> int:
    """Decode every image, and compare its size with its camera's; how many there are.

    A camera has in each episode the size that episode.json says, and else that of the schema.
    """
    tar = store.shard_tar(version.dataset, shard_key)
    rows = {name: row for row, name in enumerate(reader.index["name"].to_pylist())}
    in_schema = {camera.name: (camera.height, camera.width) for camera in schema.cameras}
    count = 0

    @cache
    def sizes_of(episode: str) -> dict[str, Any]:
        try:
            return _cameras(store, version, reader, rows, episode)
        except (FoundryError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # what is wrong with it is found where it is read for its own sake

    for name, row in rows.items():
        member = parse(name)
        if member.camera is None or member.episode is None:
            continue
        count += 1
        try:
            size = images.decode(reader.read(row)).shape[:2]
        except FoundryError as error:
            fault.shard("images", tar, f"has an image that cannot be decoded, {name!r}: {error.message}")
            continue
        stated = sizes_of(member.episode).get(member.camera)
        expected = in_schema.get(member.camera, size) if stated is None else stated
        if size != expected:
            height, width = size
            wanted = "{} × {}".format(*expected)
            fault.shard(
                "images", tar, f"has the image {name!r} of {height} × {width}, its camera is {wanted}"
            )
    return count


def _cameras(
    store: Store, version: Version, reader: ShardReader, rows: Mapping[str, int], episode: str
) -> dict[str, tuple[int, int]]:
    """(height, width) of the episode's cameras, by the tar that holds its episode.json."""
    name, segment = episode_json_name(episode), rows.get(segment_json_name(episode))
    if segment is None:
        episode_json = json.loads(reader.read(rows[name]))
    else:
        head = open_tar(store, version.dataset, json.loads(reader.read(segment))["head"])
        episode_json = json.loads(head.read(head.index["name"].to_pylist().index(name)))
    cameras = episode_json.get("cameras", {})
    return {name: (int(camera["height"]), int(camera["width"])) for name, camera in cameras.items()}
