"""The settings of rows of pairs."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.pictures.fit import FITS
from robot_foundry.shards.tokens.byte_tokenizer import ByteTokenizer
from robot_foundry.shards.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class PairRows:
    """What a row is, as a recipe says it.

    A row has the tokens of one pair, or of several, packed: attention does not cross pairs, and positions
    restart with each. A picture stands in it as its image tokens.
    """

    length: int = 1024  # tokens a row; a pair that is longer loses its end
    packed: bool = True  # as many pairs a row as fit; else one
    image: tuple[int, int] = (256, 256)  # height, width of pictures in pixels
    fit: str = "pad"  # how a picture gets this size: pad (grey borders) | crop (its middle) | stretch

    def __post_init__(self) -> None:
        if self.length < 1 or min(self.image) < 1 or self.fit not in FITS:
            size = " x ".join(map(str, self.image))
            raise UsageError(f"there are no rows of {self.length} tokens with pictures of {size}, {self.fit}")


@dataclass(frozen=True)
class PairSpec:
    """The settings of a sample: a row, and what the model's side decides of it."""

    rows: PairRows = field(default_factory=PairRows)
    tokenizer: Tokenizer = field(default_factory=ByteTokenizer)
    image_tokens: int = 64  # a picture

    def __post_init__(self) -> None:
        if not 1 <= self.image_tokens <= self.rows.length:
            raise UsageError(
                f"rows of {self.rows.length} tokens hold no picture of {self.image_tokens}",
                hint="data.rows.length is to be larger",
            )

    @property
    def skipped(self) -> tuple[str, ...]:
        return ()
