"""Write one shard: its tar, episode by episode, and the index last, which marks the shard whole.

Legend: N frames, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.store import Store
from robot_foundry.ingest.plan import Group
from robot_foundry.ingest.sources import Encoded, Episode, Refused, Unit, layout
from robot_foundry.ingest.spec import Content, Spec
from robot_foundry.ingest.survey import Shard, cache_survey, cached_survey, survey
from robot_foundry.runtime.canonical import canonical_json
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.shards import images, keys
from robot_foundry.shards.arrays import write_npz
from robot_foundry.shards.index import write_index
from robot_foundry.shards.tar import TarWriter

EPISODE_FORMAT = 1
SUFFIXES = {"jpeg": "jpg", "png": "png"}
SPOOL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard."""

    store: Store
    dataset: str
    spec: Spec
    group: Group


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
    storage.write(index_path, write_index(summary.members))
    return _surveyed(task, tuple(refused), reused=False)


def _existing(task: ShardTask) -> Shard:
    """A shard of an earlier run. Reasons for refusals are cached; without the cache they are found anew."""
    cached = cached_survey(task.store, task.dataset, task.group.shard_key)
    if cached is not None:
        return cached
    held = {item.key for item in survey(task.store, task.dataset, task.group.shard_key).episodes}
    missing = [unit for unit in task.group.units if unit.key not in held]
    return _surveyed(task, tuple((unit.name, _reason(unit, task.spec)) for unit in missing), reused=True)


def _surveyed(task: ShardTask, refused: tuple[tuple[str, str], ...], *, reused: bool) -> Shard:
    """What the tar holds, read back from it, with the refusals; kept in the cache."""
    found = survey(task.store, task.dataset, task.group.shard_key)
    shard = replace(found, refused=refused, reused=reused)
    cache_survey(task.store, shard)
    kill_point("shard-done")
    return shard


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


def _members(unit: Unit, spec: Spec) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the episode's members, in the tar's order."""
    content = spec.content
    with layout(spec.layout).open(unit, content) as episode:
        count = 0
        for frame, pictures in enumerate(episode.frames):
            for camera, picture in zip(episode.cameras, pictures, strict=True):
                if picture is not None:
                    data, suffix = _stored(picture, content)
                    yield keys.image_name(unit.key, frame, camera.name, suffix), data
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
    source: dict[str, Any] = {"path": unit.file.path, "sha256": unit.file.sha256, "layout": spec.layout}
    if unit.file.companions:
        source["companions"] = {file.path: file.sha256 for file in unit.file.companions}
    told = {"annotations": [list(entry) for entry in episode.steps_text]} if episode.steps_text else {}
    return {
        "format": EPISODE_FORMAT,
        "id": unit.episode,
        "source": source,
        **told,
        "num_frames": episode.num_frames,
        "fps": episode.fps,
        "fps_source": episode.fps_source,
        "start_ns": episode.start_ns,
        "cameras": cameras,
        "attributes": _plain(episode.attributes),
        "environment": _plain(episode.environment),
        "left_out": dict(episode.left_out),
    }


def _plain(value: Any) -> Any:
    """JSON from a file without what canonical JSON refuses: NaN becomes its name, half characters escapes."""
    if isinstance(value, Mapping):
        return {_plain(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _stored(picture: NDArray[np.uint8] | Encoded, content: Content) -> tuple[bytes, str]:
    """The image as it goes into the tar, and the suffix of its name."""
    if isinstance(picture, Encoded):
        if content.resize is None:
            return picture.data, SUFFIXES[picture.format]
        picture = images.decode(picture.data)
    return images.encode_jpeg(_resized(picture, content), content.encoding.quality), "jpg"


def _resized(picture_HWC: NDArray[np.uint8], content: Content) -> NDArray[np.uint8]:
    if content.resize is None or picture_HWC.shape[:2] == content.resize:
        return picture_HWC
    from PIL import Image

    height, width = content.resize
    resized = Image.fromarray(picture_HWC).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
