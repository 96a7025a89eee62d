"""Vision-language model: answers about pictures, whose tokens stand among those of the text.

    a pair       [picture's tokens | question | answer | end]
    embedded as  [projected patches | rows of the embedding ]
    learnt                          [ next tokens of answer ]

Attention is causal inside a pair, picture tokens too, so that packed pairs leave no trace in each other.
With the objective `contrastive` texts see no pictures, and each is told which picture is its own.
Shapes: B rows, S tokens of a row, N pictures, P image tokens a picture, H × W pixels, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_foundry.runtime.later import later
from robot_foundry.trainer.models import llm
from robot_foundry.trainer.models.backbone import Backbone, BackboneConfig
from robot_foundry.trainer.models.inputs import moved, pinned
from robot_foundry.trainer.models.layers import contrastive
from robot_foundry.trainer.models.layers.attention import KeyValues
from robot_foundry.trainer.models.layers.by_dataset import Losses, by_dataset
from robot_foundry.trainer.models.layers.contrastive import SigmoidLoss, pairs_with_both, without_pictures
from robot_foundry.trainer.models.layers.cross_entropy import cross_entropy
from robot_foundry.trainer.models.layers.initial import Distribution, Normal
from robot_foundry.trainer.models.llm import TextInputs, packed_bias

ANSWER = "answer"  # the name of its loss
OBJECTIVES = (ANSWER, contrastive.LOSS)


@dataclass(frozen=True)
class VisionLanguageConfig:
    """A vision tower joined to a decoder, and logits for each token of its vocabulary."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    tied: bool = True  # the output matrix is the embedding
    objective: str = later(ANSWER)  # answer: next tokens | contrastive: which picture is a text's


@dataclass(frozen=True)
class PictureRows:
    """Packed rows of tokens, some of which are those of pictures; what is masked may hold anything.

    segment_BS is -1 where nothing is; learn_BS says which targets count. Picture n begins at token
    `image_at_N` of the rows one behind the other (row · S + column), and has P tokens from there. It is
    absent where `image_mask_N` is False: one picture at least is there, so that the tower always takes part.
    `learnt_T` says where targets count in the rows one behind the other; without it the host waits for the
    device to know how many.
    `dataset_BD` says which of D datasets each row is of, where losses are told by dataset.
    """

    token_BS: Tensor
    target_BS: Tensor
    learn_BS: Tensor
    segment_BS: Tensor
    position_BS: Tensor
    image_NHWC: Tensor  # uint8
    image_mask_N: Tensor
    image_at_N: Tensor
    learnt_T: Tensor | None = None
    dataset_BD: Tensor | None = None

    def to(self, device: torch.device) -> PictureRows:
        return moved(self, device)

    def pin_memory(self) -> PictureRows:
        """In page-locked memory, from which a GPU takes them while the host goes on."""
        return pinned(self)


@dataclass(frozen=True)
class PicturesAndText:
    """Rows with pictures, and rows of text alone, which the decoder learns beside them."""

    pictures: PictureRows
    text: TextInputs

    def to(self, device: torch.device) -> PicturesAndText:
        return moved(self, device)

    def pin_memory(self) -> PicturesAndText:
        """In page-locked memory, from which a GPU takes them while the host goes on."""
        return pinned(self)


class VisionLanguage(nn.Module):
    """Backbone and output; `forward` is the training loss, `logits` what it predicts.

    Args:
        image: height and width in pixels of every picture.
    """

    def __init__(self, config: VisionLanguageConfig, image: tuple[int, int]) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, image)
        decoder = config.backbone.decoder
        self.output = None if config.tied else nn.Linear(decoder.width, decoder.vocabulary, bias=False)
        self.contrastive = SigmoidLoss() if config.objective == contrastive.LOSS else None

    def initial(self) -> dict[str, Distribution]:
        """Logits begin with a standard deviation of about 1/2, so that the loss begins near ln vocabulary."""
        name = "backbone.decoder.embedding.weight" if self.config.tied else "output.weight"
        return {name: Normal(0.5 * self.config.backbone.decoder.width**-0.5)}

    @property
    def output_weight(self) -> Tensor:
        """The matrix [V, D] from hidden states to logits."""
        return self.backbone.decoder.embedding.weight if self.output is None else self.output.weight

    def forward(self, inputs: PictureRows | PicturesAndText) -> Losses:
        """By name each loss in nats, summed, and of how many targets, or pairs with text and a picture.

        The contrastive one is of couples of rows, so that it has no part of any one dataset.
        """
        if isinstance(inputs, PicturesAndText):
            text = llm.text_loss(self.backbone.decoder, self.output_weight, inputs.text)
            return {**self(inputs.pictures), **text}
        if self.contrastive is None:
            return answer_loss(self.backbone, self.output_weight, inputs)
        return {contrastive.LOSS: self._contrastive_loss(inputs, self.contrastive)}

    def hidden(self, inputs: PictureRows, past: Sequence[KeyValues] | None = None) -> Tensor:
        """The last hidden states [B, S, D], normalised; see `picture_states`."""
        return picture_states(self.backbone, inputs, past)

    def logits(self, inputs: PictureRows) -> Tensor:
        """Logits [B, S, V] at all positions."""
        return F.linear(self.hidden(inputs), self.output_weight)

    def _contrastive_loss(self, inputs: PictureRows, loss: SigmoidLoss) -> tuple[Tensor, Tensor]:
        """Of the mean token of each pair's pictures and the decoder's state at the last token of its text."""
        image_NPD = _image_tokens(self.backbone, inputs)
        segment_BS = without_pictures(inputs.segment_BS, _image_places(inputs, image_NPD.shape[1]))
        last_G, mean_GN = pairs_with_both(
            inputs.segment_BS, segment_BS, inputs.image_at_N, inputs.image_mask_N
        )
        position_BS = torch.where(segment_BS >= 0, inputs.position_BS, 0)
        state_BSD = self.backbone.decoder.states(_token_ids(inputs), position_BS, packed_bias(segment_BS))
        text_GD = state_BSD.flatten(0, 1).index_select(0, last_G)
        image_GD = mean_GN @ image_NPD.float().mean(dim=1)
        return loss(image_GD, text_GD), torch.tensor(len(last_G), device=last_G.device)


