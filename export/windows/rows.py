"""Windows one by one as the loader gives them, with their images as encoded bytes.

What cannot be read stops the export: an exported set has no substitutes.

Legend: n windows of a block, H history, T horizon, S state dims, A action dims, P moments before the anchor,
F moments after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.opened import OpenMixture
from robot_foundry.export.windows.asked import Asked
from robot_foundry.loader.robot.drafts import Draft, Drafts
from robot_foundry.loader.robot.row_images import RowImages
from robot_foundry.loader.robot.source import WindowSource
from robot_foundry.loader.share import Samples
from robot_foundry.loader.substituted import Damage, twice
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.shards.errors import CorruptData
from robot_foundry.shards.images import decode, encode_jpeg, probe
from robot_foundry.windows.beyond import beyond
from robot_foundry.windows.cameras import image_sizes
from robot_foundry.windows.chunks import Anchors
from robot_foundry.windows.resize import resized

BLOCK = 256  # low-dim windows cost least for many at once


@dataclass(frozen=True)
class Picture:
    """An image as it goes out; `height` and `width` are those of the stored one."""

    data: bytes
    encoding: str
    height: int
    width: int
    is_new: bool


@dataclass(frozen=True)
class Around:
    """What a sequence through the anchor has beside the window, over the unions; see `windows.beyond`."""

    action_PA: NDArray[np.float32]
    past_P: NDArray[np.bool_]
    state_FS: NDArray[np.float32]
    step: float  # rows from one step to the next


@dataclass(frozen=True)
class WindowRow:
    """One window. `k` is its place in the order; the arrays are those of `Batch`, without the B.

    `frame` is the anchor's in an episode of `num_frames`, `frame_H` those of the images. `pictures` are by
    role, oldest first, None where there is no image. `instruction` is the loader's choice of `instructions`.
    """

    k: int
    component: str
    version: str
    embodiment: str
    episode: str
    frame: int
    num_frames: int
    frame_H: NDArray[np.int64]
    dt: float
    weight: float
    instruction: str
    instructions: list[str]
    state_HS: NDArray[np.float32]
    state_mask_S: NDArray[np.bool_]
    action_TA: NDArray[np.float32]
    action_dim_mask_A: NDArray[np.bool_]
    step_mask_T: NDArray[np.bool_]
    pictures: Mapping[str, list[Picture | None]]
    around: Around | None = None


class WindowRows:
    """The windows of an opened mixture.

    `jpeg_only` encodes anew what is stored otherwise; `with_around` reads what lies around a window, too.
    """

    def __init__(self, opened: OpenMixture, asked: Asked, *, jpeg_only: bool, with_around: bool) -> None:
        self.asked, self._jpeg_only, self.with_around = asked, jpeg_only, with_around
        self.drafts = Drafts(opened, asked.spec, seed=asked.seed)
        self.image_sizes = image_sizes(self.drafts.unions.schemas.values(), asked.spec)
        self._keys = [part.opened.table("episodes")["key"] for part in opened.parts]

    def read(self, samples: Samples, *, with_pictures: bool = True) -> Iterator[WindowRow]:
        """The windows of these samples, in their order."""
        for start in range(0, len(samples.k_B), BLOCK):
            part = slice(start, start + BLOCK)
            block = Samples(samples.k_B[part], samples.dataset_B[part], samples.sample_B[part])
            yield from self._block(block, with_pictures)

    def close(self) -> None:
        """Let go of the files."""
        self.drafts.close()

    def _block(self, samples: Samples, with_pictures: bool) -> Iterator[WindowRow]:
        draft = self.drafts.draft(samples)
        if draft.failed:
            raise self._damaged(int(samples.dataset_B[min(draft.failed)]), draft.failed[min(draft.failed)])
        told = {
            row: one
            for number in np.unique(samples.dataset_B).tolist()
            for row, one in self._of_source(number, samples, with_pictures)
        }
        for n in range(len(samples.k_B)):
            number = int(samples.dataset_B[n])
            about = told[n]
            pictures = self._pictures(number, draft.images[n]) if with_pictures else {}
            yield self._row(draft, n, number, about, pictures)

    def _of_source(self, number: int, samples: Samples, with_pictures: bool) -> Iterator[tuple[int, _About]]:
        """What is known of the windows of one component beside their drafts, by their place in the block."""
        (row_n,) = np.nonzero(samples.dataset_B == number)
        source = self.drafts.sources[number]
        anchors = source.anchors(samples.sample_B[row_n])
        around = self._around(number, source, anchors) if self.with_around else [None] * len(row_n)
        texts = source.instructions(anchors)
        keys = self._keys[number].take(anchors.episode_n).to_pylist()
        for i, row in enumerate(row_n.tolist()):
            start, end = int(anchors.start_n[i]), int(anchors.end_n[i])
            yield row, _About(keys[i], start, end, int(anchors.row_n[i]), texts[i], around[i])

    def _around(self, number: int, source: WindowSource, anchors: Anchors) -> list[Around | None]:
        shards, _ = self.drafts.open_shards(source, anchors)
        plan = self.drafts.plans[number]
        found = beyond(anchors, {ordinal: shard.frames for ordinal, shard in shards.items()}, plan)
        state_at_S, action_at_A = self.drafts.dims_at[number]
        n, state, action = len(anchors.row_n), *self.drafts.spaces
        state_nFS = np.zeros((n, found.state_nFS.shape[1], len(state)), np.float32)
        action_nPA = np.zeros((n, found.action_nPA.shape[1], len(action)), np.float32)
        state_nFS[..., state_at_S], action_nPA[..., action_at_A] = found.state_nFS, found.action_nPA
        return [
            Around(action_nPA[i], found.past_nP[i], state_nFS[i], float(anchors.step_n[i])) for i in range(n)
        ]

    def _row(
        self,
        draft: Draft,
        n: int,
        number: int,
        about: _About,
        pictures: Mapping[str, list[Picture | None]],
    ) -> WindowRow:
        batch, source = draft.batch, self.drafts.sources[number]
        return WindowRow(
            k=int(batch.k_B[n]),
            component=source.component.name,
            version=source.component.version,
            embodiment=source.schema.embodiment,
            episode=about.episode,
            frame=about.row - about.start,
            num_frames=about.end - about.start,
            frame_H=draft.images[n].row_H - about.start,
            dt=float(batch.dt_B[n]),
            weight=float(batch.weight_B[n]),
            instruction=draft.instruction[n],
            instructions=about.texts,
            state_HS=batch.state_BHD[n],
            state_mask_S=batch.state_mask_BD[n],
            action_TA=batch.action_BTA[n],
            action_dim_mask_A=batch.action_dim_mask_BA[n],
            step_mask_T=batch.step_mask_BT[n],
            pictures=pictures,
            around=about.around,
        )

    def _pictures(self, number: int, item: RowImages) -> dict[str, list[Picture | None]]:
        """The images of a window by role; FoundryError where one is damaged."""
        pictures: dict[str, list[Picture | None]] = {}
        for role, size in self.image_sizes.items():
            member_row_R, reader = item.shard.member_row_R.get(role), item.shard.reader
            if member_row_R is None or reader is None:
                pictures[role] = [None] * len(item.row_H)
                continue
            seen: dict[int, Picture | None] = {-1: None}
            member_H = member_row_R[item.row_H].tolist()
            for member in member_H:
                if member not in seen:
                    try:
                        seen[member] = twice(partial(self._picture, reader.read, member, size))
                    except CorruptData as error:
                        damage = Damage(reader.tar_of(member), reader.name(member), str(error))
                        raise self._damaged(number, damage) from error
            pictures[role] = [seen[member] for member in member_H]
        item.shard.close_if_retired()
        return pictures

    def _picture(self, read: Callable[[int], bytes], member: int, size: tuple[int, int]) -> Picture:
        data = read(member)
        encoding, height, width = probe(data)
        if (height, width) == size and (encoding == "jpg" or not self._jpeg_only):
            return Picture(data, encoding, height, width, is_new=False)
        encoded = encode_jpeg(resized(decode(data), size), self.asked.quality)
        return Picture(encoded, "jpg", height, width, is_new=True)

    def _damaged(self, number: int, damage: Damage) -> FoundryError:
        component = self.drafts.sources[number].component
        member = "" if damage.member is None or damage.member in damage.reason else f"{damage.member}: "
        return FoundryError(
            f"a window of '{component.name}' cannot go out: {member}{damage.reason}",
            hint=f"foundry-data validate {component.version} --deep, and leave the episode out (--exclude)",
        )


@dataclass(frozen=True)
class _About:
    """An anchor's episode: its key, the rows from `start` to `end` of the shard, and the anchor's `row`."""

    episode: str
    start: int
    end: int
    row: int
    texts: list[str]
    around: Around | None
