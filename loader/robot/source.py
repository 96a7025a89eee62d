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

from robot_foundry.catalog.opened import Part
from robot_foundry.catalog.robot.episode_tables import episode_rates
from robot_foundry.catalog.robot.schema import schema_of
from robot_foundry.catalog.robot.tars import open_robot_shard
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

    def __init__(self, part: Part, number: int, spec: WindowSpec, shards: OpenShards) -> None:
        self.component, self.number, self.spec = part.component, number, spec
        self.schema = schema_of(part.manifest)
        self.state_space = self.schema.state_space()
        self.target_space = self.schema.space(spec.stream)
        self.action_space = represented(self.target_space, spec.representation, self.state_space)
        self._opened, self._selection, self._shards = part.opened, part.select(), shards
        self._entries = part.manifest.shards
        self._roles = {c.role: c.name for c in self.schema.cameras if c.role in spec.cameras}
        self.steps = spec.timing.steps(self.schema.fps, part.name)
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
        return self._opened.store.shard_tar(self._opened.version.dataset, self._entries[ordinal].key)

    def dt(self, anchors: Anchors) -> NDArray[np.float32]:
        """Seconds between the steps of each window [n], 0 where the episode's rate is unknown."""
        return self._dt_E[anchors.episode_n]

    def instruction(self, anchors: Anchors, k_n: NDArray[np.int64], seed: int) -> list[str]:
        return self._instructions.at(anchors.episode_n, anchors.row_n - anchors.start_n, k_n, seed)

    def instructions(self, anchors: Anchors) -> list[list[str]]:
        """All texts of each window [n], of which `instruction` is one; none where it is ''."""
        return self._instructions.all_at(anchors.episode_n, anchors.row_n - anchors.start_n)

    def _read_episodes(self) -> None:
        episodes, groups = self._opened.table("episodes"), self._opened.geometry
        counts = np.array([entry.num_samples for entry in self._entries], np.int64)
        self._shard_first = np.cumsum(counts) - counts
        # Episodes are ordered by shard and row, so that one ascending number finds them.
        self._episode_start_E = self._shard_first[groups.shard_E] + groups.start_E
        self._length_E = groups.length_E
        rate_E = episode_rates(episodes)
        self._dt_E = self.steps.dt(rate_E).astype(np.float32)
        self._step_E = self.steps.rows(rate_E)
        self._instructions = Instructions(self._opened.table("annotations"), episodes["key"])

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
        version, key = self._opened.version, self._entries[ordinal].key
        table = self._opened.shard_table("frames", ordinal)
        frames = Frames.of(table, self.spec.stream)
        if not self._roles:
            return OpenShard(frames, None, {})
        shard = open_robot_shard(self._opened.store, version.dataset, key, self._opened.manifest.tar_hashes)
        member_row_R = {role: shard.image_rows(camera) for role, camera in self._roles.items()}
        if any(len(rows) != table.num_rows for rows in member_row_R.values()):
            raise FoundryError(
                f"{shard.reader.where} has another number of frames than its table in {version}",
                hint=f"foundry-data validate {self.component.version}",
            )
        return OpenShard(frames, shard.images, member_row_R)
