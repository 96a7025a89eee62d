"""From batches of the loader to the tensors a policy takes: the one function of training and of policies.

Shapes: B batch, V views (every history step of the first role, then of the next), H history, W or HW pixels,
S text tokens, D state dims, T chunk steps, A action dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot_foundry.loader.robot.batch import Batch
from robot_foundry.trainer.models.vla import Geometry, Inputs, Targets
from robot_foundry.trainer.tasks.vla.config import VLATaskConfig
from robot_foundry.trainer.tasks.vla.draws import build_draws, state_seen
from robot_foundry.trainer.tasks.vla.features import seen_by_features
from robot_foundry.trainer.tasks.vla.policy_spaces import PolicySpaces, geometry
from robot_foundry.trainer.tasks.vla.prompts import Words
from robot_foundry.trainer.tasks.vla.scales import Scales
from robot_foundry.windows.cameras import views

Array = NDArray[Any]


@dataclass(frozen=True)
class InputMaker:
    """The function from a batch to training inputs on the CPU, noise and times keyed by (seed, k)."""

    config: VLATaskConfig
    sizes: Geometry
    scales: Scales
    words: Words

    @classmethod
    def of(cls, config: VLATaskConfig, spaces: PolicySpaces, scales: Scales, words: Words) -> InputMaker:
        return cls(config, geometry(config, spaces), scales, words)

    def __call__(self, batch: Batch) -> Inputs:
        model, sizes = self.config.model, self.sizes
        inputs = build_inputs(
            batch, scales=self.scales, words=self.words,
            roles=self.config.data.window.cameras, targets=True,
            state_seen_B=state_seen(batch.k_B, self.config.seed, model.state_dropout),
        )  # fmt: skip
        draws = build_draws(
            batch.k_B,
            self.config.seed,
            draws=model.draws,
            density=model.density,
            state_noise=model.state_noise,
            state_shape=(sizes.history, sizes.state_dims),
            action_shape=(sizes.horizon, sizes.action_dims),
        )
        is_kept = self.config.data.cache_features
        seen = seen_by_features(inputs, model.obs_tokens) if is_kept else None
        return replace(inputs, draws=draws, seen=seen)


def build_inputs(
    batch: Batch,
    *,
    scales: Scales,
    words: Words,
    roles: Sequence[str],
    targets: bool,
    state_seen_B: NDArray[np.bool_] | None = None,
) -> Inputs:
    """Tensors of a batch on the CPU; with `targets` also its normalised action chunks.

    Rows of which `state_seen_B` is False show no proprioception; None: all do.
    """
    images, view_mask = views(batch.images, batch.image_mask, roles)
    tokens, obs = words.rows(batch.instruction)
    state_mask_BD = batch.state_mask_BD
    if state_seen_B is not None:
        state_mask_BD = state_mask_BD & state_seen_B[:, None]
    state_mask = np.broadcast_to(state_mask_BD[:, None], batch.state_BHD.shape)
    state = scales.normalize_state(batch.state_BHD, state_mask, batch.dataset_B)
    return Inputs(
        image_BVHWC=torch.from_numpy(images),
        view_mask_BV=torch.from_numpy(view_mask),
        token_BS=torch.from_numpy(tokens),
        obs_B=torch.from_numpy(obs),
        image_at=words.image_at,
        state_BHD=torch.from_numpy(state.astype(np.float32, copy=False)),
        state_mask_BHD=torch.from_numpy(state_mask.copy()),
        targets=build_targets(batch, scales) if targets else None,
        embodiment_B=torch.from_numpy(batch.embodiment_B),
    )


def build_targets(batch: Batch, scales: Scales) -> Targets:
    mask = batch.step_mask_BT[:, :, None] & batch.action_dim_mask_BA[:, None]
    action = scales.normalize_action(batch.action_BTA, mask, batch.dataset_B)
    return Targets(
        torch.from_numpy(action.astype(np.float32, copy=False)),
        torch.from_numpy(mask),
        torch.from_numpy(batch.weight_B),
    )


def until(batch: Batch, k: int) -> Batch:
    """The batch with nothing that counts in the rows at position k of the order or behind it."""
    beyond_B = batch.k_B >= k
    return replace(batch, step_mask_BT=batch.step_mask_BT & ~beyond_B[:, None]) if beyond_B.any() else batch
