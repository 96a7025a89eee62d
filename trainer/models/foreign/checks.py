"""Whether a backbone of `transformers` can be a policy's."""

from __future__ import annotations

from collections.abc import Iterator

from robot_foundry.trainer.models.foreign.config import ForeignConfig, ForeignLLMConfig
from robot_foundry.trainer.models.foreign.families import family_of
from robot_foundry.trainer.models.foreign.package import made_config
from robot_foundry.trainer.recipes.ranges import multiple

LAYERS = ("full_attention", "sliding_attention")


def depth_of(config: ForeignConfig) -> int:
    """Layers of its decoder. FoundryError where its values make no model."""
    return int(made_config(config.config).get_text_config().num_hidden_layers)


def vocabulary_of(config: ForeignConfig) -> int:
    """How many ids it knows."""
    return int(made_config(config.config).get_text_config().vocab_size)


def foreign_problems(config: ForeignConfig, image: tuple[int, int] | None, key: str) -> Iterator[str]:
    """One line for every value that does not fit, for (height, width) pixels, which `key` says."""
    made = made_config(config.config)
    kinds = set(getattr(made.get_text_config(), "layer_types", None) or ()) - set(LAYERS)
    if kinds:
        yield f"model.backbone.config: layers of {', '.join(sorted(kinds))} are none of {', '.join(LAYERS)}"
    if image is None:
        return
    if isinstance(config, ForeignLLMConfig):
        for side, pixels in zip(("height", "width"), image, strict=True):
            cell = config.vision.patch * config.shuffle
            yield from multiple(f"{key} {side}", pixels, cell, "model.backbone.vision.patch × shuffle")
    else:
        yield from family_of(config.model_type).problems(made, image, key)
