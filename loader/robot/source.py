"""One component of a mixture, opened to read windows from: its tables and the images in its tars.

Legend: n anchors, E episodes, R rows of a shard.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.components import Component
from robot_foundry.catalog.manifest import known_manifest
from robot_foundry.catalog.mixture import component_selection
from robot_foundry.catalog.opening import open_robot_shard
from robot_foundry.catalog.robot.episode_tables import episode_rates
from robot_foundry.catalog.robot.tables import read_annotations, read_episodes, read_frames
from robot_foundry.catalog.robot.unions import component_schema
from robot_foundry.catalog.store import Store
from robot_foundry.loader.robot.instructions import Instructions
from robot_foundry.normalization.representation import encode, represented
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.reader import ShardReader
from robot_foundry.shards.segments import JoinedReader
from robot_foundry.windows.chunks import Anchors, Frames
from robot_foundry.windows.window import WindowSpec

MAX_OPEN_SHARDS = 256  # each holds a file descriptor, of the 1024 that a process usually may have


@dataclass
class OpenShard:
    """The mapped rows of a shard; `member_row_R` gives each row's image in the tar by role, -1 where none.

    A retired shard works as before, but whoever still reads from it closes its reader afterwards.
    """

    frames: Frames
    reader: ShardReader | JoinedReader | None
    member_row_R: Mapping[str, NDArray[np.int64]]
    retired: bool = False

    def retire(self) -> None:
        self.retired = True
        self.close_if_retired()

    def close_if_retired(self) -> None:
        if self.retired and self.reader is not None:
            self.reader.close()


class OpenShards:
    """The shards in use by all sources of a loader; the least recently used retire. Thread-safe."""

    def __init__(self, limit: int = MAX_OPEN_SHARDS) -> None:
        self._limit, self._lock = limit, Lock()
        self._open: OrderedDict[tuple[int, int], OpenShard] = OrderedDict()

    def get(self, key: tuple[int, int], opener: Callable[[], OpenShard]) -> OpenShard:
        with self._lock:
            if key not in self._open:
                self._open[key] = opener()
                if len(self._open) > self._limit:
                    self._open.popitem(last=False)[1].retire()
            self._open.move_to_end(key)
            return self._open[key]

    def close(self) -> None:
        with self._lock:
            while self._open:
                self._open.popitem()[1].retire()


class WindowSource:
    """The selected rows of one version. A part of the window that it cannot give raises FoundryError here."""

    def __init__(
        self, store: Store, component: Component, number: int, spec: WindowSpec, shards: OpenShards
    ) -> None:
        self.component, self.number, self.spec = component, number, spec
        self.schema = component_schema(store, component)
        self.state_space = self.schema.state_space()
        self.target_space = self.schema.space(spec.stream)
        self.action_space = represented(self.target_space, spec.representation, self.state_space)
        self._store, self._shards = store, shards
        self._selection = component_selection(store, component)
        manifest = known_manifest(store, self._selection.version)
        self._entries, self._hashes = manifest.shards, manifest.tar_hashes
        self._roles = {c.role: c.name for c in self.schema.cameras if c.role in spec.cameras}
        self.steps = spec.timing.steps(self.schema.fps, component.name)
        self._read_episodes()
        self._check_representation()

    def anchors(self, sample_n: NDArray[np.int64]) -> Anchors:
        """Where the samples [n] of the selection lie."""
        shard_n, row_n = self._selection.locate(sample_n)
        first_n = self._shard_first[shard_n]
        episode_n = np.searchsorted(self._episode_start_E, first_n + row_n, side="right") - 1
        start_n = self._episode_start_E[episode_n] - first_n
        end_n = start_n + self._length_E[episode_n]
        return Anchors(shard_n, row_n, start_n, end_n, episode_n, self._step_E[episode_n])

    def shard(self, ordinal: int) -> OpenShard:
        """The opened shard. CorruptMember if what a tar says of its episodes is damaged."""
        return self._shards.get((self.number, ordinal), lambda: self._open(ordinal))

    def tar_path(self, ordinal: int) -> str:
        """Where the tar of a shard lies in its store."""
        return self._store.shard_tar(self._selection.version.dataset, self._entries[ordinal].key)

    def dt(self, anchors: Anchors) -> NDArray[np.float32]:
        """Seconds between the steps of each window [n], 0 where the episode's rate is unknown."""
        return self._dt_E[anchors.episode_n]

    def instruction(self, anchors: Anchors, k_n: NDArray[np.int64], seed: int) -> list[str]:
        return self._instructions.at(anchors.episode_n, anchors.row_n - anchors.start_n, k_n, seed)

    def _read_episodes(self) -> None:
        version = self._selection.version
        episodes = read_episodes(self._store, version)
        counts = np.array([entry.num_samples for entry in self._entries], np.int64)
        self._shard_first = np.cumsum(counts) - counts
        shard_E = episodes["shard"].to_numpy()
        # Episodes are ordered by shard and row, so that one ascending number finds them.
        self._episode_start_E = self._shard_first[shard_E] + episodes["row_start"].to_numpy()
        self._length_E = episodes["num_frames"].to_numpy().astype(np.int64)
        rate_E = episode_rates(episodes)
        self._dt_E = self.steps.dt(rate_E).astype(np.float32)
        self._step_E = self.steps.rows(rate_E)
        self._instructions = Instructions(read_annotations(self._store, version), episodes["key"])

    def _check_representation(self) -> None:
        try:
            encode(
                np.zeros((0, len(self.state_space)), np.float32),
                np.zeros((0, 1, len(self.target_space)), np.float32),
                self.state_space,
                self.target_space,
                self.spec.representation,
            )
        except FoundryError as error:
            raise FoundryError(f"'{self.component.name}', stream '{self.spec.stream}': {error}") from error

    def _open(self, ordinal: int) -> OpenShard:
        store, version, key = self._store, self._selection.version, self._entries[ordinal].key
        table = read_frames(store, version, key)
        frames = Frames.of(table, self.spec.stream)
        if not self._roles:
            return OpenShard(frames, None, {})
        shard = open_robot_shard(store, version.dataset, key, self._hashes)
        member_row_R = {role: shard.image_rows(camera) for role, camera in self._roles.items()}
        if any(len(rows) != table.num_rows for rows in member_row_R.values()):
            raise FoundryError(
                f"{shard.reader.where} has another number of frames than its table in {version}",
                hint=f"foundry-data validate {self.component.version}",
            )
        return OpenShard(frames, shard.images, member_row_R)
