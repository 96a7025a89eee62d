"""What a token costs a language model, in closed form.

Arithmetic. A matrix of p numbers takes 2 p FLOPs a token; scores and weighted values of attention 4 FLOPs
for each key that a query may see and each channel of its heads; the backward pass twice the forward one
(Kaplan et al. 2020, §2.1; Chowdhery et al. 2022, appendix B). All else is left out. A query sees half of a
row on average; packed documents, which do not see each other, and what a kernel computes in vain are ignored.

Memory for the backward pass. In each layer what autograd keeps of `models.layers.attention` with a fused
kernel, as Korthikanti et al. 2022, §4.1 count it for theirs; b is the bytes of a number in the matrices'
precision:
  each of both norms         input and normalised input, 8 D
  inputs of the matrices     bf16: b D for each of query, key, value, gate, up; fp32: 4 D for each norm
  attention                  queries, keys and values for each head, values out: 4 b Q, 4 H for the sums
  gated perceptron           gate, its activation, up, product: 4 b M; quick_gelu 3, gelu 2, relu 1
  norms of queries and keys  8 (Q + K), and values out once more
Outside of the layers the mask of attention, the final norm, and the loss (see `models.layers.cross_entropy`).

Shapes: B rows, S tokens of a row, D width, M hidden width, H heads, Q channels of all queries, K of all keys,
L layers, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.layers.cross_entropy import CHUNK
from robot_foundry.trainer.models.llm import LLMConfig

NUMBER_BYTES = {"fp32": 4, "bf16": 2}
BACKWARD = 2  # times the forward pass
KEPT = {"swiglu": 4, "gelu": 2, "relu": 1, "gelu_tanh": 2, "quick_gelu": 3}  # hidden layers of an MLP


@dataclass(frozen=True)
class TokenCost:
    """Of one token in a row of a given length."""

    forward_flops: float
    training_flops: float
    activation_bytes: float  # kept for the backward pass
    cache_bytes: int  # keys and values, while text is generated


def token_cost(model: LLMConfig, length: int, precision: str) -> TokenCost:
    """What a token of rows of `length` costs, in `precision` fp32 or bf16."""
    decoder, size = model.decoder, NUMBER_BYTES[precision]
    forward = 2 * _matrix_numbers(decoder) + _attention_flops(decoder, (length + 1) / 2)
    layer = _layer_bytes(decoder, size)
    mask = 4 * length + (0 if size == 4 else decoder.depth * size * length)
    return TokenCost(
        forward_flops=forward,
        training_flops=forward * (1 + BACKWARD),
        activation_bytes=decoder.depth * layer + mask + 3 * 4 * decoder.width,
        cache_bytes=2 * decoder.depth * size * decoder.kv_heads * decoder.width_of_head,
    )


def loss_bytes(model: LLMConfig) -> int:
    """What the loss takes beside its tokens: the gradient of the output matrix, and the logits of a chunk."""
    vocabulary = model.decoder.vocabulary
    return 4 * vocabulary * model.decoder.width + 4 * CHUNK * vocabulary


def _channels(decoder: DecoderConfig) -> tuple[int, int]:
    return decoder.heads * decoder.width_of_head, decoder.kv_heads * decoder.width_of_head


def _matrix_numbers(decoder: DecoderConfig) -> int:
    """Numbers of all matrices that each token is multiplied with, the output among them."""
    queries, keys = _channels(decoder)
    mlp = (3 if decoder.mlp == "swiglu" else 2) * decoder.mlp_hidden
    return decoder.width * (decoder.depth * (2 * queries + 2 * keys + mlp) + decoder.vocabulary)


def _attention_flops(decoder: DecoderConfig, keys: float) -> float:
    return 4 * decoder.depth * decoder.heads * decoder.width_of_head * keys


def _layer_bytes(decoder: DecoderConfig, size: int) -> int:
    """Bytes a token that the backward pass of one layer needs."""
    width, hidden, heads = decoder.width, decoder.mlp_hidden, decoder.heads
    queries, keys = _channels(decoder)
    is_gated = decoder.mlp == "swiglu"
    inputs = 2 * 4 * width if size == 4 else (3 + 1 + is_gated) * size * width
    norms = 2 * (8 * width + 4)
    attention = 4 * size * queries + 4 * heads
    if decoder.qk_norm:
        attention += 8 * (queries + keys) + 4 * (heads + decoder.kv_heads) + size * queries
    return norms + inputs + attention + KEPT[decoder.mlp] * size * hidden
