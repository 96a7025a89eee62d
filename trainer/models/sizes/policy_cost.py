"""What a policy costs, in closed form: rows that its decoder reads out at `<obs>`, and chunks of its head.

Arithmetic is counted as for a token (see `models.sizes.cost`). In the decoder's last layer only `<obs>` asks;
in the head every token sees all others.

Shapes: D width of the decoder, Q channels of all queries, K of all keys, W width of the head, M hidden width.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.flow import TIME_CHANNELS
from robot_foundry.trainer.models.vla import Geometry, VLAConfig


@dataclass(frozen=True)
class ReadOutCost:
    """FLOPs forward of a row of the decoder: once, for each of its tokens, and for each pair that attends."""

    row: float
    token: float
    pair: float

    def of(self, tokens: float, pairs: float, rows: float) -> float:
        """Of rows with so many tokens in all, and pairs of one and itself or another that stands before."""
        return rows * self.row + tokens * self.token + pairs * self.pair


def read_out_cost(decoder: DecoderConfig, num_obs: int) -> ReadOutCost:
    """What a decoder without its output takes, of which `num_obs` tokens a row are read."""
    queries, keys = (decoder.width_of_head * heads for heads in (decoder.heads, decoder.kv_heads))
    asked = 2 * decoder.width * (2 * queries + (3 if decoder.mlp == "swiglu" else 2) * decoder.mlp_hidden)
    seen = 2 * decoder.width * 2 * keys
    return ReadOutCost(
        row=num_obs * asked,
        token=decoder.depth * seen + (decoder.depth - 1) * asked + num_obs * 4 * queries,
        pair=4 * queries * (decoder.depth - 1),
    )


@dataclass(frozen=True)
class HeadCost:
    """FLOPs forward of a row's condition and proprioception, and of one chunk that is drawn for it."""

    prefix: float
    chunk: float


def head_cost(model: VLAConfig, sizes: Geometry, width: int) -> HeadCost:
    """Of the head of a policy, whose backbone has states of that width."""
    head = model.head
    projected = 0 if width == model.tap_width else width * model.tap_width
    condition = model.obs_tokens * model.taps * (projected + model.tap_width * head.width)
    state = sizes.history * 2 * sizes.state_dims * head.width
    tokens = model.obs_tokens + sizes.history + sizes.horizon
    mlp = (3 if head.mlp == "swiglu" else 2) * head.mlp_hidden
    block = 2 * tokens * head.width * (4 * head.width + mlp) + 4 * head.width * tokens**2
    time = 2 * head.width * (TIME_CHANNELS + head.width + 6 * head.width)
    ends = 2 * sizes.horizon * head.width * (2 * sizes.action_dims + sizes.action_dims)
    return HeadCost(prefix=2.0 * (condition + state), chunk=head.depth * block + time + ends)