def answer_loss(backbone: Backbone, output_VD: Tensor, inputs: PictureRows) -> Losses:
    """Sum of the cross entropies in nats of the targets that are learnt, and their number."""
    counts_BS = inputs.learn_BS & (inputs.segment_BS >= 0)
    # Few positions of a row are learnt: the logits of the others are never made.
    at_T = counts_BS.flatten().nonzero()[:, 0] if inputs.learnt_T is None else inputs.learnt_T
    hidden_TD = picture_states(backbone, inputs).flatten(0, 1).index_select(0, at_T)
    target_T = inputs.target_BS.flatten().index_select(0, at_T)
    total, loss_T = cross_entropy(hidden_TD, output_VD, target_T)
    answer = {ANSWER: (total, counts_BS.sum())}
    if inputs.dataset_BD is None:
        return answer
    loss_BS = loss_T.new_zeros(counts_BS.numel()).index_copy(0, at_T, loss_T).view(counts_BS.shape)
    return {**answer, **by_dataset(ANSWER, inputs.dataset_BD, loss_BS, counts_BS)}


def picture_states(
    backbone: Backbone, inputs: PictureRows, past: Sequence[KeyValues] | None = None
) -> Tensor:
    """The last hidden states [B, S, D] of rows with pictures, normalised.

    An empty `past` takes up the keys and values of all positions, padding among them.
    """
    real_BS = inputs.segment_BS >= 0
    position_BS = torch.where(real_BS, inputs.position_BS, 0)
    bias = packed_bias(inputs.segment_BS)
    return backbone.decoder.states_of(embedded(backbone, inputs), position_BS, bias, past)


def embedded(backbone: Backbone, inputs: PictureRows) -> Tensor:
    """What the decoder reads, [B, S, D]: rows of the embedding, in whose place pictures' tokens stand."""
    text_BSD = backbone.decoder.embedding(_token_ids(inputs))
    image_NPD = _image_tokens(backbone, inputs).to(text_BSD.dtype)
    # What is of absent pictures goes behind the last token, where nothing reads it: so it leaves no
    # trace, and the tower has gradients, all 0, where there is no picture.
    rows_RD = F.pad(text_BSD.flatten(0, 1), (0, 0, 0, 1))
    at_NP = _image_places(inputs, image_NPD.shape[1])
    rows_RD = rows_RD.index_copy(0, at_NP.flatten(), image_NPD.flatten(0, 1))
    return rows_RD[:-1].view_as(text_BSD)


def _image_tokens(backbone: Backbone, inputs: PictureRows) -> Tensor:
    """Of each picture, [N, P, D]; those of absent ones are finite."""
    image_NHWC = torch.where(inputs.image_mask_N[:, None, None, None], inputs.image_NHWC, 0)
    return backbone.image_tokens(image_NHWC[:, None])


def _token_ids(inputs: PictureRows) -> Tensor:
    """Ids [B, S], 0 where nothing is."""
    return torch.where(inputs.segment_BS >= 0, inputs.token_BS, 0)


def _image_places(inputs: PictureRows, image_tokens: int) -> Tensor:
    """Where in the rows, one behind the other, pictures' tokens stand, [N, P]; absent ones behind all."""
    mask_N = inputs.image_mask_N
    at_NP = inputs.image_at_N[:, None] + torch.arange(image_tokens, device=mask_N.device)
    return torch.where(mask_N[:, None], at_NP, inputs.token_BS.numel())
