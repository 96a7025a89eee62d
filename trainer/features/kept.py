"""Features by key in a folder of a storage, to which any number of processes add at once.

A file is a segment of rows that appears whole and is never changed, named for what it holds. So a writer that
is killed leaves whole rows or none, two that write the same write the same file, and nothing is locked. One
that is damaged is removed, and its rows are made again.

Legend: rows of float32 of one shape, F.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryWarning, MissingFileError
from robot_foundry.runtime.killpoint import kill_point
from robot_foundry.runtime.storage.storage import Storage
from robot_foundry.trainer.features import segments
from robot_foundry.trainer.features.segments import DamagedSegment, Place

Features = NDArray[np.float32]
ROWS = 64  # of a segment: what a writer that is killed may lose


@dataclass
class KeptFeatures:
    """The rows of a folder, and those that this process made and has not written yet.

    found, made  how many rows it gave so far that were there, and that were not
    """

    storage: Storage
    folder: str
    shape: tuple[int, ...]
    found: int = 0
    made: int = 0
    _places: dict[bytes, Place] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)  # segments
    _fresh: dict[bytes, bytes] = field(default_factory=dict)
    _told: bool = False  # that the folder cannot be written

    def __post_init__(self) -> None:
        self._look()

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._places.keys() | self._fresh.keys())

    @property
    def size(self) -> int:
        """Bytes of their values."""
        return self.rows * 4 * prod(self.shape)

    def of(self, keys: Sequence[bytes], make: Callable[[int], Features]) -> Features:
        """The features [number of keys, F] of each key: those that are there, else what `make` gives for
        its index, which is kept."""
        rows = [self._find(key) for key in keys]
        if None in rows and self._look():  # others may have made them
            rows = [self._find(key) if row is None else row for key, row in zip(keys, rows, strict=True)]
        self.found += sum(row is not None for row in rows)
        for index, key in enumerate(keys):
            if rows[index] is None:
                rows[index] = self._find(key) or self._made(key, make(index))
        values = np.frombuffer(b"".join(row for row in rows if row is not None), "<f4")
        return values.reshape(len(keys), *self.shape).astype(np.float32, copy=False)

    def flush(self) -> None:
        """Write what is not written yet."""
        if not self._fresh:
            return
        data = segments.segment(self._fresh)
        path = f"{self.folder}/{blake3(data).hexdigest()[:32]}.bin"
        kill_point("features-before-segment")
        try:
            self.storage.write(path, data, durable=False)
        except OSError as error:
            if not self._told:
                self._tell(f"{self.folder} cannot be written ({error.strerror or error}); features stay in memory")
            self._told = True
            return
        kill_point("features-after-segment")
        self._places |= segments.places(self.storage, path)
        self._seen.add(path)
        self._fresh.clear()

    def _made(self, key: bytes, features: Features) -> bytes:
        if features.shape != self.shape:
            raise ValueError(f"features of the shape {features.shape} among those of {self.shape}")
        values = np.ascontiguousarray(features, "<f4").tobytes()
        self._fresh[key] = values
        self.made += 1
        if len(self._fresh) % ROWS == 0:
            self.flush()
        return values

    def _find(self, key: bytes) -> bytes | None:
        place = self._places.get(key)
        if place is None:
            return self._fresh.get(key)
        try:
            return segments.read(self.storage, key, place)
        except DamagedSegment as error:
            self._remove(place.path, error)
        except MissingFileError:  # another process has found it damaged, or the cache was emptied
            self._forget(place.path)
        return None

    def _look(self) -> bool:
        """Take note of segments that are new here; whether there are any."""
        new = [path for path in self.storage.list(self.folder) if path not in self._seen]
        for path in new:
            self._seen.add(path)
            try:
                there = segments.places(self.storage, path)
            except DamagedSegment as error:
                self._remove(path, error)
                continue
            except MissingFileError:
                continue
            size = 4 * prod(self.shape)
            self._places |= {key: place for key, place in there.items() if place.size == size}
        return bool(new)

    def _remove(self, path: str, error: DamagedSegment) -> None:
        self._tell(f"{error.message}: it is removed, and its features are made again")
        self.storage.delete(path)
        self._forget(path)

    def _forget(self, path: str) -> None:
        self._places = {key: place for key, place in self._places.items() if place.path != path}

    def _tell(self, sentence: str) -> None:
        warnings.warn(sentence, FoundryWarning, stacklevel=2)

    def __enter__(self) -> KeptFeatures:
        return self

    def __exit__(self, *_: Any) -> None:
        self.flush()
