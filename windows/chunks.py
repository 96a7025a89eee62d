"""Windows: what a policy sees and predicts at anchor frames. The loader, statistics and policies share them.

Rows are row numbers of one shard's frames table; `windows.moments` says which ones a window has. Row t of the
stream `next_state` holds the state reached at t+1. Where a step is no whole number of rows, values are
interpolated (`normalization.resampling`), and an image is the last one taken by then.

Legend: n anchors (of one dataset), H history, T horizon, K either, R rows of the shard, S state dims,
A action dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.catalog.tables import column_matrix
from robot_foundry.normalization.representation import Representation, encode
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.windows.moments import (
    Moments,
    chunk_moments,
    filled_moments,
    finite_dims,
    history_moments,
    values_at,
)
from robot_foundry.windows.timing import Steps


@dataclass(frozen=True)
class Frames:
    """The canonical rows of one shard, as a window needs them."""

    state_RS: NDArray[np.float32]
    target_RA: NDArray[np.float32]
    flags_R: NDArray[np.uint32]

    @classmethod
    def of(cls, table: pa.Table, stream: str) -> Frames:
        """Those of a frames table, with the targets of an action stream."""
        target_RA = column_matrix(table, f"action.{stream}")
        return cls(column_matrix(table, "state"), target_RA, table["flags"].to_numpy())


@dataclass(frozen=True)
class Anchors:
    """Rows `row_n` of the shards `shard_n`; their episodes are the rows `start_n` to `end_n` (exclusive), and
    `episode_n` numbers these through all shards. `step_n` are the rows from one step to the next."""

    shard_n: NDArray[np.int32]
    row_n: NDArray[np.int64]
    start_n: NDArray[np.int64]
    end_n: NDArray[np.int64]
    episode_n: NDArray[np.int64]
    step_n: NDArray[np.float64]


@dataclass(frozen=True)
class WindowPlan:
    """What the windows of one dataset are made of.

    `state` and `target` name its columns. Its own `steps` are filled up to `horizon` and `history`, those of
    the mixture: surplus targets repeat the last one and do not count, surplus observations repeat the oldest.
    Steps whose target has one of the flags `masked` do not count.
    """

    state: ActionSpace
    target: ActionSpace
    representation: str
    steps: Steps
    horizon: int
    history: int
    masked: Flag = Flag(0)


@dataclass(frozen=True)
class Window:
    """The windows of n anchors: `row_nH` are the rows of the images, all of the anchor's episode.

    At the start of an episode its first row repeats, at the end the last target does, where `inside_nT` is
    False. `state_mask_nS` is False for a dim that is not finite, or whose row is flagged invalid, at any
    observed moment. `usable_nT` is False where the target is flagged invalid, or the anchor's state is, and
    `counted_nT` also where it is not inside or has a flag that is masked. `flags_n` are the anchor's.
    """

    row_nH: NDArray[np.int64]
    state_nHS: NDArray[np.float32]
    state_mask_nS: NDArray[np.bool_]
    target_nTA: NDArray[np.float32]
    inside_nT: NDArray[np.bool_]
    usable_nT: NDArray[np.bool_]
    counted_nT: NDArray[np.bool_]
    flags_n: NDArray[np.uint32]


def windows(anchors: Anchors, frames: Mapping[int, Frames], plan: WindowPlan) -> Window:
    """The windows at the anchors, from `frames` by shard (at least one).

    Those of a shard that is not there are zeros and unusable. FoundryError where an episode is to be
    resampled and its rate is unknown.
    """
    if not np.isfinite(anchors.step_n).all():
        raise FoundryError(
            "the rate of an episode is unknown, so that it cannot be resampled with control_hz",
            hint="leave such episodes out (--where 'fps > 0'), or give their rate in the spec (content.fps)",
        )
    n = len(anchors.row_n)
    seen, chunk = moments_of(anchors, plan)
    state_nHS = np.zeros((n, plan.history, len(plan.state)), np.float32)
    target_nTA = np.zeros((n, plan.horizon, len(plan.target)), np.float32)
    # Invalid from the start, so that what no shard fills stays unusable.
    flags_nH = np.full((n, plan.history), Flag.INVALID_STATE, np.uint32)
    flags_nT = np.full((n, plan.horizon), Flag.INVALID_ACTION, np.uint32)
    flags_n = np.zeros(n, np.uint32)
    for shard, part in frames.items():
        (here,) = np.nonzero(anchors.shard_n == shard)
        flags_n[here] = part.flags_R[anchors.row_n[here]]
        state_nHS[here], flags_nH[here] = read_moments(part.state_RS, part.flags_R, seen, here, plan.state)
        target_nTA[here], flags_nT[here] = read_moments(
            part.target_RA, part.flags_R, chunk, here, plan.target
        )
    state_ok_nH = (flags_nH & Flag.INVALID_STATE) == 0
    usable_nT = (flags_nT & Flag.INVALID_ACTION) == 0
    if Representation.parse(plan.representation).poses == "delta":
        usable_nT[:, 1:] &= usable_nT[:, :-1].copy()  # a step is seen from the one before it
    usable_nT &= state_ok_nH[:, -1:]
    return Window(
        row_nH=seen.low_nK,
        state_nHS=state_nHS,
        state_mask_nS=finite_dims(state_nHS) & state_ok_nH.all(axis=1)[:, None],
        target_nTA=target_nTA,
        inside_nT=chunk.inside_nK,
        usable_nT=usable_nT,
        counted_nT=usable_nT & chunk.inside_nK & ((flags_nT & np.uint32(plan.masked)) == 0),
        flags_n=flags_n,
    )


def encoded(window: Window, plan: WindowPlan) -> NDArray[np.float32]:
    """The chunks in the plan's representation [n, T, A], whatever is usable of them or finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        return encode(
            window.state_nHS[:, -1], window.target_nTA, plan.state, plan.target, plan.representation
        )


