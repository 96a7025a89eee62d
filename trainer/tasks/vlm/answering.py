"""Answers of a trained vision-language model, the likeliest token after token.

Shapes: H × W pixels, C = 3 channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from robot_foundry.loader.pairs.template import Rendered, answer_ends, answer_text, prompt
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.pairs.pair import PLACE, USER, Turn, num_places, with_places
from robot_foundry.shards.pictures.fit import fitted, place
from robot_foundry.trainer.models.answers import answer_ids, prompt_rows
from robot_foundry.trainer.tasks.vlm.trained import Trained

Asked = tuple[Sequence[NDArray[np.uint8]], Sequence[Turn]]


def answers(trained: Trained, asked: Sequence[Asked], *, tokens: int, batch: int = 64) -> list[str]:
    """What the model answers to each conversation, whose pictures are uint8 RGB [H, W, C] of any size.

    Args:
        asked: pictures and turns, the last of them the user's, with a `<image>` where each picture stands;
            where no turn has any, the pictures stand before the first turn of the user, as in data that says
            nothing of their places. Without turns a caption is asked for.
        tokens: of an answer at most.
        batch: how many are answered at a time; no answer depends on it.

    UsageError for turns that end otherwise, or with another number of `<image>` than of pictures.
    """
    rendered = [_rendered(trained, pictures, turns) for pictures, turns in asked]
    texts: list[str] = [""] * len(asked)
    # Prompts of like lengths are answered together, as the shorter ones are padded.
    order = sorted(range(len(asked)), key=lambda i: len(rendered[i]))
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        of_some = _answered(trained, [rendered[i] for i in some], [asked[i][0] for i in some], tokens)
        for i, text in zip(some, of_some, strict=True):
            texts[i] = text
    return texts


def _answered(
    trained: Trained,
    prompts: Sequence[Rendered],
    pictures: Sequence[Sequence[NDArray[np.uint8]]],
    tokens: int,
) -> Iterator[str]:
    rows, tokenizer = trained.config.data.rows, trained.tokenizer
    images = [[fit_picture(image_hwC, rows.image, rows.fit) for image_hwC in some] for some in pictures]
    inputs = prompt_rows(
        [one.ids_N.tolist() for one in prompts], [one.image_starts for one in prompts], images, rows.image
    )
    ids = answer_ids(
        trained.model,
        inputs.to(trained.model.output_weight.device),
        tokens=tokens,
        ends=answer_ends(tokenizer),
        size=tokenizer.size,
    )
    return (answer_text(of_row, tokenizer) for of_row in ids)


def fit_picture(image_hwC: NDArray[np.uint8], size: tuple[int, int], fit: str) -> NDArray[np.uint8]:
    """A picture as the model sees it, [H, W, C]."""
    out_HWC = np.empty((*size, 3), np.uint8)
    place(image_hwC, fitted(image_hwC.shape[:2], size, fit), out_HWC)
    return out_HWC


def _rendered(trained: Trained, pictures: Sequence[NDArray[np.uint8]], turns: Sequence[Turn]) -> Rendered:
    if turns and turns[-1].role != USER:
        raise UsageError("only the user is answered: the last turn is to be the user's")
    image_tokens = trained.config.model.backbone.tokens_of(trained.config.data.rows.image)
    placed = _placed(turns, len(pictures)) if turns else ()
    return prompt(placed, trained.tokenizer, image_tokens, num_pictures=len(pictures))


def _placed(turns: Sequence[Turn], pictures: int) -> Sequence[Turn]:
    """The turns with a place for each picture."""
    places = num_places(turns)
    if places not in (0, pictures):
        raise UsageError(f"there are {pictures} pictures for {places} places of {PLACE}")
    found = turns if places else with_places(turns, pictures)
    assert found is not None  # the last turn is the user's
    return found
