"""The shards of a version of pairs, opened to read rows from: what pairs say, and where their pictures lie.

Legend: E pairs of a shard, P pictures of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenVersion
from robot_foundry.catalog.pairs.tables import PAIRS
from robot_foundry.catalog.tars import open_tar
from robot_foundry.loader.pairs.lengths import TEXTS, pair_texts
from robot_foundry.loader.pairs.template import PairText
from robot_foundry.loader.substituted import Damage
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.reader import ShardReader


@dataclass(frozen=True)
class PictureAt:
    """Where a picture lies: a member of a tar, which is opened once it is read, and perhaps not kept open."""

    tar_of: Callable[[str], ShardReader]
    tar: str
    row: int

    def read(self) -> bytes:
        """CorruptMember where its bytes are not those that were written."""
        return self.tar_of(self.tar).read(self.row)

    def damage(self, error: CorruptData) -> Damage:
        """What is corrupt where reading or decoding it raised `error`."""
        tar = self.tar_of(self.tar)
        name = tar.name(self.row)
        reason = str(error) if name in str(error) else f"member {name!r} of {tar.where} is damaged: {error}"
        return Damage(tar.tar_path, name, reason)


class PairShard:
    """One shard; `tar_of` opens tars by their keys, the shard's own and those that it adopted."""

    def __init__(self, opened: OpenVersion, ordinal: int, tar_of: Callable[[str], ShardReader]) -> None:
        """FoundryError where its table or a tar is not that of the version."""
        table = opened.shard_table(PAIRS, ordinal)
        self._texts, self._tar_of = table.select(TEXTS), tar_of
        members = table["image_member"].combine_chunks()
        # Of pair e these are pictures start_E1[e] … start_E1[e + 1] - 1 of the shard.
        self._start_E1 = members.offsets.to_numpy() - members.offsets[0].as_py()
        own = opened.manifest.shards[ordinal].key
        self._keys, self._key_P = _numbered(table["image_tar"].combine_chunks().flatten(), own)
        self._row_P = self._rows_of(members.flatten(), opened)

    def texts(self, row_n: Sequence[int]) -> list[PairText]:
        """What the pairs of these rows say."""
        return list(pair_texts(self._texts.take(pa.array(row_n, pa.int64()))))

    def pictures(self, row: int) -> list[PictureAt]:
        """Where the pictures of a pair lie, in their order."""
        here = range(self._start_E1[row], self._start_E1[row + 1])
        return [PictureAt(self._tar_of, self._keys[self._key_P[p]], int(self._row_P[p])) for p in here]

    def _rows_of(self, members_P: pa.Array, opened: OpenVersion) -> NDArray[np.int64]:
        """The row of each picture's member in the index of its tar."""
        row_P = np.empty(len(members_P), np.int64)
        for number, key in enumerate(self._keys):
            here_P = self._key_P == number
            names, tar = members_P.filter(pa.array(here_P)), self._tar_of(key)
            found = pc.index_in(names, value_set=tar.index["name"].combine_chunks())
            if found.null_count:
                lost = names.filter(pc.is_null(found))[0].as_py()
                raise FoundryError(
                    f"{tar.where} has no member '{lost}', which {opened.version} names",
                    hint=f"foundry-data validate {opened.version}",
                )
            row_P[here_P] = found.to_numpy()
        return row_P


def opened_tar(opened: OpenVersion, key: str) -> ShardReader:
    """A tar of a version."""
    return open_tar(opened.store, opened.manifest.dataset, key, opened.manifest.tar_hashes)


def _numbered(tars_P: pa.Array, own: str) -> tuple[list[str], NDArray[np.int32]]:
    """The keys of the tars that pictures lie in, and the number among them of each; null is the shard's."""
    encoded = tars_P.fill_null(own).dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
