"""What rows of text compute."""

from __future__ import annotations

from collections.abc import Sequence

from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.sizes.cost import token_cost
from robot_foundry.trainer.tasks.work import Work, learns, passes


def text_work(model: LLMConfig, length: int, learning: Sequence[str], decoder: str = "decoder.") -> Work:
    """Of rows of `length` tokens.

    Args:
        learning: the names of the parameters that learn.
        decoder: how those of the decoder begin; the output matrix, where it is another, is `output.`.
    """
    forward = token_cost(model, length, "fp32").forward_flops
    return Work({"tokens": forward * passes(learns(learning, decoder, "output."), carries=False)})
