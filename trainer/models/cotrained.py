"""A policy that learns answers about pictures, and text, beside actions: its backbone keeps what it knew.

    robots  pictures, instruction, <obs> ─▶ backbone ─▶ head ─▶ action velocity
    pairs   pictures, question, answer   ─▶ backbone ─▶ logits of the next token
    text    tokens                       ─▶ decoder  ─▶ logits of the next token

The parameters are those of the policy by the same names. An output matrix that is not the embedding comes on
top, by the name that it has in a vision-language model.
Shapes: D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_foundry.trainer.models import llm
from robot_foundry.trainer.models.backbone import Backbone
from robot_foundry.trainer.models.inputs import moved, pinned
from robot_foundry.trainer.models.layers.by_dataset import Losses
from robot_foundry.trainer.models.llm import TextInputs
from robot_foundry.trainer.models.vision_language import PictureRows, answer_loss
from robot_foundry.trainer.models.vla import VLA, Geometry, Inputs, VLAConfig

OUTPUT = "output.weight"  # what such a model may have beside the parameters of its policy


@dataclass(frozen=True)
class JointInputs:
    """Rows of robots, and of what is learnt beside them; None is a stream that there is not."""

    robot: Inputs
    pairs: PictureRows | None = None
    text: TextInputs | None = None

    def to(self, device: torch.device) -> JointInputs:
        return moved(self, device)

    def pin_memory(self) -> JointInputs:
        """In page-locked memory, from which a GPU takes them while the host goes on."""
        return pinned(self)


class CoTrained(VLA):
    """A policy whose `forward` has a loss for each stream; all else is as it is without.

    Args:
        tied: whether the output matrix is the embedding.
    """

    def __init__(self, config: VLAConfig, geometry: Geometry, *, tied: bool = True) -> None:
        super().__init__(config, geometry)
        decoder = self._ours.config.decoder
        self.output = None if tied else nn.Linear(decoder.width, decoder.vocabulary, bias=False)

    @property
    def _ours(self) -> Backbone:
        assert isinstance(self.backbone, Backbone)  # which runs are held to: others have words of their own
        return self.backbone

    @property
    def output_weight(self) -> Tensor:
        """The matrix [V, D] from hidden states to logits."""
        return self._ours.decoder.embedding.weight if self.output is None else self.output.weight

    def forward(self, inputs: Inputs | JointInputs) -> Losses:
        """By name each loss, summed, and of how many numbers of chunks, or targets."""
        if isinstance(inputs, Inputs):
            return super().forward(inputs)
        losses = super().forward(inputs.robot)
        if inputs.pairs is not None:
            losses |= answer_loss(self._ours, self.output_weight, inputs.pairs)
        if inputs.text is not None:
            losses |= llm.text_loss(self._ours.decoder, self.output_weight, inputs.text)
        return losses
