"""What rows of robots stand for: the tokens that the backbone reads of them, and what they compute.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_foundry.trainer.meters import FLOPS
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.sizes.policy_cost import HeadCost, ReadOutCost, head_cost, read_out_cost
from robot_foundry.trainer.models.vla import L1, Geometry, VLAConfig
from robot_foundry.trainer.tasks.vlm.work import DECODER, PROJECTOR, VISION, picture_work
from robot_foundry.trainer.tasks.work import learns, passes


@dataclass(frozen=True)
class RowWork:
    """FLOPs of training: of a picture; of a row in the decoder, `read_out_passes` times; of its actions."""

    picture: float
    read_out: ReadOutCost
    read_out_passes: int
    actions: float


@dataclass(frozen=True)
class RobotAmounts:
    """Amounts of rows (see `streams.Preparation`), `flops` among them where all that they compute is known.

    A picture has `image_tokens` tokens, and absent ones have none; `num_obs` is how many `<obs>` a row has.
    """

    image_tokens: int
    num_obs: int
    work: RowWork | None

    def __call__(self, batch: Any, inputs: Sequence[Any]) -> Mapping[str, float]:
        pictures_B = np.concatenate([one.view_mask_BV.sum(1).numpy() for one in inputs])
        text_B = np.concatenate([one.obs_B.numpy() for one in inputs]) + self.num_obs
        tokens_B = pictures_B * self.image_tokens + text_B
        tokens, rows = float(tokens_B.sum()), len(tokens_B)
        if self.work is None:
            return {"tokens": tokens}
        work, pairs = self.work, float((tokens_B * (tokens_B + 1) / 2).sum())
        read_out = work.read_out.of(tokens, pairs, rows) * work.read_out_passes
        flops = float(pictures_B.sum()) * work.picture + read_out + rows * work.actions
        return {"tokens": tokens, FLOPS: flops}


def robot_amounts(
    model: VLAConfig, sizes: Geometry, learning: Sequence[str], kept: bool
) -> RobotAmounts | None:
    """Of a policy of which the parameters named `learning` learn.

    None where a backbone of others reads, or features are `kept`, so that it reads little. What adapters
    compute is in no closed form here.
    """
    if not isinstance(model.backbone, BackboneConfig) or kept:
        return None
    image_tokens = model.backbone.tokens_of(sizes.image)
    work = None if model.lora.rank else _work(model, model.backbone, sizes, learning)
    return RobotAmounts(image_tokens, model.obs_tokens, work)


def _work(model: VLAConfig, backbone: BackboneConfig, sizes: Geometry, learning: Sequence[str]) -> RowWork:
    """The loss of actions moves no weight of a backbone that is insulated from it."""
    moved = [name for name in learning if not (model.insulate and name.startswith("backbone."))]
    seen = learns(moved, VISION, PROJECTOR, "obs_embedding.")
    decoder = learns(moved, DECODER)
    head = head_cost(model, sizes, backbone.decoder.width)
    return RowWork(
        picture=picture_work(backbone, sizes.image, moved),
        read_out=read_out_cost(backbone.decoder, model.obs_tokens),
        read_out_passes=passes(decoder, seen),
        actions=_chunks(head, model) * passes(learns(moved, "head.", "tap_"), seen or decoder),
    )


def _chunks(head: HeadCost, model: VLAConfig) -> float:
    """Forward: a regression says its chunk once, a flow is asked at each of its draws."""
    return head.prefix + head.chunk * (1 if model.objective == L1 else model.draws)
