"""robomimic's HDF5: /data/demo_<i>/{actions, obs/<key>, rewards, …}, images in obs as uint8 [N, H, W, 3].

`next_obs` repeats `obs` one step later and is never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from robot_foundry.ingest.sources import hdf5
from robot_foundry.ingest.sources.base import Camera, Episode, Layout, Refused, SourceFile, Unit
from robot_foundry.ingest.spec import Content
from robot_foundry.runtime.errors import nearest
from robot_foundry.shards.keys import MAX_FRAMES, episode_key

NOT_READ = ("next_obs",)
PER_FRAME = ("actions", "states", "rewards", "dones")
# JPEG takes about this share of the raw bytes; only the planner uses it.
ESTIMATED_COMPRESSION = 8
# They are held in memory at once.
MOST_LOW_DIM_BYTES = 1 << 30


@dataclass(frozen=True)
class Structure:
    """What of a demonstration is taken, known from its headers alone."""

    num_frames: int
    cameras: tuple[Camera, ...]
    arrays: tuple[str, ...]
    left_out: Mapping[str, str]
    num_bytes: int


class Robomimic(Layout):
    """See `Layout`."""

    name = "robomimic"
    version = 2
    has_images = True

    def claims(self, path: str) -> bool:
        return hdf5.claims(path)

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        units: list[Unit] = []
        refused: list[tuple[str, str]] = []
        with file.local() as path, hdf5.open_file(path) as opened:
            try:
                hdf5.check_structure(opened, self.name)
                self.check_content(hdf5.attributes(opened["data"].attrs), content)
                names = hdf5.groups(opened)
            except hdf5.ERRORS as error:
                raise hdf5.unreadable("the file", error) from error
            for name in names:
                try:
                    structure = self._structure(opened, name, content)
                except Refused as error:
                    refused.append((f"{file.path}#{name}", error.message))
                    continue
                key = episode_key(file.path, hdf5.key_name(name))
                units.append(
                    Unit(file, name, key, structure.num_bytes, len(names) == 1, structure.num_frames)
                )
        return units, refused

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[Episode]:
        with unit.file.local() as path, hdf5.open_file(path) as opened:
            structure = self._structure(opened, unit.episode, content)
            demo, environment = opened["data"][unit.episode], hdf5.attributes(opened["data"].attrs)
            arrays = {name: hdf5.read_array(name, demo[name]) for name in structure.arrays}
            fps, fps_source = self.rate(environment, arrays, content)
            streams = [hdf5.stream(camera.array, demo[camera.array]) for camera in structure.cameras]
            yield Episode(
                num_frames=structure.num_frames,
                fps=fps,
                fps_source=fps_source,
                start_ns=None,
                cameras=structure.cameras,
                arrays={**arrays, "timestamp": _timestamps(arrays, structure.num_frames, fps)},
                attributes=self.attributes(unit, demo, environment),
                environment=self.environment(environment),
                left_out=structure.left_out,
                frames=zip(*streams, strict=True) if streams else iter(()),
            )

    def _structure(self, file: h5py.File, name: str, content: Content) -> Structure:
        try:
            demo = hdf5.child(file["data"], name)
            if not isinstance(demo, h5py.Group):
                raise Refused("it is not a group")
            return self.structure(demo, content)
        except hdf5.ERRORS as error:
            raise hdf5.unreadable("the demonstration", error) from error

    def structure(self, demo: h5py.Group, content: Content) -> Structure:
        """What is taken of the demonstration. Refused if it cannot be used."""
        if not isinstance(hdf5.child(demo, "obs"), h5py.Group):
            raise Refused("it has no group obs")
        return structure_of(demo, content)

    def check_content(self, environment: Mapping[str, Any], content: Content) -> None:
        """Refused if the spec's options do not fit a file with these attributes."""

    def attributes(self, unit: Unit, demo: h5py.Group, environment: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of the demonstration; `environment` are the attributes of its file."""
        return hdf5.attributes(demo.attrs)

    def environment(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The file's attributes, with `env_args` parsed and `env_name` of its own."""
        arguments = hdf5.json_attribute(attributes, "env_args")
        if not isinstance(arguments, dict):
            return dict(attributes)
        return {**attributes, "env_args": arguments, "env_name": arguments.get("env_name")}

    def rate(
        self, attributes: Mapping[str, Any], arrays: Mapping[str, Any], content: Content
    ) -> tuple[float, str]:
        """Frames a second, and where that is from."""
        if content.fps is not None:
            return content.fps, "spec"
        arguments = self.environment(attributes).get("env_args")
        settings = arguments.get("env_kwargs") if isinstance(arguments, dict) else None
        stated = settings.get("control_freq") if isinstance(settings, dict) else None
        if isinstance(stated, int | float) and not isinstance(stated, bool) and 0 < stated < 1e6:
            return float(stated), "env_args.env_kwargs.control_freq"
        return content.default_fps, "default"


def structure_of(demo: h5py.Group, content: Content) -> Structure:
    """What is taken of a demonstration with actions. Refused if it cannot be used."""
    if not isinstance(hdf5.child(demo, "actions"), h5py.Dataset):
        others = ", ".join(sorted(name for name in demo if name != "actions"))
        raise Refused(f"it has no array 'actions' (it has {others or 'nothing'})")
    found = hdf5.datasets(demo, NOT_READ)
    num_frames = _num_frames(demo, found)
    images, arrays, left_out = [], [], {}
    for name, dataset in found.items():
        if hdf5.is_image(dataset) and name.startswith("obs/"):
            images.append(hdf5.camera(name, dataset))
        elif reason := hdf5.why_left_out(name, dataset, content.skip):
            left_out[name] = reason
        else:
            arrays.append(name)
    cameras = chosen(images, content)
    left_out.update({c.array: "not among the spec's cameras" for c in images if c not in cameras})
    pixels = num_frames * sum(c.height * c.width for c in cameras)
    low_dim_bytes = sum(found[name].size * found[name].dtype.itemsize for name in arrays)
    if low_dim_bytes > MOST_LOW_DIM_BYTES:
        raise Refused(f"its arrays beside the images take {low_dim_bytes} bytes; skip some in the spec")
    return Structure(
        num_frames, cameras, tuple(arrays), left_out, pixels * 3 // ESTIMATED_COMPRESSION + low_dim_bytes
    )


def _num_frames(demo: h5py.Group, found: Mapping[str, h5py.Dataset]) -> int:
    """The length, which `actions`, all of obs, states, rewards, dones and num_samples must agree on."""
    shape = found["actions"].shape
    if not shape or shape[0] == 0:
        raise Refused("it has no frames")
    num_frames = int(shape[0])
    if num_frames > MAX_FRAMES:
        raise Refused(f"it has {num_frames} frames, and an episode holds {MAX_FRAMES} at most")
    for name, dataset in found.items():
        if (name in PER_FRAME or name.startswith("obs/")) and (dataset.shape or (0,))[0] != num_frames:
            length = (dataset.shape or (0,))[0]
            raise Refused(f"its lengths disagree: actions has {num_frames} frames, {name} has {length}")
    stated = hdf5.attributes(demo.attrs).get("num_samples", num_frames)
    if stated != num_frames:
        raise Refused(f"its lengths disagree: num_samples is {stated}, actions has {num_frames} frames")
    return num_frames


def chosen(images: list[Camera], content: Content) -> tuple[Camera, ...]:
    """The cameras that the spec asks for, by name."""
    by_name = {image.name: image for image in images}
    if len(by_name) < len(images):
        raise Refused(f"two of its image arrays give one camera name ({', '.join(i.array for i in images)})")
    wanted = sorted(by_name) if content.cameras is None else sorted(content.cameras)
    for name in wanted:
        if name not in by_name:
            known = ", ".join(sorted(by_name)) or "none"
            raise Refused(f"it has no camera '{name}'{nearest(name, by_name)} (cameras: {known})")
    return tuple(by_name[name] for name in wanted)


def _timestamps(arrays: Mapping[str, Any], num_frames: int, fps: float) -> Any:
    """Seconds since the first frame, float64 [N]: the source's own where it has them, else by the rate."""
    own = arrays.get("timestamp")
    if own is None:
        return np.arange(num_frames, dtype=np.float64) / fps
    is_time = own.dtype.kind == "f" and own.shape == (num_frames,)
    if not is_time or not np.isfinite(own).all() or (np.diff(own) < 0).any():
        raise Refused("its array 'timestamp' is not rising seconds, one a frame; skip it in the spec")
    return own.astype(np.float64)
