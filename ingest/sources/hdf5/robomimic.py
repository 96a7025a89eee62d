"""robomimic's HDF5: /data/demo_<i>/{actions, obs/<key>, rewards, …}, images in obs.

`next_obs` repeats `obs` one step later and is never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from robot_foundry.ingest.robot.spec.spec import Content
from robot_foundry.ingest.sources.base import Refused, SourceFile, Unit
from robot_foundry.ingest.sources.hdf5 import hdf5, links
from robot_foundry.ingest.sources.hdf5.layouts import ROBOMIMIC
from robot_foundry.ingest.sources.hdf5.recognition import Hdf5Layout
from robot_foundry.ingest.sources.hdf5.structure import (
    SETTING,
    Structure,
    find_images,
    other_images,
    read,
    structure_of,
)
from robot_foundry.ingest.sources.robot.clock import CONTROL_FREQ, example, rate_in, why_not_times
from robot_foundry.ingest.sources.robot.lengths import extra_row_hint
from robot_foundry.ingest.sources.robot.pixels import is_set
from robot_foundry.ingest.sources.robot.source_episode import SourceEpisode
from robot_foundry.shards.robot.names import MAX_FRAMES, episode_key

NOT_READ = ("next_obs",)
OUTSIDE_OBS = "holds images, and the layout has them in obs alone, so they are not read"
PER_FRAME = ("actions", "states", "rewards", "dones")
ONE_NUMBER = "it has one number, not one a frame"
ONE_ELEMENT = "it has one element, not one a frame"


class Robomimic(Hdf5Layout):
    """See `Layout`."""

    declared = ROBOMIMIC
    version = 3
    advice = "this file has obs: use `foundry-data ingest robomimic`"

    def recognises(self, file: h5py.File, demos: Sequence[str], *, is_asked: bool) -> bool:
        return any(hdf5.holds(file, demo, "obs") for demo in demos)

    def list_units(self, file: SourceFile, content: Content) -> tuple[list[Unit], list[tuple[str, str]]]:
        units: list[Unit] = []
        refused: list[tuple[str, str]] = []
        with file.local() as path, hdf5.open_file(path) as opened:
            try:
                self.check_layout(opened)
                self.check_content(hdf5.attributes(opened["data"].attrs), content)
                names = hdf5.groups(opened)
            except links.ERRORS as error:
                raise links.unreadable("the file", error) from error
            key_names, again = hdf5.key_names(names), links.again(opened["data"], names)
            for name in names:
                try:
                    if name in again:
                        raise Refused(f"it is '{again[name]}' again, by a link")
                    structure = self._structure(opened, name, content)
                except Refused as error:
                    refused.append((f"{file.path}#{name}", error.message))
                    continue
                key = episode_key(file.path, key_names[name])
                alone, encodes = len(names) == 1, structure.encodes(content)
                units.append(Unit(file, name, key, structure.num_bytes, alone, structure.num_frames, encodes))
        return units, refused

    @contextmanager
    def open(self, unit: Unit, content: Content) -> Iterator[SourceEpisode]:
        with unit.file.local() as path, hdf5.open_file(path) as opened:
            structure = self._structure(opened, unit.id, content)
            demo, environment = opened["data"][unit.id], hdf5.attributes(opened["data"].attrs)
            contents = read(structure, content)
            arrays = contents.arrays
            fps, fps_source = self.rate(environment, arrays, content)
            yield SourceEpisode(
                num_frames=structure.num_frames,
                fps=fps,
                fps_source=fps_source,
                start_ns=None,
                cameras=contents.cameras,
                arrays={**arrays, "timestamp": _timestamps(arrays, structure.num_frames, fps, content)},
                attributes={**contents.attributes, **self.attributes(unit, demo, environment)},
                environment=self.environment(environment),
                left_out=contents.left_out,
                remarks={**contents.remarks, **self._unread_rate(environment, fps, fps_source)},
                frames=contents.frames,
                steps_text=contents.spans,
            )

    def _structure(self, file: h5py.File, name: str, content: Content) -> Structure:
        try:
            demo = links.child(file["data"], name)
            if demo is None:
                raise Refused(links.nowhere(file["data"], name) or links.NOT_UTF8)
            if not isinstance(demo, h5py.Group):
                raise Refused("it is not a group")
            return self.structure(demo, content)
        except links.ERRORS as error:
            raise links.unreadable("the demonstration", error) from error

    def structure(self, demo: h5py.Group, content: Content) -> Structure:
        """What is taken of the demonstration. Refused if it cannot be used."""
        obs = links.child(demo, "obs")
        if isinstance(obs, h5py.Dataset):
            raise Refused(f"'obs' is an array of {obs.dtype}, not a group")
        if obs is None:
            why = links.nowhere(demo, "obs")
            raise Refused(f"it has no group obs{f': {why}' if why else ''}")
        return demo_structure(demo, content)

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
        stated = rate_in(self._control_freq(attributes))
        return (content.default_fps, "default") if stated is None else (stated, CONTROL_FREQ)

    def _control_freq(self, attributes: Mapping[str, Any]) -> Any:
        """As it is stated, None where it is not."""
        arguments = self.environment(attributes).get("env_args")
        settings = arguments.get("env_kwargs") if isinstance(arguments, dict) else None
        return settings.get("control_freq") if isinstance(settings, dict) else None

    def _unread_rate(self, attributes: Mapping[str, Any], fps: float, fps_source: str) -> dict[str, str]:
        """What is told of a control_freq that is no rate, where another one was taken in its place."""
        stated = self._control_freq(attributes)
        if stated is None or fps_source in ("spec", CONTROL_FREQ):
            return {}
        source = "the default" if fps_source == "default" else fps_source
        return {
            CONTROL_FREQ: f"is {example(stated)}, which is no rate, so {fps:g} Hz, {source}, is taken: "
            "--set content.fps=… says it"
        }


def demo_structure(demo: h5py.Group, content: Content, needs: str = SETTING) -> Structure:
    """What is taken of a demonstration with actions. Refused if it cannot be used.

    `needs` is what makes the layout read an array that may hold images.
    """
    actions = links.child(demo, "actions")
    if isinstance(actions, h5py.Group):
        raise Refused("'actions' is a group, not an array")
    if actions is None:
        others = ", ".join(sorted(name for name in demo if name != "actions"))
        why = links.nowhere(demo, "actions") or f"it has {others or 'nothing'}"
        raise Refused(f"it has no array 'actions' ({why})")
    if actions.dtype.kind not in "biuf":
        kind = "texts" if hdf5.holds_text(actions) else str(actions.dtype)
        raise Refused(f"'actions' is an array of {kind}, not of numbers")
    lost: dict[str, str] = {}
    datasets = links.datasets(demo, NOT_READ, lost)
    num_frames = _num_frames(demo, datasets, content)
    single = {name for name in datasets if _is_single(name, datasets[name], num_frames)}
    lost |= {name: ONE_NUMBER if datasets[name].dtype.kind in "biufc" else ONE_ELEMENT for name in single}
    datasets = {name: dataset for name, dataset in datasets.items() if name not in single}
    places = {name: False for name in datasets if name.startswith("obs/") or is_set(name, content)}
    images = find_images(datasets, content, places, needs)
    elsewhere = other_images(datasets, places, content, OUTSIDE_OBS, needs)
    images = replace(images, remarks={**images.remarks, **elsewhere})
    return structure_of(datasets, num_frames, images, content, {}, lost)


def _is_observed(name: str) -> bool:
    return name == "states" or name.startswith("obs/")


def _is_single(name: str, dataset: h5py.Dataset, num_frames: int) -> bool:
    """Whether it is one number where the layout has one a frame. Texts are attributes, and may be one."""
    if not (name in PER_FRAME or _is_observed(name)) or hdf5.holds_text(dataset) or dataset.shape is None:
        return False
    return dataset.size == 1 and dataset.shape[:1] != (num_frames,)


def _num_frames(demo: h5py.Group, datasets: Mapping[str, h5py.Dataset], content: Content) -> int:
    """The length, which `actions`, all of obs, states, rewards, dones and num_samples must agree on.

    Texts, single numbers and what is empty have no length. With `content.extra_row`, obs and states may have
    one row more.
    """
    shape = datasets["actions"].shape
    if not shape or shape[0] == 0:
        raise Refused("it has no frames")
    num_frames = int(shape[0])
    if num_frames > MAX_FRAMES:
        raise Refused(f"it has {num_frames} frames, and an episode holds {MAX_FRAMES} at most")
    for name, dataset in datasets.items():
        is_observed = _is_observed(name)
        if dataset.shape is None or hdf5.holds_text(dataset) or _is_single(name, dataset, num_frames):
            continue
        length = dataset.shape[0] if dataset.shape else 0
        if (name not in PER_FRAME and not is_observed) or length == num_frames:
            continue
        if is_observed and length == num_frames + 1 and content.extra_row is not None:
            continue
        hint = extra_row_hint(length, num_frames) if is_observed else ""
        raise Refused(f"its lengths disagree: actions has {num_frames} frames, {name} has {length}{hint}")
    stated = hdf5.attributes(demo.attrs).get("num_samples", num_frames)
    if stated != num_frames and (content.extra_row is None or stated != num_frames + 1):
        raise Refused(f"its lengths disagree: num_samples is {stated}, actions has {num_frames} frames")
    return num_frames


def _timestamps(arrays: Mapping[str, Any], num_frames: int, fps: float, content: Content) -> Any:
    """Seconds since the first frame, float64 [N]: the source's own where it has them, else by the rate."""
    measured = arrays.get("timestamp")
    if measured is None:
        return np.arange(num_frames, dtype=np.float64) / fps
    if content.extra_row is not None and len(measured) == num_frames + 1:
        measured = measured[:num_frames]
    is_float = measured.dtype.kind == "f"
    why = why_not_times(measured, num_frames, 1.0) if is_float else f"it is {measured.dtype}"
    if why is not None:
        raise Refused(
            f"its array 'timestamp' is not rising seconds, one a frame: {why} "
            "(--set 'content.skip=[timestamp]' goes by the rate)"
        )
    return measured.astype(np.float64)