def encode_actions(window: Window, plan: WindowPlan) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The chunks in the plan's representation [n, T, A] and which steps count [n, T].

    A step of which any number is not finite (its target, or what it is relative to) is unusable. Unusable
    steps are zero; usable ones past the end of the episode keep the last target but do not count.
    """
    action_nTA = encoded(window, plan)
    finite_nT = np.isfinite(action_nTA).all(axis=-1)
    action_nTA[~(window.usable_nT & finite_nT)] = 0
    return action_nTA, window.counted_nT & finite_nT


def moments_of(anchors: Anchors, plan: WindowPlan) -> tuple[Moments, Moments]:
    """Where observations [n, H] and targets [n, T] lie, filled up to those of the mixture."""
    steps, step_n = plan.steps, anchors.step_n
    seen = history_moments(anchors.row_n, anchors.start_n, steps.history, step_n)
    chunk = chunk_moments(anchors.row_n, anchors.start_n, anchors.end_n, steps.horizon, step_n)
    at_H = filled_moments(plan.history, steps.history)
    at_T = np.minimum(np.arange(plan.horizon), steps.horizon - 1)
    counts_T = np.arange(plan.horizon) < steps.horizon
    return (
        Moments(seen.low_nK[:, at_H], seen.share_nK[:, at_H], seen.inside_nK[:, at_H]),
        Moments(chunk.low_nK[:, at_T], chunk.share_nK[:, at_T], chunk.inside_nK[:, at_T] & counts_T),
    )


def read_moments(
    values_RD: NDArray[np.float32],
    flags_R: NDArray[np.uint32],
    moments: Moments,
    here_m: NDArray[np.intp],
    space: ActionSpace,
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Values [m, K, D] and flags [m, K] at the moments of some anchors; flags are those of both rows."""
    low_mK, share_mK = moments.low_nK[here_m], moments.share_nK[here_m]
    flags_mK = flags_R[low_mK] | flags_R[low_mK + (share_mK > 0)]
    return values_at(values_RD, low_mK, share_mK, space), flags_mK
