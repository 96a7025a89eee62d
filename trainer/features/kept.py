"""Features by key in a folder of a storage, to which any number of processes add at once.

A file is a segment of rows that appears whole and is never changed, named for what it holds. So a writer that
is killed leaves whole rows or none, two that write the same write the same file, and nothing is locked. One
that is damaged is removed, and what of it is lost is made again.

Legend: rows of float32 of one shape, F.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryWarning, MissingFileError
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

    def of(self, keys: Sequence[bytes], make: Callable[[Sequence[int]], Iterable[Features]]) -> Features:
        """The features [number of keys, F] of each key.

        Those that are not there are what `make` gives for their indices, one after the other, and are kept.
        """
        rows = {key: self._find(key) for key in keys}
        if None in rows.values() and self._look():  # others may have made them
            rows = {key: self._find(key) if row is None else row for key, row in rows.items()}
        self.found += sum(rows[key] is not None for key in keys)
        missing = [keys.index(key) for key, row in rows.items() if row is None]
        for index, features in zip(missing, make(missing) if missing else (), strict=True):
            rows[keys[index]] = self._made(keys[index], features)
        values = np.frombuffer(b"".join(rows[key] or b"" for key in keys), "<f4")
        return values.reshape(len(keys), *self.shape).astype(np.float32)

    def flush(self) -> None:
        """Write what is not written yet."""
        if not self._fresh:
            return
        data = segments.segment(self._fresh)
        path = f"{self.folder}/{blake3(data).hexdigest()[:32]}.bin"
        try:
            self.storage.write(path, data, durable=False)
        except OSError as error:
            if not self._told:
                self._tell(
                    f"{self.folder} cannot be written ({error.strerror or error}); features stay in memory"
                )
            self._told = True
            return
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
        """What of a damaged segment is whole is written again with the next."""
        self._tell(f"{error.message}: the file is removed, and what is damaged is made again")
        for key in [key for key, place in self._places.items() if place.path == path]:
            with suppress(DamagedSegment, MissingFileError):
                self._fresh[key] = segments.read(self.storage, key, self._places[key])
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
