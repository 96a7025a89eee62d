"""nanoGPT's training, restated: the model and the loop of its `model.py` and `train.py` (A. Karpathy, 2022).

Learned positions, blocks of LayerNorm, attention by the fused causal kernel and a GELU perceptron four times
as wide, no biases, no dropout, the output tied to the embedding, all logits at once. Each step takes rows at
random places of a flat file of ids, which documents cross; AdamW with decay of matrices alone, in one fused
kernel; clipping at 1; a rate for each step; every tenth loss is looked at.

Shapes: B rows, S tokens of a row, H heads, E head width, D width, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compared.turns import Loop, Taken, Turn
from robot_foundry.trainer.ranks.numerics import autocast

LOOKED_AT = 10  # steps


@dataclass(frozen=True)
class Shape:
    """Of the model and of a step."""

    width: int
    depth: int
    heads: int
    vocabulary: int
    length: int
    rows: int


class CausalAttention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.all_three = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x_BSD: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.all_three(x_BSD).chunk(3, dim=-1)
        )
        y_BHSE = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y_BHSE.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width, bias=False)
        self.attention = CausalAttention(shape)
        self.mlp_norm = nn.LayerNorm(shape.width, bias=False)
        self.up = nn.Linear(shape.width, 4 * shape.width, bias=False)
        self.down = nn.Linear(4 * shape.width, shape.width, bias=False)

    def forward(self, x_BSD: Tensor) -> Tensor:
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD))
        return x_BSD + self.down(F.gelu(self.up(self.mlp_norm(x_BSD))))


class NanoGPT(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.token = nn.Embedding(shape.vocabulary, shape.width)
        self.position = nn.Embedding(shape.length, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                scale = math.sqrt(2 * shape.depth) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(parameter, std=0.02 / scale)

    def forward(self, token_BS: Tensor, target_BS: Tensor) -> Tensor:
        """The mean cross entropy in nats."""
        place_S = torch.arange(token_BS.shape[1], device=token_BS.device)
        x_BSD = self.token(token_BS) + self.position(place_S)
        for layer in self.layers:
            x_BSD = layer(x_BSD)
        logit_BSV = F.linear(self.norm(x_BSD), self.token.weight)
        return F.cross_entropy(logit_BSV.flatten(0, 1), target_BS.flatten(), ignore_index=-1)


def rows_of(ids: Path, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows at random places, and the tokens behind each; the file is opened anew, as there."""
    id_N = np.memmap(ids, np.uint16, "r")
    starts = torch.randint(len(id_N) - shape.length, (shape.rows,)).tolist()

    def cut(shift: int) -> Tensor:
        rows = (id_N[at + shift : at + shift + shape.length].astype(np.int64) for at in starts)
        return torch.stack([torch.from_numpy(row) for row in rows])

    pairs = cut(0), cut(1)
    if device.type == "cuda":
        return tuple(of.pin_memory().to(device, non_blocking=True) for of in pairs)  # type: ignore[return-value]
    return pairs


def nanogpt_loop(ids: Path, shape: Shape, precision: str, device: torch.device, accumulate: int = 1) -> Loop:
    """Its loop over a file of uint16 ids; a step is of `accumulate` times the rows of the shape."""
    torch.manual_seed(1337)
    model = NanoGPT(shape).to(device)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95), fused=True)
    taken_before = 0
    batch = rows_of(ids, shape, device)

    def step() -> None:
        nonlocal taken_before, batch
        for group in optimizer.param_groups:
            group["lr"] = 6e-4 * 0.5 * (1 + math.cos(math.pi * min(taken_before / 600_000, 1)))
        for _ in range(accumulate):
            with autocast(device, precision):
                loss = model(*batch) / accumulate
            batch = rows_of(ids, shape, device)  # while a GPU computes
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if taken_before % LOOKED_AT == 0:
            loss.item()
        taken_before += 1

    def steps(count: int) -> Turn:
        taken = []
        for _ in range(count):
            begin = Taken.now()
            step()
            taken.append(Taken.now().since(begin))
        return taken

    return steps


def count_parameters(shape: Shape) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in NanoGPT(shape).parameters())
