"""What a policy sees and predicts at one anchor frame.

Legend: n anchors (of one dataset), H history, T horizon, R rows of the shard, S state dims, A action dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.tables import Flag
from robot_foundry.catalog.windows import chunk_rows, history_rows
from robot_foundry.normalization.representation import Representation, encode
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError


@dataclass(frozen=True)
class WindowSpec:
    """Which frames and numbers make a sample.

    stream          the action stream whose rows are the targets
    representation  how targets are represented, see `normalization.representation`
    horizon         steps of a chunk; step s is row t + s·stride of the stream
    history         observations; the last is the anchor t, the one before it row t - stride, …
    stride          rows between steps, of observations and of actions alike
    cameras         roles of the cameras
    image           (height, width) that images are resized to, stretched where the shape differs; None is
                    the stored size, which then must be the same for a role in all datasets
    """

    stream: str = "next_state"
    representation: str = "relative_tool"
    horizon: int = 16
    history: int = 2
    stride: int = 1
    cameras: tuple[str, ...] = ("primary",)
    image: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if self.image is not None:
            object.__setattr__(self, "image", tuple(self.image))
        Representation.parse(self.representation)
        problems = [
            f"{name} {value} is below 1"
            for name, value in (("horizon", self.horizon), ("history", self.history), ("stride", self.stride))
            if value < 1
        ]
        if len(set(self.cameras)) != len(self.cameras):
            problems.append(f"a camera role is named twice in {', '.join(self.cameras)}")
        if self.image is not None and (len(self.image) != 2 or min(self.image) < 1):
            problems.append(f"image {self.image} is not (height, width)")
        if problems:
            raise FoundryError(f"window: {'; '.join(problems)}")


@dataclass(frozen=True)
class Frames:
    """The canonical rows of one shard, as a window needs them."""

    state_RS: NDArray[np.float32]
    target_RA: NDArray[np.float32]
    flags_R: NDArray[np.uint32]


@dataclass(frozen=True)
class Window:
    """The windows of n anchors: `row_nH` are the observed rows, all of the anchor's episode.

    At the start of an episode its first row repeats, at the end the last target does, where `inside_nT` is
    False. `state_mask_nS` is False for a dim that is not finite, or whose row is flagged invalid, at any
    observed row. `usable_nT` is False where the target is flagged invalid, or the anchor's state is.
    """

    row_nH: NDArray[np.int64]
    state_nHS: NDArray[np.float32]
    state_mask_nS: NDArray[np.bool_]
    target_nTA: NDArray[np.float32]
    inside_nT: NDArray[np.bool_]
    usable_nT: NDArray[np.bool_]


@dataclass(frozen=True)
class Anchors:
    """Rows `row_n` of the shards `shard_n`; their episodes are the rows `start_n` to `end_n` (exclusive), and
    `episode_n` numbers these through all shards."""

    shard_n: NDArray[np.int32]
    row_n: NDArray[np.int64]
    start_n: NDArray[np.int64]
    end_n: NDArray[np.int64]
    episode_n: NDArray[np.int64]


def windows(anchors: Anchors, frames: Mapping[int, Frames], spec: WindowSpec) -> Window:
    """The windows at the anchors, from `frames` by shard (at least one).

    Those of a shard that is not there are zeros and unusable.
    """
    n, some = len(anchors.row_n), next(iter(frames.values()))
    row_nH, _ = history_rows(anchors.row_n, anchors.start_n, spec.history, spec.stride)
    row_nT, inside_nT = chunk_rows(anchors.row_n, anchors.start_n, anchors.end_n, spec.horizon, spec.stride)
    state_nHS = np.zeros((n, spec.history, some.state_RS.shape[1]), np.float32)
    target_nTA = np.zeros((n, spec.horizon, some.target_RA.shape[1]), np.float32)
    flags_nH = np.full((n, spec.history), Flag.INVALID_STATE, np.uint32)
    flags_nT = np.full((n, spec.horizon), Flag.INVALID_ACTION, np.uint32)
    for shard, part in frames.items():
        (here,) = np.nonzero(anchors.shard_n == shard)
        state_nHS[here], flags_nH[here] = part.state_RS[row_nH[here]], part.flags_R[row_nH[here]]
        target_nTA[here], flags_nT[here] = part.target_RA[row_nT[here]], part.flags_R[row_nT[here]]
    state_ok_nH = (flags_nH & Flag.INVALID_STATE) == 0
    usable_nT = (flags_nT & Flag.INVALID_ACTION) == 0
    if Representation.parse(spec.representation).poses == "delta":
        usable_nT[:, 1:] &= usable_nT[:, :-1].copy()  # a step is seen from the one before it
    return Window(
        row_nH=row_nH,
        state_nHS=state_nHS,
        state_mask_nS=(np.isfinite(state_nHS) & state_ok_nH[..., None]).all(axis=1),
        target_nTA=target_nTA,
        inside_nT=inside_nT,
        usable_nT=usable_nT & state_ok_nH[:, -1:],
    )


def encode_actions(
    window: Window, state_space: ActionSpace, action_space: ActionSpace, representation: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The chunks in `representation` [n, T, A] and which steps count [n, T].

    A step of which any number is not finite (its target, or what it is relative to) is unusable. Unusable
    steps are zero; usable ones past the end of the episode keep the last target but do not count.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        action_nTA = encode(
            window.state_nHS[:, -1], window.target_nTA, state_space, action_space, representation
        )
    usable_nT = window.usable_nT & np.isfinite(action_nTA).all(axis=-1)
    action_nTA[~usable_nT] = 0
    return action_nTA, usable_nT & window.inside_nT
