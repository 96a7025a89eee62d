"""What is left of chunks under way, as the network would have said it of the new observations.

Targets of a chunk are relative to the state at its own observation, and normalised; so those of the old chunk
are taken as the absolute poses that they are and encoded anew.
Shapes: B rows, T steps, d dims of a dataset, A action dims of the union.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.robot.batch import Batch
from robot_foundry.normalization.representation import encode
from robot_foundry.normalization.space import ActionSpace
from robot_foundry.policy.actions import Underway
from robot_foundry.runtime.errors import FoundryError
from robot_foundry.trainer.models.flow_guidance import overlap_weights
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces
from robot_foundry.trainer.tasks.vla.scales import Scales
from robot_foundry.windows.moments import values_at

FloatArray = NDArray[np.float64]
_DECIMALS = 6  # what is this near to a step, in steps, lies on it


def continued(
    batch: Batch,
    mask_BTA: NDArray[np.bool_],
    underway: Sequence[Underway | None],
    *,
    spaces: PolicySpaces,
    scales: Scales,
    representation: str,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Normalised targets [B, T, A] that new chunks should keep to, and how much each of their numbers counts.

    Rows with no chunk under way count nothing, and so does what `mask_BTA` leaves out. As in training,
    targets are clipped.
    """
    target_BTA, weight_BT = np.zeros(mask_BTA.shape), np.zeros(mask_BTA.shape[:2], np.float32)
    for row, chunk in enumerate(underway):
        if chunk is None:
            continue
        dataset = spaces.datasets[batch.dataset_B[row]]
        steps = int(mask_BTA[row].any(axis=-1).sum())
        target_Td, overlap = remaining(chunk, dataset.action, steps)
        state_D = batch.state_BHD[row, -1].astype(np.float64)
        state_d = dataset.state.gather(state_D, spaces.state, embodiment=dataset.embodiment)
        at_d = dataset.action.indices_in(spaces.action, dataset.embodiment)
        action_Td = encode(state_d, target_Td, dataset.state, dataset.action, representation)
        target_BTA[row, :steps, at_d] = action_Td.T
        weight_BT[row, :steps] = overlap_weights(steps, chunk.delay, overlap)
    normalized_BTA = scales.normalize_action(target_BTA, mask_BTA, batch.dataset_B)
    return normalized_BTA.astype(np.float32), weight_BT[..., None] * mask_BTA


def remaining(underway: Underway, space: ActionSpace, steps: int) -> tuple[FloatArray, int]:
    """The absolute targets [T, d] of the old chunk at the `steps` of a new one, and how many it still has.

    Behind its end the last target stands. FoundryError where it is no chunk of this robot, or ends before the
    new one takes over.
    """
    values_Td, executed, delay = underway.actions.values_TA, underway.executed, underway.delay
    if underway.actions.space != space:
        raise FoundryError(f"the chunk under way is of other dims: {', '.join(underway.actions.space.names)}")
    if not np.isfinite(values_Td).all():
        raise FoundryError("the chunk under way has targets that are no numbers")
    if not (0 <= executed < np.inf and 0 <= delay < np.inf):
        raise FoundryError(f"of the chunk under way {executed} steps are executed, with a delay of {delay}")
    if delay and executed + delay > len(values_Td):
        raise FoundryError(
            f"the chunk under way has {len(values_Td)} steps: it ends before the next one is there, "
            f"{executed:g} steps after its observation and {delay:g} of delay"
        )
    at_T = np.round(executed + np.arange(steps), _DECIMALS)
    last = len(values_Td) - 1
    clamped_T = np.minimum(at_T, last)
    low_T = np.floor(clamped_T).astype(np.int64)
    return values_at(values_Td, low_T, clamped_T - low_T, space), int((at_T <= last).sum())
