"""Contrastive learning of pictures and texts by pairwise sigmoids (SigLIP, Zhai et al. 2023, equation 1).

    image_i, text_j  unit vectors;  z_ij = 1 where i = j, else -1
    loss = - Σ_i Σ_j log σ(z_ij (exp(t') image_i · text_j + b)),  t' = ln 10 and b = -10 at first

Each pair is told from all others of its microbatch on its rank, and from none beyond it: a loss over more
pairs takes larger microbatches.
Shapes: B rows, S tokens of a row, N pictures, P tokens a picture, G pairs with both, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_foundry.trainer.models.layers.initial import Constant, Distribution

LOSS = "contrastive"  # its name


class SigmoidLoss(nn.Module):
    """The loss above, and its temperature and bias, which are learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(1))

    def initial(self) -> dict[str, Distribution]:
        return {"log_temperature": Constant(math.log(10)), "bias": Constant(-10.0)}

    def forward(self, image_GD: Tensor, text_GD: Tensor) -> Tensor:
        """Its sum over all couples of a picture and a text, in float32; vectors need not have unit length."""
        with torch.autocast(image_GD.device.type, enabled=False):
            image_GD, text_GD = (F.normalize(vectors.float(), dim=-1) for vectors in (image_GD, text_GD))
            logit_GG = self.log_temperature.exp() * (image_GD @ text_GD.T) + self.bias
            sign_GG = 2 * torch.eye(len(logit_GG), device=logit_GG.device) - 1
            return -F.logsigmoid(sign_GG * logit_GG).sum()


def without_pictures(segment_BS: Tensor, at_NP: Tensor) -> Tensor:
    """Segments [B, S] that are -1 where a picture's tokens stand, too, so that no text sees them.

    `at_NP` says where in the rows, one behind the other; beyond them for absent pictures.
    """
    flat = F.pad(segment_BS.flatten(), (0, 1))
    return flat.index_fill(0, at_NP.flatten(), -1)[:-1].view_as(segment_BS)


def pairs_with_both(
    segment_BS: Tensor, text_segment_BS: Tensor, image_at_N: Tensor, image_mask_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Of each pair that has text and a picture: where its last text token stands [G], and weights [G, N].

    The weights make the mean of its pictures. Places are those in the rows one behind the other.
    """
    length, size = segment_BS.shape[1], segment_BS.numel()
    row_BS = torch.arange(len(segment_BS), device=segment_BS.device)[:, None] * length
    # A number for each pair, and one behind all of them for what is of none.
    pair_BS = torch.where(segment_BS >= 0, row_BS + segment_BS, size).flatten()
    of_text = torch.where(text_segment_BS.flatten() >= 0, pair_BS, size)
    of_image_N = torch.where(image_mask_N, pair_BS[torch.where(image_mask_N, image_at_N, 0)], size)
    place = torch.arange(size, device=segment_BS.device)
    last = torch.full((size + 1,), -1, device=place.device).scatter_reduce(0, of_text, place, "amax")
    has_image = torch.zeros(size + 1, dtype=torch.bool, device=place.device).index_fill(0, of_image_N, True)
    pair_G = ((last >= 0) & has_image)[:size].nonzero()[:, 0]
    is_of_GN = (of_image_N == pair_G[:, None]).float()
    return last[pair_G], is_of_GN / is_of_GN.sum(dim=1, keepdim=True)
