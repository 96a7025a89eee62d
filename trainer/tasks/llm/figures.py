"""What is said of held-out text beside its loss."""

from __future__ import annotations

import math

from robot_foundry.trainer.evaluate import HeldOutSums
from robot_foundry.trainer.models.llm import LOSS


def text_figures(sums: HeldOutSums) -> dict[str, float]:
    """Bits that a byte of the text takes, and the perplexity of a token."""
    nats = sums.losses[LOSS]
    return {
        "bits_per_byte": nats / math.log(2) / sums.sizes["bytes"],
        "perplexity": perplexity(nats / sums.counts[LOSS]),
    }


def perplexity(nats: float) -> float:
    """Of a token, whose cross entropy is so many nats on average."""
    return math.exp(nats) if nats < 700 else math.inf
