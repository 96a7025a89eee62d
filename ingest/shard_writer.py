"""Write one shard: its tar, episode by episode, then its survey, and the index last, which marks it whole.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.plan import Group
from robot_foundry.ingest.resolve import Surveyed
from robot_foundry.ingest.sources import Episode, Refused, Unit, layout
from robot_foundry.ingest.spec import Content, Spec
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.shards import images, keys
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.index import read_index, tar_bytes, tar_sha256, write_index
from robot_foundry.shards.reader import RobotShard, ShardReader
from robot_foundry.shards.tar import TarWriter

EPISODE_FORMAT = 1
SPOOL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard."""

    store: Store
    dataset: str
    spec: Spec
    group: Group


@dataclass(frozen=True)
class Shard:
    """A whole shard: what the tar holds, and (unit, reason) of the units that it does not hold."""

    key: str
    tar_sha256: str
    tar_bytes: int
    episodes: tuple[Surveyed, ...]
    refused: tuple[tuple[str, str], ...]
    reused: bool

    @property
    def num_frames(self) -> int:
        return sum(int(item.episode["num_frames"]) for item in self.episodes)


def codecs(content: Content, has_images: bool) -> dict[str, str]:
    """Versions of what decides the bytes of re-encoded images."""
    if not has_images:
        return {}
    versions = dict(images.codec_versions())
    if content.resize is not None:
        import PIL

        versions["pillow"] = PIL.__version__
    return versions


def write_shard(task: ShardTask) -> Shard:
    """The shard, written now if its index is not there yet. The same task gives the same bytes anywhere."""
    storage, key = task.store.storage, task.group.shard_key
    index_path = task.store.shard_index(task.dataset, key)
    if storage.exists(index_path):
        return _existing(task)
    refused = []
    with storage.writer(task.store.shard_tar(task.dataset, key)) as file:
        tar = TarWriter(file)
        for unit in task.group.units:
            # An episode may fail at its last frame; only whole ones reach the tar.
            with SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
                try:
                    sizes = [(name, spool.write(data)) for name, data in _members(unit, task.spec)]
                except Refused as error:
                    refused.append((unit.name, error.message))
                    continue
                spool.seek(0)
                for name, size in sizes:
                    tar.add(name, spool.read(size))
        summary = tar.close()
    kill_point("shard-tar-written")
    # Why units were refused is told by the survey alone, so it is there before the index is.
    storage.write(_refused_path(key), canonical_json([list(entry) for entry in refused]))
    storage.write(index_path, write_index(summary.members))
    kill_point("shard-done")
    return survey(task.store, task.dataset, key, tuple(refused), reused=False)


def survey(
    store: Store, dataset: str, shard_key: str, refused: tuple[tuple[str, str], ...], *, reused: bool
) -> Shard:
    """What a whole shard holds, read from its tar without any image."""
    shard = open_shard(store, dataset, shard_key)
    episodes = tuple(
        Surveyed(key, shard.episode_json(key), {name: a.shape for name, a in shard.source(key).items()})
        for key in shard.episodes
    )
    index = shard.reader.index
    return Shard(shard_key, tar_sha256(index), tar_bytes(index), episodes, refused, reused)


def open_shard(store: Store, dataset: str, shard_key: str) -> RobotShard:
    index = read_index(store.storage, store.shard_index(dataset, shard_key))
    return RobotShard(ShardReader(store.storage, store.shard_tar(dataset, shard_key), index))


def _existing(task: ShardTask) -> Shard:
    """A shard of an earlier run. Reasons of refusals are cached; if the cache is gone they are found again."""
    storage, key = task.store.storage, task.group.shard_key
    path = _refused_path(key)
    if storage.exists(path):
        entries = json.loads(storage.read_bytes(path))
        refused = tuple((str(unit), str(reason)) for unit, reason in entries)
        return survey(task.store, task.dataset, key, refused, reused=True)
    found = survey(task.store, task.dataset, key, (), reused=True)
    held = {item.key for item in found.episodes}
    refused = tuple(
        (unit.name, _reason(unit, task.spec)) for unit in task.group.units if unit.key not in held
    )
    storage.write(path, canonical_json([list(entry) for entry in refused]))
    return survey(task.store, task.dataset, key, refused, reused=True)


def _reason(unit: Unit, spec: Spec) -> str:
    try:
        for _ in _members(unit, spec):
            pass
    except Refused as error:
        return error.message
    raise FoundryError(
        f"the shard that should hold {unit.name} was written without it, and now it can be read",
        hint="delete the shard's index in the store and run the same command again",
    )


def _refused_path(shard_key: str) -> str:
    return f"cache/refused/{shard_key}.json"


def _members(unit: Unit, spec: Spec) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the episode's members, in the tar's order."""
    content = spec.content
    with layout(spec.layout).open(unit, content) as episode:
        count = 0
        for frame, pictures in enumerate(episode.frames):
            for camera, picture_HWC in zip(episode.cameras, pictures, strict=True):
                data = images.encode_jpeg(_resized(picture_HWC, content), content.encoding.quality)
                yield keys.image_name(unit.key, frame, camera.name), data
            count += 1
        if episode.cameras and count != episode.num_frames:
            raise Refused(f"its images end at frame {count} of {episode.num_frames}")
        yield keys.episode_json_name(unit.key), canonical_json(episode_json(unit, episode, spec))
        yield keys.source_name(unit.key), write_npz(episode.arrays)


def episode_json(unit: Unit, episode: Episode, spec: Spec) -> dict[str, Any]:
    """What the tar says about an episode beside its arrays and images."""
    size = spec.content.resize
    cameras = {
        camera.name: {
            "array": camera.array,
            "height": size[0] if size else camera.height,
            "width": size[1] if size else camera.width,
            "encoding": spec.content.encoding.format,
        }
        for camera in episode.cameras
    }
    return {
        "format": EPISODE_FORMAT,
        "id": unit.episode,
        "source": {"path": unit.file.path, "sha256": unit.file.sha256, "layout": spec.layout},
        "num_frames": episode.num_frames,
        "fps": episode.fps,
        "fps_source": episode.fps_source,
        "start_ns": episode.start_ns,
        "cameras": cameras,
        "attributes": _plain(episode.attributes),
        "environment": _plain(episode.environment),
        "left_out": dict(episode.left_out),
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON that came from a file may hold NaN, which canonical JSON refuses: it becomes its name."""
    return json.loads(json.dumps(values), parse_constant=str)


def _resized(picture_HWC: NDArray[np.uint8], content: Content) -> NDArray[np.uint8]:
    if content.resize is None or picture_HWC.shape[:2] == content.resize:
        return picture_HWC
    from PIL import Image

    height, width = content.resize
    resized = Image.fromarray(picture_HWC).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
