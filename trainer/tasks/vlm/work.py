"""What rows of pairs compute."""

from __future__ import annotations

from collections.abc import Sequence

from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.decoder import DecoderConfig
from robot_foundry.trainer.models.llm import LLMConfig
from robot_foundry.trainer.models.sizes.cost import token_cost
from robot_foundry.trainer.models.sizes.picture_cost import picture_cost
from robot_foundry.trainer.models.vision_language import ANSWER
from robot_foundry.trainer.tasks.llm.work import text_work
from robot_foundry.trainer.tasks.work import Work, learns, passes

VISION, PROJECTOR, DECODER = "backbone.vision.", "backbone.projector.", "backbone.decoder."
EMBEDDING, OUTPUT = "backbone.decoder.embedding.", "output."


def pairs_work(
    backbone: BackboneConfig, image: tuple[int, int], length: int, tied: bool, learning: Sequence[str]
) -> Work:
    """Of rows of `length` tokens, of which those that are learnt alone reach the output.

    `learning` are the names of the parameters that learn.
    """
    decoder = backbone.decoder
    output = 2 * decoder.width * decoder.vocabulary
    token = token_cost(LLMConfig(decoder, tied), length, "fp32").forward_flops - output
    seen = learns(learning, VISION, PROJECTOR)
    moved = seen or learns(learning, DECODER)
    return Work(
        {
            "pictures": picture_work(backbone, image, learning),
            "tokens": token * passes(learns(learning, DECODER), seen),
            ANSWER: output * passes(learns(learning, EMBEDDING if tied else OUTPUT), moved),
        }
    )


def beside_work(decoder: DecoderConfig, length: int, learning: Sequence[str]) -> Work:
    """Of rows of `length` tokens of text that the decoder learns beside."""
    return text_work(LLMConfig(decoder), length, learning, DECODER)


def picture_work(backbone: BackboneConfig, image: tuple[int, int], learning: Sequence[str]) -> float:
    """FLOPs of training that a picture takes before its tokens reach the decoder."""
    merged = backbone.shuffle**2 * backbone.vision.width
    projector = 2 * backbone.tokens_of(image) * merged * backbone.decoder.width
    tower = picture_cost(backbone, image, "fp32").forward_flops - projector
    moves = learns(learning, VISION)
    return tower * passes(moves, False) + projector * passes(learns(learning, PROJECTOR), moves)
