"""What a decoder of others reads: text, in front of which stand the pictures, each between tokens of its own.

    [opening | begin, P tokens, end of view 0 | … of view V-1 | text | <obs> | padding]

A view that is absent and padding are as if they were not there: attended by none, and positions are counted
without them. So a row says what the model would say of the row alone, without the absent picture.

Attention of a query q to a key k, where both are there; every token sees itself:

                      k opening, pictures, text        k <obs>
    q opening … text  q ≥ k; any, of a prefix model    -
    q <obs>           yes                              q ≥ k

Shapes: B batch, V views, P tokens a view, S text tokens, L sequence, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequence:
    """Embedded tokens and what is known of each.

    x_BLD       what the decoder reads
    present_BL  which are there
    asked_BL    which of them are of the question, and not of its answer
    picture_L   which stand for a picture's tokens
    row_L, column_L  where in its picture such a token is, 0 elsewhere
    advance_L   by how much the position goes on behind a token that is there, in a picture's own positions
    image_at, image_length  where all of the pictures begin, and how long it is
    """

    x_BLD: Tensor
    present_BL: Tensor
    asked_BL: Tensor
    picture_L: Tensor
    row_L: Tensor
    column_L: Tensor
    advance_L: Tensor
    image_at: int
    image_length: int

    def text_of(self, x_BLD: Tensor) -> Tensor:
        """What of [B, L, …] is of text tokens, [B, S, …]."""
        return torch.cat((x_BLD[:, : self.image_at], x_BLD[:, self.image_at + self.image_length :]), dim=1)


def sequence(
    text_BSD: Tensor,
    picture_BVPD: Tensor,
    around: tuple[Tensor, Tensor],
    grid: tuple[int, int],
    view_mask_BV: Tensor,
    image_at: int,
    asked_B: Tensor,
    read_B: Tensor,
) -> Sequence:
    """Pictures put into text.

    Args:
        around: embedded tokens [·, D] in front of the tokens of each picture, and behind them.
        grid: rows and columns of a picture's tokens, which come row by row.
        image_at: how many text tokens stand in front of the pictures.
        asked_B: how many text tokens of a row are its question.
        read_B: how many are there.
    """
    batch, views, tokens, width = picture_BVPD.shape
    device = text_BSD.device
    begin_D, end_D = (part.to(text_BSD.dtype).expand(batch, views, -1, -1) for part in around)
    view_BVXD = torch.cat((begin_D, picture_BVPD.to(text_BSD.dtype), end_D), dim=2)
    each, length = view_BVXD.shape[2], views * view_BVXD.shape[2]
    image_BXD = view_BVXD.flatten(1, 2)
    x_BLD = torch.cat((text_BSD[:, :image_at], image_BXD, text_BSD[:, image_at:]), dim=1)

    def put(of_text: Tensor, of_image: Tensor) -> Tensor:
        return torch.cat((of_text[..., :image_at], of_image, of_text[..., image_at:]), dim=-1)

    at_S = torch.arange(text_BSD.shape[1], device=device)
    seen_BX = view_mask_BV.repeat_interleave(each, dim=1)
    place_X = torch.arange(each, device=device) - begin_D.shape[2]
    is_picture_X = (place_X >= 0) & (place_X < tokens)
    place_X = torch.where(is_picture_X, place_X, 0)
    last = begin_D.shape[2] + tokens - 1
    advance_X = (~is_picture_X).long()
    advance_X[last] = max(grid)
    nothing_S = torch.zeros_like(at_S)
    return Sequence(
        x_BLD,
        present_BL=put(at_S < read_B[:, None], seen_BX),
        asked_BL=put(at_S < asked_B[:, None], seen_BX),
        picture_L=put(nothing_S.bool(), is_picture_X.repeat(views)),
        row_L=put(nothing_S, (place_X // grid[1]).repeat(views)),
        column_L=put(nothing_S, (place_X % grid[1]).repeat(views)),
        advance_L=put(torch.ones_like(at_S), advance_X.repeat(views)),
        image_at=image_at,
        image_length=length,
    )


def positions(tokens: Sequence) -> Tensor:
    """Of each token how many are there in front of it, [B, L]."""
    return _before(tokens.present_BL.long())


def positions_3d(tokens: Sequence) -> Tensor:
    """Time, row and column [3, B, L] of each token: M-RoPE of Qwen2-VL (Wang et al. 2024, §2.1).

    Of text all three are its position. Tokens of a picture share that of its beginning, to which row and
    column come; text goes on behind the longer side.
    """
    base_BL = _before(tokens.present_BL * tokens.advance_L)
    return torch.stack((base_BL, base_BL + tokens.row_L, base_BL + tokens.column_L))


def _before(step_BL: Tensor) -> Tensor:
    return step_BL.cumsum(dim=1) - step_BL


def allowed(tokens: Sequence, is_prefix: bool) -> Tensor:
    """Which keys a query may attend to, [B, 1, L, L]; with `is_prefix` the question sees all of itself."""
    length = tokens.present_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=tokens.present_BL.device).tril()
    itself_LL = torch.eye(length, dtype=torch.bool, device=causal_LL.device)
    reach_BLL = causal_LL.expand(len(tokens.present_BL), -1, -1)
    if is_prefix:
        reach_BLL = reach_BLL | (tokens.asked_BL[:, :, None] & tokens.asked_BL[:, None, :])
    return ((reach_BLL & tokens.present_BL[:, None, :]) | itself_LL)[:, None]


def within(allowed_B1LL: Tensor, position_BL: Tensor, window: int) -> Tensor:
    """The same where no query sees further back than `window` tokens, itself among them."""
    back_BLL = position_BL[:, :, None] - position_BL[:, None, :]
    itself_LL = torch.eye(back_BLL.shape[1], dtype=torch.bool, device=back_BLL.device)
    return allowed_B1LL & ((back_BLL < window) | itself_LL)[:, None]
