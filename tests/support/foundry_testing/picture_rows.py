"""Packed rows of pairs with random ids and pictures, as tensors that a vision-language model takes.

Shapes: B rows, S tokens of a row, N pictures, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from robot_foundry.trainer.models.vision_language import PictureRows


@dataclass(frozen=True)
class PairOf:
    """A pair of so many pictures, tokens of a question, and tokens of an answer, behind which is its end."""

    images: int
    question: int
    answer: int

    def length(self, image_tokens: int) -> int:
        return self.images * image_tokens + self.question + self.answer + 1


def packed(
    rows: Sequence[Sequence[PairOf]],
    image: tuple[int, int],
    image_tokens: int,
    length: int,
    *,
    absent: int = 0,
    vocabulary: int = 97,
) -> PictureRows:
    """Rows of pairs one behind the other, whose numbers are those of their places in `rows`.

    So a pair has the same ids and pictures in whatever row it stands, if it is equal and first met alike.
    """
    shape = len(rows), length
    segment, position, token, target = (torch.zeros(shape, dtype=torch.int64) for _ in range(4))
    learn = torch.zeros(shape, dtype=torch.bool)
    segment -= 1
    images, places = [], []
    for row, pairs in enumerate(rows):
        start = 0
        for number, pair in enumerate(pairs):
            size = pair.length(image_tokens)
            generator = torch.Generator().manual_seed(1000 * pair.images + 100 * pair.question + pair.answer)
            here = slice(start, start + size)
            ids = torch.randint(1, vocabulary, (size + 1,), generator=generator)
            segment[row, here], position[row, here] = number, torch.arange(size)
            token[row, here], target[row, here] = ids[:-1], ids[1:]
            learn[row, start + size - 1 - pair.answer : start + size] = True
            for n in range(pair.images):
                images.append(
                    torch.randint(0, 256, (*image, 3), generator=generator, dtype=torch.int64).byte()
                )
                places.append(row * length + start + n * image_tokens)
            start += size
    present = len(images)
    images += [torch.full((*image, 3), 128, dtype=torch.uint8)] * absent
    mask = torch.arange(len(images)) < present
    return PictureRows(
        token, target, learn, segment, position,
        torch.stack(images) if images else torch.zeros(0, *image, 3, dtype=torch.uint8),
        mask, torch.tensor([*places, *[0] * absent], dtype=torch.int64),
    )  # fmt: skip
