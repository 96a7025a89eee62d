"""What a backbone of `transformers` is: the values of its config.json, and what a policy adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from robot_foundry.trainer.models.vit import ViTConfig

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class ForeignVLMConfig:
    """A vision-language model of `transformers`."""

    config: Mapping[str, Any] = field(default_factory=dict)  # what its config.json says
    picture_begin: tuple[int, ...] = ()  # ids in front of the tokens of each picture
    picture_end: tuple[int, ...] = ()  # ids behind them
    pixel_mean: Channels = (0.5, 0.5, 0.5)  # of channels, pixels scaled to [0, 1]
    pixel_std: Channels = (0.5, 0.5, 0.5)

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type"))


@dataclass(frozen=True)
class ForeignLLMConfig:
    """A causal language model of `transformers` that reads the image tokens of our vision tower."""

    config: Mapping[str, Any] = field(default_factory=dict)  # what its config.json says
    vision: ViTConfig = field(default_factory=ViTConfig)
    shuffle: int = 2  # space-to-depth factor: shuffle² patches become one image token

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type"))


ForeignConfig = ForeignVLMConfig | ForeignLLMConfig
