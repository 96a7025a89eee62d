"""Flow matching over action chunks: path, sampler, time densities and the transformer that predicts velocity.

Convention: x_t = (1−t)·z + t·a with noise z and action a, so t = 0 is noise, t = 1 is data, and the velocity
is a − z (Lipman et al. 2023, rectified flow).
Shapes: B batch, T chunk steps, A action dims, P prefix tokens, K condition tokens, C condition width,
H history, D state dims, W head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robot_foundry.runtime.later import later
from robot_foundry.trainer.models.layers.attention import Mlp, SelfAttention, attention_bias
from robot_foundry.trainer.models.layers.embodiment import project, projection
from robot_foundry.trainer.models.layers.initial import Constant, Distribution, Normal, residual_outputs

DENSITIES = ("beta", "uniform", "logit_normal")
TIME_CHANNELS = 256


def interpolate(action: Tensor, noise: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
    """Point on the straight path and its velocity: ((1−t)·noise + t·action, action − noise).

    `t` is a number or a tensor over the leading axes of `action` ([B], [B, T]) or broadcastable to it.
    """
    if isinstance(t, Tensor):
        t = t.reshape(t.shape + (1,) * (action.ndim - t.ndim))
    return (1 - t) * noise + t * action, action - noise


def sample(
    velocity: Callable[[Tensor, float], Tensor],
    noise_BTA: Tensor,
    mask: Tensor | None = None,
    steps: int = 10,
) -> Tensor:
    """Integrate x' = velocity(x, t) from noise at t = 0 to t = 1 by Euler steps at t = i / steps.

    Entries where `mask` (broadcastable to [B, T, A]) is False are 0 at every step, whatever the noise or the
    velocity holds there.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")

    def keep(value: Tensor) -> Tensor:
        return value if mask is None else torch.where(mask.bool(), value, 0)

    x_BTA = keep(noise_BTA)
    for i in range(steps):
        x_BTA = x_BTA + keep(velocity(x_BTA, i / steps)) / steps
    return x_BTA


def time_of(u: np.ndarray, density: str) -> np.ndarray:
    """Inverse cumulative distribution of the training-time density of t at u in [0, 1).

    `beta` is t = 0.999·(1 − b) with b ~ Beta(1.5, 1), whose inverse CDF is u^(2/3): more weight near noise
    (Black et al. 2024). `logit_normal` is the logistic of a standard normal (Esser et al. 2024).
    """
    if density == "beta":
        return 0.999 * (1 - u ** (2 / 3))
    if density == "logit_normal":
        return torch.sigmoid(torch.special.ndtri(torch.from_numpy(np.clip(u, 1e-6, 1 - 1e-6)))).numpy()
    return u


@dataclass(frozen=True)
class FlowConfig:
    """Shape of the flow transformer."""

    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp: str = "swiglu"  # swiglu | gelu | relu
    mlp_hidden: int = 2816
    per_embodiment: bool = later(False)  # each robot has its own projections of state and actions


