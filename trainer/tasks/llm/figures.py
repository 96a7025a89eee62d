"""What is said of held-out text beside its loss."""

from __future__ import annotations

import math

from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models.llm import LOSS


def text_figures(sums: HeldOutSums) -> dict[str, float]:
    """Bits that a byte of the text takes, and the perplexity of a token."""
    per_token = sums.losses[LOSS] / sums.counts[LOSS]
    return {"bits_per_byte": bits_per_byte(sums), "perplexity": perplexity(per_token)}


def bits_per_byte(sums: HeldOutSums) -> float:
    """Bits that a byte of the text takes."""
    return sums.losses[LOSS] / math.log(2) / sums.sizes["bytes"]


def perplexity(nats: float) -> float:
    """Of a token, whose cross entropy is so many nats on average."""
    return math.exp(nats) if nats < 700 else math.inf
