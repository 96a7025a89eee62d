"""Answers of a trained vision-language model, the likeliest token after token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robot_foundry.loader.pairs.at_hand import Pictures, batch_of
from robot_foundry.loader.pairs.batch import Row
from robot_foundry.loader.pairs.template import Rendered, answer_ends, answer_text, prompt
from robot_foundry.runtime.errors import UsageError
from robot_foundry.shards.pairs.pair import PLACE, USER, Turn, num_places, with_places
from robot_foundry.trainer.models.answers import answer_ids
from robot_foundry.trainer.models.vision_language import ANSWER
from robot_foundry.trainer.tasks.vlm.inputs import picture_rows
from robot_foundry.trainer.tasks.vlm.trained import Trained

Asked = tuple[Pictures, Sequence[Turn]]


def answers(trained: Trained, asked: Sequence[Asked], *, tokens: int, batch: int = 64) -> list[str]:
    """What the model answers to each conversation, whose pictures are uint8 RGB [H, W, C] of any size.

    Args:
        asked: pictures and turns, the last of them the user's, with a `<image>` where each picture stands;
            where no turn has any, the pictures stand before the first turn of the user, as in data that says
            nothing of their places. Without turns a caption is asked for.
        tokens: of an answer at most.
        batch: how many are answered at a time; no answer depends on it.

    UsageError for turns that end otherwise, or with another number of `<image>` than of pictures, and for a
    model that did not learn to answer.
    """
    check_answers(trained)
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


def prompt_tokens(trained: Trained, asked: Asked) -> int:
    """How many tokens a conversation has, up to where its answer begins."""
    return len(_rendered(trained, *asked))


def check_answers(trained: Trained) -> None:
    """UsageError where the model learnt something else than to answer."""
    objective = trained.config.model.objective
    if objective != ANSWER:
        raise UsageError(f"{trained.folder} learns the objective {objective}, and answers nothing")


def _answered(
    trained: Trained, prompts: Sequence[Rendered], pictures: Sequence[Pictures], tokens: int
) -> Iterator[str]:
    tokenizer = trained.tokenizer
    batch = batch_of([Row([one]) for one in prompts], pictures, trained.settings)
    ids = answer_ids(
        trained.model,
        picture_rows(batch).to(trained.model.output_weight.device),
        tokens=tokens,
        ends=answer_ends(tokenizer),
        size=tokenizer.size,
    )
    return (answer_text(of_row, tokenizer) for of_row in ids)


def _rendered(trained: Trained, pictures: Pictures, turns: Sequence[Turn]) -> Rendered:
    if turns and turns[-1].role != USER:
        raise UsageError("only the user is answered: the last turn is to be the user's")
    placed = _placed(turns, len(pictures)) if turns else ()
    image_tokens = trained.config.image_tokens
    return prompt(placed, trained.tokenizer, image_tokens, num_pictures=len(pictures))


def _placed(turns: Sequence[Turn], pictures: int) -> Sequence[Turn]:
    """The turns with a place for each picture."""
    places = num_places(turns)
    if places not in (0, pictures):
        raise UsageError(f"there are {pictures} pictures for {places} places of {PLACE}")
    found = turns if places else with_places(turns, pictures)
    assert found is not None  # the last turn is the user's
    return found
