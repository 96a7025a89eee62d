"""Vision-language-action model: backbone read at `<obs>` → flow transformer → action velocity.

Shapes: B batch, N noise draws a sample, V views, T chunk steps, A action dims, H history, D state dims,
K condition tokens, C condition width, L taps, D their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robot_foundry.runtime.later import later
from robot_foundry.trainer.features.kept import KeptFeatures
from robot_foundry.trainer.features.threads import each_on_one_thread
from robot_foundry.trainer.models.backbone import Backbone, BackboneConfig, PolicyBackbone
from robot_foundry.trainer.models.flow import FlowConfig, FlowHead, interpolate, sample
from robot_foundry.trainer.models.flow_guidance import Guide, guided
from robot_foundry.trainer.models.foreign import backbone as foreign
from robot_foundry.trainer.models.foreign.config import ForeignLLMConfig, ForeignVLMConfig
from robot_foundry.trainer.models.inputs import moved, pinned
from robot_foundry.trainer.models.layers.by_dataset import Losses, by_dataset
from robot_foundry.trainer.models.layers.initial import Distribution, Normal
from robot_foundry.trainer.models.layers.lora import LoRAConfig, adapt
from robot_foundry.trainer.models.units import as_constants

_BEHIND_FEATURES = ("tap_norms", "tap_projections", "head")
FLOW, L1 = OBJECTIVES = ("flow", "l1")


@dataclass(frozen=True)
class VLAConfig:
    """A vision-language backbone, the layers read from it, and a flow transformer."""

    backbone: BackboneConfig | ForeignVLMConfig | ForeignLLMConfig = field(default_factory=BackboneConfig)
    taps: int = 4  # hidden states of that many last layers, read at `<obs>`
    tap_width: int = 2048  # channels kept of each; a projection joins where the decoder's width differs
    head: FlowConfig = field(default_factory=FlowConfig)
    text_length: int = 64  # tokens kept of an instruction, by default bytes
    obs_tokens: int = later(1)  # `<obs>` tokens behind an instruction, each of which conditions the head
    draws: int = 8  # noise draws a sample and backbone pass
    density: str = "beta"  # of the training times: beta | uniform | logit_normal
    state_noise: float = 0.05  # std added to the normalised state while training
    state_dropout: float = later(0.0)  # share of the samples that hide the state; 1: it is never shown
    objective: str = later(FLOW)  # flow: velocities of the flow | l1: the chunk itself, a baseline
    backbone_grad_scale: float = later(1.0)  # of the gradient that the head sends into the backbone
    learned_obs: bool = later(False)  # `<obs>` tokens are vectors of the policy's, not of its tokenizer
    lora: LoRAConfig = later(LoRAConfig())  # adapters of the backbone
    insulate: bool = later(False)  # actions send none: the backbone learns from what is beside them alone


@dataclass(frozen=True)
class Geometry:
    """Sizes that the data decides."""

    state_dims: int
    action_dims: int
    history: int
    horizon: int
    image: tuple[int, int]  # height, width in pixels
    embodiments: int = 1


@dataclass(frozen=True)
class Targets:
    """Normalised action chunks and which of their entries count."""

    value_BTA: Tensor
    mask_BTA: Tensor
    weight_B: Tensor


@dataclass(frozen=True)
class Draws:
    """The randomness of one training pass."""

    noise_BNTA: Tensor
    time_BN: Tensor
    state_noise_BHD: Tensor


@dataclass(frozen=True)
class Inputs:
    """All that a vision-language-action model reads; masked entries may hold anything."""

    image_BVHWC: Tensor  # uint8
    view_mask_BV: Tensor
    token_BS: Tensor
    obs_B: Tensor  # where the first `<obs>` stands in token_BS
    state_BHD: Tensor  # normalised
    state_mask_BHD: Tensor
    targets: Targets | None = None
    draws: Draws | None = None
    image_at: int = 0  # how many of the tokens stand in front of the pictures
    embodiment_B: Tensor | None = None  # which robot, where the head has projections for each
    dataset_BD: Tensor | None = None  # which of D datasets, where losses are told by dataset
    seen: tuple[bytes, ...] | None = None  # of each row a digest of all that its features depend on

    def alone(self, row: int, num_obs: int) -> Inputs:
        """What the backbone reads of one row, without the padding that others brought: [1, …]."""
        one, end = slice(row, row + 1), int(self.obs_B[row]) + num_obs
        image, view_mask = self.image_BVHWC[one], self.view_mask_BV[one]
        tokens, obs = self.token_BS[one, :end], self.obs_B[one]
        alone = replace(self, image_BVHWC=image, view_mask_BV=view_mask, token_BS=tokens, obs_B=obs)
        return replace(alone, state_BHD=self.state_BHD[one], targets=None, draws=None, seen=None)

    def to(self, device: torch.device) -> Inputs:
        return moved(self, device)

    def pin_memory(self) -> Inputs:
        """In page-locked memory, from which a GPU takes them while the host goes on."""
        return pinned(self)


class VLA(nn.Module):
    """See the module's own words; `forward` is the training loss, `sample` the inference."""

    def __init__(self, config: VLAConfig, geometry: Geometry) -> None:
        super().__init__()
        self.config = config
        backbone = (
            Backbone(config.backbone, geometry.image)
            if isinstance(config.backbone, BackboneConfig)
            else foreign.made(config.backbone, geometry.image)
        )
        if config.lora.rank:
            adapt(backbone, config.lora)
        self.backbone: PolicyBackbone = backbone
        width = self.backbone.width
        self.obs_embedding = nn.Embedding(config.obs_tokens, width) if config.learned_obs else None
        self.tap_norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(config.taps))
        self.tap_projections = nn.ModuleList(
            nn.Identity() if width == config.tap_width else nn.Linear(width, config.tap_width, bias=False)
            for _ in range(config.taps)
        )
        self.feature_shape = (config.taps, config.obs_tokens, width)  # [L, K, D] of a row
        self.kept: KeptFeatures | None = None  # where the features of a frozen backbone are kept
        self.head = FlowHead(
            config.head,
            condition=config.taps * config.tap_width,
            state_dims=geometry.state_dims,
            history=geometry.history,
            action_dims=geometry.action_dims,
            horizon=geometry.horizon,
            embodiments=geometry.embodiments,
        )

    def initial(self) -> dict[str, Distribution]:
        """Vectors for `<obs>` are the same in runs of any seed, which may share features where they stay."""
        width = self.feature_shape[-1]
        return {"obs_embedding.weight": Normal(width**-0.5, seed=0)}

    def features(self, inputs: Inputs) -> list[Tensor]:
        """What the backbone makes of pictures and words: hidden states [B, K, D] at `<obs>` of each tap.

        Where they are kept, each row's are made on its own and once, so that they depend on no other row.
        """
        if self.kept is None or inputs.seen is None:
            return self._observed(inputs)
        device = inputs.state_BHD.device

        def made(row: int) -> NDArray[np.float32]:
            taps = self._observed(inputs.alone(row, self.config.obs_tokens))
            return torch.cat(taps).float().cpu().numpy()

        taps_BLKD = self.kept.of(inputs.seen, lambda rows: each_on_one_thread(made, rows, device))
        return list(torch.from_numpy(taps_BLKD).to(device).unbind(1))

    def _observed(self, inputs: Inputs) -> list[Tensor]:
        inside = [value for name, value in self.named_parameters() if name.startswith("backbone.")]
        with as_constants(inside) if self.config.insulate else nullcontext():
            return self.backbone.observe(
                inputs.image_BVHWC,
                inputs.view_mask_BV,
                inputs.token_BS,
                inputs.image_at,
                inputs.obs_B,
                self.config.obs_tokens,
                self.config.taps,
                None if self.obs_embedding is None else self.obs_embedding.weight,
            )

    def before_features(self) -> dict[str, Tensor]:
        """All parameters and constants that features depend on, by name: what is not behind them."""
        every: dict[str, Tensor] = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: of for name, of in every.items() if name.split(".")[0] not in _BEHIND_FEATURES}

    def conditioned(self, taps: Sequence[Tensor]) -> Tensor:
        """Condition tokens [B, K, C] of these features: each normalised and projected, side by side."""
        parts = [
            projection(norm(tap))
            for tap, norm, projection in zip(taps, self.tap_norms, self.tap_projections, strict=True)
        ]
        condition_BKC, scale = torch.cat(parts, dim=-1), self.config.backbone_grad_scale
        # The same values; of their gradient a share goes on.
        return condition_BKC if scale == 1 else condition_BKC * scale + condition_BKC.detach() * (1 - scale)

    def condition(self, inputs: Inputs) -> Tensor:
        """Condition tokens [B, K, C] of what is seen and said."""
        return self.conditioned(self.features(inputs))

    def forward(self, inputs: Inputs) -> Losses:
        """Sum over real entries of the squared velocity error, averaged over the draws, and their number.

        With the objective `l1` it is the absolute error of the chunk.
        """
        action, draws = inputs.targets, inputs.draws
        if action is None or draws is None:
            raise ValueError("training inputs need targets and draws")
        state_BHD, robot_B = inputs.state_BHD + draws.state_noise_BHD, inputs.embodiment_B
        prefix_BPW = self.head.prefix(self.condition(inputs), state_BHD, inputs.state_mask_BHD, robot_B)
        if self.config.objective == L1:
            target = torch.where(action.mask_BTA, action.value_BTA, 0)
            error = (self._regressed(prefix_BPW, action.mask_BTA, robot_B) - target).abs()
            weighted = torch.where(action.mask_BTA, error, 0) * action.weight_B[:, None, None]
            return _action_loss(weighted.sum(), weighted, 1, inputs)
        num_draws = draws.noise_BNTA.shape[1]

        def repeat(x: Tensor) -> Tensor:
            return x.repeat_interleave(num_draws, dim=0)

        mask = repeat(action.mask_BTA)
        target = torch.where(mask, repeat(action.value_BTA), 0)
        noise = torch.where(mask, draws.noise_BNTA.flatten(0, 1), 0)
        t = draws.time_BN.reshape(-1, 1)
        x_t, velocity = interpolate(target, noise, t)
        robots = None if robot_B is None else repeat(robot_B)
        error = self.head(x_t, t, repeat(prefix_BPW), mask, robots).float() - velocity
        square = torch.where(mask, error.square(), 0) * repeat(action.weight_B)[:, None, None]
        return _action_loss(square.sum() / num_draws, square, num_draws, inputs)

    def sample(
        self,
        inputs: Inputs,
        noise_BTA: Tensor,
        mask_BTA: Tensor,
        steps: int = 10,
        guide: Guide | None = None,
    ) -> Tensor:
        """Normalised action chunks [B, T, A] integrated from the given noise; 0 where masked.

        The backbone sees its inputs once, however many steps there are. `guide` draws the chunks towards
        others, which a regression cannot do.
        """
        robot_B = inputs.embodiment_B
        prefix_BPW = self.head.prefix(
            self.condition(inputs), inputs.state_BHD, inputs.state_mask_BHD, robot_B
        )
        if self.config.objective == L1:
            if guide is not None:
                raise ValueError("a regression has no flow to guide")
            return torch.where(mask_BTA, self._regressed(prefix_BPW, mask_BTA, robot_B), 0)

        def velocity(x_BTA: Tensor, t: float) -> Tensor:
            time = torch.full((len(x_BTA), 1), t, device=x_BTA.device)
            return self.head(x_BTA, time, prefix_BPW, mask_BTA, robot_B).float()

        return sample(velocity if guide is None else guided(velocity, guide), noise_BTA, mask_BTA, steps)

    def _regressed(self, prefix_BPW: Tensor, mask_BTA: Tensor, robot_B: Tensor | None) -> Tensor:
        """The chunk [B, T, A] that the head says without noise and at the time of none."""
        nothing_BTA = torch.zeros(mask_BTA.shape, device=mask_BTA.device)
        return self.head(nothing_BTA, nothing_BTA[:, :1, 0], prefix_BPW, mask_BTA, robot_B).float()


def _action_loss(total: Tensor, error: Tensor, num_draws: int, inputs: Inputs) -> Losses:
    """The loss of actions, `total`; `error` are its parts, `num_draws` chunks [T, A] for each row."""
    assert inputs.targets is not None
    mask_BTA = inputs.targets.mask_BTA
    losses = {"action": (total, mask_BTA.sum())}
    if inputs.dataset_BD is None:
        return losses
    error_BNTA = error.detach().unflatten(0, (-1, num_draws)) / num_draws
    return losses | by_dataset("action", inputs.dataset_BD, error_BNTA, mask_BTA)