class FlowBlock(nn.Module):
    """Block whose norms have no weights of their own: scale, shift and gate come from the time (adaLN)."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.width, config.heads, config.heads, bias=False)
        self.mlp = Mlp(config.width, config.mlp_hidden, config.mlp, bias=False)
        self.attention_norm = nn.RMSNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.mlp_norm = nn.RMSNorm(config.width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Parameter(torch.empty(6 * config.width))

    def initial(self) -> dict[str, Distribution]:
        return {"modulation": Constant(0.0)}

    def forward(self, x_BSW: Tensor, time_BSM: Tensor, bias: Tensor | None) -> Tensor:
        scale_a, shift_a, gate_a, scale_m, shift_m, gate_m = (time_BSM + self.modulation).chunk(6, dim=-1)
        y = self.attention_norm(x_BSW) * (1 + scale_a) + shift_a
        x_BSW = x_BSW + gate_a * self.attention(y, bias, None)
        y = self.mlp_norm(x_BSW) * (1 + scale_m) + shift_m
        return x_BSW + gate_m * self.mlp(y)


class FlowHead(nn.Module):
    """Full-attention transformer over [condition | proprioception | noised actions]; output starts at zero.

    Time enters by adaLN-single (Chen et al. 2023): one projection for all blocks, a learned offset for each.
    """

    def __init__(
        self,
        config: FlowConfig,
        *,
        condition: int,
        state_dims: int,
        history: int,
        action_dims: int,
        horizon: int,
        embodiments: int = 1,
    ) -> None:
        super().__init__()
        width = config.width
        robots = embodiments if config.per_embodiment else None
        self.condition_in = nn.Linear(condition, width, bias=False)
        self.state_in = projection(robots, 2 * state_dims, width)
        self.action_in = projection(robots, 2 * action_dims, width)
        self.state_position = nn.Parameter(torch.empty(history, width))
        self.action_position = nn.Parameter(torch.empty(horizon, width))
        self.time_mlp = nn.Sequential(
            nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.time_modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(FlowBlock(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.action_out = projection(robots, width, action_dims, bias=False)

    def initial(self) -> dict[str, Distribution]:
        return {
            **residual_outputs(self, len(self.blocks)),
            **dict.fromkeys(("state_position", "action_position"), Normal(0.5)),
            **dict.fromkeys(("time_modulation.weight", "action_out.weight"), Constant(0.0)),
        }

    def prefix(
        self,
        condition_BKC: Tensor,
        state_BHD: Tensor,
        state_mask_BHD: Tensor,
        embodiment_B: Tensor | None = None,
    ) -> Tensor:
        """Condition and proprioception tokens [B, P, W]; masked state entries may hold anything."""
        masked_BHD = torch.where(state_mask_BHD, state_BHD, 0)
        seen_BHD = torch.cat((masked_BHD, state_mask_BHD.float()), dim=-1)
        state_BHW = project(self.state_in, seen_BHD, embodiment_B) + self.state_position
        return torch.cat((self.condition_in(condition_BKC).float(), state_BHW), dim=1)

    def forward(
        self,
        x_BTA: Tensor,
        t: Tensor,
        prefix_BPW: Tensor,
        mask_BTA: Tensor,
        embodiment_B: Tensor | None = None,
    ) -> Tensor:
        """Velocity [B, T, A] at x_t.

        Args:
            x_BTA: noised actions; masked entries may hold anything.
            t: times [B, 1] or per step [B, T]; the prefix takes the time of the last step.
            prefix_BPW: from `prefix`.
            mask_BTA: which entries are real; steps with none are attended by none.
            embodiment_B: which robot each row is of, where each has projections of its own.
        """
        masked_BTA = torch.where(mask_BTA, x_BTA, 0)
        noised_BTA = torch.cat((masked_BTA, mask_BTA.float()), dim=-1)
        action_BTW = project(self.action_in, noised_BTA, embodiment_B) + self.action_position
        x_BSW = torch.cat((prefix_BPW, action_BTW), dim=1)
        time_BSM = self.time_modulation(self.time_mlp(time_features(t)))
        if t.shape[1] > 1:
            last = time_BSM[:, -1:].expand(-1, prefix_BPW.shape[1], -1)
            time_BSM = torch.cat((last, time_BSM), dim=1)
        bias = step_bias(mask_BTA.any(-1), prefix_BPW.shape[1])
        for block in self.blocks:
            x_BSW = block(x_BSW, time_BSM, bias)
        return project(self.action_out, self.norm(x_BSW[:, -x_BTA.shape[1] :]), embodiment_B)


def time_features(t: Tensor) -> Tensor:
    """Sines and cosines of t in [0, 1] with periods from 4e-3 to 4, [..., TIME_CHANNELS]."""
    half = TIME_CHANNELS // 2
    period = torch.logspace(math.log10(4e-3), math.log10(4.0), half, device=t.device)
    angle = 2 * math.pi * t[..., None].float() / period
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def step_bias(step_mask_BT: Tensor, prefix: int) -> Tensor:
    """Attention bias [B, 1, S, S]: all attend the prefix and the real steps; an unreal step also itself."""
    present_BS = torch.nn.functional.pad(step_mask_BT, (prefix, 0), value=True)
    itself = torch.eye(present_BS.shape[1], dtype=torch.bool, device=present_BS.device)
    return attention_bias(present_BS[:, None, None, :] | itself)
