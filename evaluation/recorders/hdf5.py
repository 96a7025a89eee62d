"""Demonstrations as one HDF5 file in robomimic's layout.

`/data` with attributes `total` (frames) and `env_args` (JSON); `/data/demo_<i>` with attributes num_samples,
instruction, success, embodiment and seed, and the arrays that the world's expert recorded, of equal length:
`actions`, with the attribute `columns`, and `obs/…`.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py

from robot_foundry.evaluation.recorders.recorder import ACTIONS, Common, Demonstration


class Hdf5Recorder:
    """See `Recorder`."""

    def __init__(self, place: Path, common: Common) -> None:
        self._common, self._frames = common, 0
        self._file = h5py.File(place, "w")
        self._data = self._file.create_group("data")

    def __enter__(self) -> Hdf5Recorder:
        return self

    def add(self, demonstration: Demonstration) -> None:
        group = self._data.create_group(f"demo_{demonstration.index}")
        recording = demonstration.recording
        group.attrs["num_samples"] = demonstration.num_frames
        group.attrs["instruction"] = recording.instruction
        group.attrs["success"] = recording.success
        group.attrs["embodiment"] = self._common.embodiment
        group.attrs["seed"] = demonstration.seed
        for name, array in recording.arrays.items():
            if array.ndim == 4:
                # One frame a chunk: readers go frame by frame, and rendered pictures deflate about tenfold.
                group.create_dataset(
                    name, data=array, chunks=(1, *array.shape[1:]), compression="gzip", compression_opts=1
                )
            else:
                group.create_dataset(name, data=array)
        group[ACTIONS].attrs["columns"] = list(self._common.columns)
        self._frames += demonstration.num_frames

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is None:
            self._data.attrs["total"] = self._frames
            self._data.attrs["env_args"] = json.dumps(self._common.environment, sort_keys=True)
        self._file.close()


def is_recorded(path: Path) -> bool:
    """Whether a file is one that this recorder wrote to its end: others do not say the roles of cameras."""
    try:
        with h5py.File(path) as file:
            environment = json.loads(file["data"].attrs["env_args"])
        return isinstance(environment["env_kwargs"]["cameras"], dict)
    except (OSError, KeyError, TypeError, ValueError):
        return False
