"""What is learnt beside robots, as a recipe says it, and what must hold between its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from robot_foundry.loader.pairs.spec import PairRows
from robot_foundry.shards.pictures.fit import FITS, PAD
from robot_foundry.trainer.models.backbone import BackboneConfig
from robot_foundry.trainer.models.vla import VLAConfig
from robot_foundry.trainer.recipes.ranges import at_least, choice
from robot_foundry.trainer.tasks.mixtures import MixtureSettings, whole_problems
from robot_foundry.trainer.tasks.vlm.config import TextConfig, share_problems, text_problems

PAIRS_SECTION = "data.pairs"
Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class RowSettings:
    """What a row of pairs is. Its pictures have the size of those of the robots, data.window.image."""

    length: int = 1024  # tokens a row; a pair that is longer loses its end
    packed: bool = True  # as many pairs a row as fit; else one
    fit: str = PAD  # how a picture gets its size: pad (grey borders) | crop (its middle) | stretch


@dataclass(frozen=True)
class PairShare:
    """How much of the pairs is taken beside the robots of a step, and what it weighs."""

    rows: RowSettings = field(default_factory=RowSettings)
    global_batch: int = 16  # rows an optimiser step, over all ranks and microbatches
    weight: float = 1.0  # of the loss of answers; that of actions has 1


@dataclass(frozen=True)
class PairsConfig(PairShare, MixtureSettings):
    """Pairs that are learnt beside robots, if `mix` names any. Their default store is that of the robots."""

    def pair_rows(self, image: Size) -> PairRows:
        """Their rows, with pictures of this size."""
        return PairRows(self.rows.length, self.rows.packed, image, self.rows.fit)


def beside_problems(pairs: PairsConfig, text: TextConfig, model: VLAConfig, accumulate: int) -> Iterator[str]:
    """One line for every value of what is beside robots that is out of range or does not fit another."""
    if pairs.mix is None and pairs != PairsConfig():
        yield f"{PAIRS_SECTION}.mix: is missing; its other keys say how much is taken of it"
    yield from at_least(1, f"{PAIRS_SECTION}.rows", pairs.rows, "length")
    yield from choice(f"{PAIRS_SECTION}.rows.fit", pairs.rows.fit, FITS)
    yield from whole_problems(pairs, "pairs", PAIRS_SECTION)
    yield from share_problems(PAIRS_SECTION, pairs.global_batch, pairs.weight, accumulate)
    yield from text_problems(text, accumulate)
    if model.insulate and pairs.mix is None:
        yield "model.insulate: needs data.pairs: without them nothing would teach the backbone what it sees"
    if model.insulate and model.backbone_grad_scale != 1:
        yield "model.backbone_grad_scale: leave it out, model.insulate lets no gradient of actions through"


def room_problems(pairs: PairsConfig, backbone: object, image: Size | None) -> Iterator[str]:
    """A line where a row of pairs has no room for a picture of our own backbone."""
    if pairs.mix is None or image is None or not isinstance(backbone, BackboneConfig):
        return
    if min(backbone.vision.patch, backbone.shuffle) < 1:
        return
    tokens = backbone.tokens_of(image)
    if tokens > pairs.rows.length:
        room = f"{pairs.rows.length} tokens have no room for the {tokens} of a picture"
        yield f"{PAIRS_SECTION}.rows.length: {room}"
