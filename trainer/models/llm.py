"""Language model: a causal decoder with a logit for each token of its vocabulary.

Shapes: B rows, S tokens of a row, D width (in `dataset_BD`: datasets), V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_foundry.trainer.models.decoder import Decoder, DecoderConfig
from robot_foundry.trainer.models.inputs import moved, pinned
from robot_foundry.trainer.models.layers.attention import CausalBias, attention_bias
from robot_foundry.trainer.models.layers.by_dataset import Losses, by_dataset
from robot_foundry.trainer.models.layers.cross_entropy import NOTHING, cross_entropy
from robot_foundry.trainer.models.layers.initial import Distribution, Normal

LOSS = "text"  # the name of its one loss, by which batches of tokens count their targets


@dataclass(frozen=True)
class LLMConfig:
    """A decoder, and whether its embedding serves as its output too."""

    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    tied: bool = True


@dataclass(frozen=True)
class TextInputs:
    """Packed rows. Positions of one `segment_BS` attend to each other, backwards; where it is -1 is nothing.

    Where nothing is, the other tensors may hold any id or position. `dataset_BD` says which dataset each row
    is of, where losses are told by dataset.
    """

    token_BS: Tensor
    target_BS: Tensor
    segment_BS: Tensor
    position_BS: Tensor
    dataset_BD: Tensor | None = None

    def to(self, device: torch.device) -> TextInputs:
        return moved(self, device)

    def pin_memory(self) -> TextInputs:
        """In page-locked memory, from which a GPU takes them while the host goes on."""
        return pinned(self)


class LLM(nn.Module):
    """Decoder and output; `forward` is the training loss, `logits` what it predicts."""

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Decoder(config.decoder)
        width, vocabulary = config.decoder.width, config.decoder.vocabulary
        self.output = None if config.tied else nn.Linear(width, vocabulary, bias=False)

    def initial(self) -> dict[str, Distribution]:
        """Logits begin with a standard deviation of about 1/2, so that the loss begins near ln vocabulary."""
        name = "decoder.embedding.weight" if self.config.tied else "output.weight"
        return {name: Normal(0.5 * self.config.decoder.width**-0.5)}

    @property
    def output_weight(self) -> Tensor:
        """The matrix [V, D] from hidden states to logits."""
        return self.decoder.embedding.weight if self.output is None else self.output.weight

    def forward(self, inputs: TextInputs) -> Losses:
        """Sum of the cross entropies in nats of all targets, and their number."""
        return text_loss(self.decoder, self.output_weight, inputs)

    def hidden(self, inputs: TextInputs) -> Tensor:
        """The last hidden states [B, S, D], normalised."""
        return text_states(self.decoder, inputs)

    def logits(self, inputs: TextInputs) -> Tensor:
        """Logits [B, S, V] at all positions."""
        return F.linear(self.hidden(inputs), self.output_weight)


def text_loss(decoder: Decoder, output_VD: Tensor, inputs: TextInputs) -> Losses:
    """Sum of the cross entropies in nats of all targets, and their number."""
    real_BS = inputs.segment_BS >= 0
    target_BS = torch.where(real_BS, inputs.target_BS, NOTHING)
    hidden_BSD = text_states(decoder, inputs)
    total, loss_N = cross_entropy(hidden_BSD.flatten(0, 1), output_VD, target_BS.flatten())
    parts = by_dataset(LOSS, inputs.dataset_BD, loss_N.view(real_BS.shape), real_BS)
    return {LOSS: (total, real_BS.sum()), **parts}


def text_states(decoder: Decoder, inputs: TextInputs) -> Tensor:
    """The decoder's last hidden states [B, S, D] of packed rows, normalised."""
    real_BS = inputs.segment_BS >= 0
    token_BS, position_BS = (
        torch.where(real_BS, value, 0) for value in (inputs.token_BS, inputs.position_BS)
    )
    return decoder.states(token_BS, position_BS, packed_bias(inputs.segment_BS))


def packed_bias(segment_BS: Tensor) -> CausalBias:
    """Attention bias [B, 1, S, S]: all attend backwards in their segment; where nothing is, to itself alone.

        a a b b -
    a   x
    a   x x
    b       x
    b       x x
    -           x
    """
    length = segment_BS.shape[1]
    causal_SS = torch.ones(length, length, dtype=torch.bool, device=segment_BS.device).tril()
    itself_SS = torch.eye(length, dtype=torch.bool, device=segment_BS.device)
    together_BSS = (segment_BS[:, :, None] == segment_BS[:, None]) & (segment_BS >= 0)[:, None]
    return CausalBias(attention_bias((together_BSS & causal_SS | itself_SS)[:, None]))
