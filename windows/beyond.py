"""What lies around a window in time: targets of the moments before its anchor, and states of those after it.

A policy neither sees nor predicts them; formats that keep state and action as one sequence of rows do.

Legend: n anchors (of one dataset), P moments before the anchor (a history less the anchor), F moments after
it (a horizon less the first), S state dims, A action dims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_foundry.catalog.robot.tables import Flag
from robot_foundry.normalization.representation import encode
from robot_foundry.windows.chunks import Anchors, Frames, WindowPlan, moments_of, read_moments
from robot_foundry.windows.moments import Moments


@dataclass(frozen=True)
class Beyond:
    """`action_nPA` are encoded as the chunk is, from the anchor's state; they are 0 where `past_nP` is False:
    before the episode, or where a number or a flag says that they are invalid. `state_nFS` repeats the last
    row at the end of the episode, and is 0 where it is not finite or flagged invalid."""

    action_nPA: NDArray[np.float32]
    past_nP: NDArray[np.bool_]
    state_nFS: NDArray[np.float32]


def beyond(anchors: Anchors, frames: Mapping[int, Frames], plan: WindowPlan) -> Beyond:
    """What lies around the windows of the anchors, whose shards must all be in `frames`."""
    n = len(anchors.row_n)
    seen, chunk = moments_of(anchors, plan)
    past, last, after = _some(seen, slice(0, -1)), _some(seen, slice(-1, None)), _some(chunk, slice(1, None))
    anchor_n1S = np.zeros((n, 1, len(plan.state)), np.float32)
    state_nFS = np.zeros((n, plan.horizon - 1, len(plan.state)), np.float32)
    target_nPA = np.zeros((n, plan.history - 1, len(plan.target)), np.float32)
    flags_n1, flags_nF = np.zeros((n, 1), np.uint32), np.zeros((n, plan.horizon - 1), np.uint32)
    flags_nP = np.zeros((n, plan.history - 1), np.uint32)
    for shard, part in frames.items():
        (here,) = np.nonzero(anchors.shard_n == shard)
        anchor_n1S[here], flags_n1[here] = read_moments(part.state_RS, part.flags_R, last, here, plan.state)
        state_nFS[here], flags_nF[here] = read_moments(part.state_RS, part.flags_R, after, here, plan.state)
        target_nPA[here], flags_nP[here] = read_moments(part.target_RA, part.flags_R, past, here, plan.target)
    with np.errstate(invalid="ignore", over="ignore"):
        action_nPA = encode(anchor_n1S[:, 0], target_nPA, plan.state, plan.target, plan.representation)
    past_nP = past.inside_nK & ((flags_nP & Flag.INVALID_ACTION) == 0)
    past_nP &= ((flags_n1 & Flag.INVALID_STATE) == 0) & np.isfinite(action_nPA).all(axis=-1)
    action_nPA[~past_nP] = 0
    state_nFS[(flags_nF & Flag.INVALID_STATE) != 0] = 0
    state_nFS[~np.isfinite(state_nFS)] = 0
    return Beyond(action_nPA, past_nP, state_nFS)


def _some(moments: Moments, at: slice) -> Moments:
    return Moments(moments.low_nK[:, at], moments.share_nK[:, at], moments.inside_nK[:, at])
