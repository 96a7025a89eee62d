"""Text that a language model goes on with, token by token, with the keys and values of what came before.

Shapes: B = 1 row, S tokens, K tokens so far, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robot_foundry.runtime.errors import UsageError
from robot_foundry.runtime.keyed import key, uniform
from robot_foundry.trainer.models.layers.attention import KeyValues, attention_bias
from robot_foundry.trainer.models.llm import LLM

PIECE = 512  # tokens of a prompt that are read at a time, so that no mask is its length squared


def generate(
    model: LLM,
    prompt: Sequence[int],
    *,
    tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    end: int | None = None,
    size: int | None = None,
) -> Iterator[int]:
    """Up to `tokens` ids that go on from the prompt; a function of the arguments and the weights alone.

    Args:
        prompt: ids; at least one, such as that which starts a document.
        temperature: by which logits are divided; 0 takes the likeliest id.
        top_p: share of the probability from which ids are drawn, the likeliest first.
        seed: of the draws, each keyed by its place among the generated tokens.
        end: the id that ends the text; it is not given.
        size: ids below it are chosen alone, where a tokenizer has fewer than the model.

    Raises UsageError where an argument is out of range.
    """
    size = model.config.decoder.vocabulary if size is None else size
    _check(model, prompt, temperature, top_p, size)
    return _generated(model, prompt, tokens, temperature, top_p, key("generation", seed), end, size)


def _check(model: LLM, prompt: Sequence[int], temperature: float, top_p: float, size: int) -> None:
    vocabulary = model.config.decoder.vocabulary
    if not len(prompt):
        raise UsageError("the prompt has no tokens: begin with the tokenizer's start")
    if not 0 <= min(prompt) <= max(prompt) < vocabulary:
        raise UsageError(f"the prompt has ids that are none of the model's {vocabulary}")
    if not 0 < size <= vocabulary:
        raise UsageError(f"the tokenizer has {size} ids, the model {vocabulary}")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature must be finite and at least 0, not {temperature}")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p must lie in (0, 1], not {top_p}")


def _generated(
    model: LLM,
    prompt: Sequence[int],
    tokens: int,
    temperature: float,
    top_p: float,
    draws: int,
    end: int | None,
    size: int,
) -> Iterator[int]:
    past = [KeyValues() for _ in range(model.config.decoder.depth)]
    unread = list(prompt)
    for place in range(tokens):
        logit_V = next_logits(model, unread, past)[:size]
        random = float(uniform(draws, np.array([place]))[0])
        chosen = choose(logit_V.double().cpu().numpy(), temperature, top_p, random)
        if chosen == end:
            return
        yield chosen
        unread = [chosen]


@torch.no_grad()
def next_logits(model: LLM, tokens: Sequence[int], past: Sequence[KeyValues]) -> Tensor:
    """Logits [V] of the token behind these, which are then part of the past."""
    device = model.output_weight.device
    token_BS = torch.tensor([tokens], device=device)
    hidden_BSD = torch.empty(0)
    for piece_BS in token_BS.split(PIECE, dim=1):
        start = past[0].length
        position_S = torch.arange(start, start + piece_BS.shape[1], device=device)
        seen_SK = torch.arange(start + piece_BS.shape[1], device=device) <= position_S[:, None]
        bias = None if len(position_S) == 1 else attention_bias(seen_SK)[None, None]
        hidden_BSD = model.decoder.states(piece_BS, position_S[None], bias, past)
    return F.linear(hidden_BSD[0, -1], model.output_weight)


def choose(logit_V: NDArray[np.float64], temperature: float, top_p: float, random: float) -> int:
    """The id at `random` in [0, 1) of the distribution that the likeliest ids make up, `top_p` of all."""
    if temperature == 0:
        return int(logit_V.argmax())
    order_V = np.argsort(-logit_V, kind="stable")
    share_V = np.exp((logit_V[order_V] - logit_V[order_V[0]]) / temperature)
    sum_V = np.cumsum(share_V / share_V.sum())
    kept = int(np.searchsorted(sum_V, top_p * sum_V[-1])) + 1
    drawn = int(np.searchsorted(sum_V[:kept], random * sum_V[kept - 1], side="right"))
    return int(order_V[min(drawn, kept - 1)])
