"""A batch: numpy arrays over the union spaces of a mixture.

Legend: B rows, H history, T horizon, D dims of the union state, A dims of the union action, h × w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robot_foundry.runtime.errors import FoundryError

_ROW_ARRAYS = (
    *("k_B", "dataset_B", "embodiment_B", "dt_B", "weight_B"),
    *("state_BHD", "state_mask_BD", "action_BTA", "action_dim_mask_BA", "step_mask_BT"),
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one global batch; nothing in it is NaN, whatever was stored.

    step               optimiser step b
    k_B                position of each row in the order, k // global_batch = b
    dataset_B          component number in the mixture; embodiment_B number in `Loader.embodiments`
    dt_B               seconds between steps of the window, 0 where the rate is unknown
    images             by role, uint8 [B, H, h, w, 3], oldest first; zero where `image_mask` [B, H] is False,
                       that is where the dataset has no such camera or the frame has no image of it
    instruction        one text a row, '' where there is none
    state_BHD          absolute canonical values, the anchor last; 0 where `state_mask_BD` is False
    action_BTA         in the window's representation, not normalised; 0 where `action_dim_mask_BA` is False
                       or the step is not usable. Past the end of the episode, or of the dataset's own
                       horizon, it keeps the last target
    action_dim_mask_BA which dims the row's dataset has
    step_mask_BT       which steps count
    weight_B           weight of the row in the loss
    """

    step: int
    k_B: NDArray[np.int64]
    dataset_B: NDArray[np.int32]
    embodiment_B: NDArray[np.int32]
    dt_B: NDArray[np.float32]
    images: Mapping[str, NDArray[np.uint8]]
    image_mask: Mapping[str, NDArray[np.bool_]]
    instruction: tuple[str, ...]
    state_BHD: NDArray[np.float32]
    state_mask_BD: NDArray[np.bool_]
    action_BTA: NDArray[np.float32]
    action_dim_mask_BA: NDArray[np.bool_]
    step_mask_BT: NDArray[np.bool_]
    weight_B: NDArray[np.float32]
    modality: str = "robot"

    @property
    def sizes(self) -> Mapping[str, float]:
        """Its rows stand for nothing but what counts."""
        return {}

    def __len__(self) -> int:
        return len(self.k_B)

    @cached_property
    def counts(self) -> dict[str, int]:
        """`action`: how many numbers of the chunks count, over rows, steps and dims."""
        dims_B = self.action_dim_mask_BA.sum(axis=1)
        return {"action": int(self.step_mask_BT.sum(axis=1) @ dims_B)}

    def rows(self, rows: slice) -> Batch:
        """Some of the rows, as views; an empty slice raises FoundryError."""
        if not self.k_B[rows].size:
            raise FoundryError(f"{rows} takes no row of a batch of {len(self)}")
        return replace(
            self,
            images={role: pixels[rows] for role, pixels in self.images.items()},
            image_mask={role: mask[rows] for role, mask in self.image_mask.items()},
            instruction=self.instruction[rows],
            **{name: getattr(self, name)[rows] for name in _ROW_ARRAYS},
        )

    def copied(self, step: int, image_sizes: Mapping[str, tuple[int, int]]) -> Batch:
        """A copy as that step's batch, with pixels of (height, width) by role still to be filled in place."""
        images, image_mask = _images(len(self), self.state_BHD.shape[1], image_sizes)
        return replace(
            self,
            step=step,
            images=images,
            image_mask=image_mask,
            **{name: getattr(self, name).copy() for name in _ROW_ARRAYS},
        )


def allocate(
    step: int,
    k_B: NDArray[np.int64],
    dataset_B: NDArray[np.int32],
    *,
    history: int,
    horizon: int,
    state_dims: int,
    action_dims: int,
    images: Mapping[str, tuple[int, int]],
) -> Batch:
    """A batch whose arrays are still to be filled in place; `images` gives (height, width) of each role."""
    B, H, T = len(k_B), history, horizon
    pixels, image_mask = _images(B, H, images)
    return Batch(
        step=step,
        k_B=k_B,
        dataset_B=dataset_B,
        embodiment_B=np.zeros(B, np.int32),
        dt_B=np.zeros(B, np.float32),
        images=pixels,
        image_mask=image_mask,
        instruction=(),
        state_BHD=np.zeros((B, H, state_dims), np.float32),
        state_mask_BD=np.zeros((B, state_dims), bool),
        action_BTA=np.zeros((B, T, action_dims), np.float32),
        action_dim_mask_BA=np.zeros((B, action_dims), bool),
        step_mask_BT=np.zeros((B, T), bool),
        weight_B=np.ones(B, np.float32),
    )


def fill_state(
    batch: Batch,
    row_n: NDArray[np.intp],
    at_S: NDArray[np.intp],
    state_nHS: NDArray[np.float32],
    mask_nS: NDArray[np.bool_],
) -> None:
    """Write the states of rows of one dataset, whose dims are those `at_S` of the union; 0 where masked."""
    moments_H1 = np.arange(state_nHS.shape[1])[:, None]
    state_nHS = np.where(mask_nS[:, None, :], state_nHS, np.float32(0))
    batch.state_BHD[row_n[:, None, None], moments_H1, at_S] = state_nHS
    batch.state_mask_BD[row_n[:, None], at_S] = mask_nS


def _images(
    B: int, H: int, sizes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.bool_]]]:
    pixels = {role: np.empty((B, H, *size, 3), np.uint8) for role, size in sizes.items()}
    return pixels, {role: np.zeros((B, H), bool) for role in sizes}
